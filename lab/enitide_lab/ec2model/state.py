"""The mutable records of the model's world, and the world itself: indices, ids, clock, visibility, feed.

Every record is reached through an index, so that no verb walks over all ENIs. Transitions that take time (attaching,
detaching, terminating) are entries of one heap and happen when someone next looks (`advance`); nothing runs by
itself. What Describe shows may lag: while `visible_after_s` is positive, each change first keeps the view from before
it. Rules (who may do what) live in the verb modules, never here.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from enitide_lab.ec2model import limits
from enitide_lab.ec2model.addresses import AddressMap, Policy
from enitide_lab.ec2model.addresses6 import AddressMap6
from enitide_lab.ec2model.errors import ModelError, unknown
from enitide_lab.ec2model.types import Attachment, CidrReservation, Event, NetworkInterface

FEED_LENGTH = 200_000


@dataclass(slots=True)
class VpcRecord:
    """A VPC."""

    id: str
    cidrs: list[str]
    ipv6_cidrs: list[str] = field(default_factory=list)


@dataclass(slots=True)
class SubnetRecord:
    """A subnet with its address maps. `by_address`: which ENI holds a single address."""

    id: str
    vpc: VpcRecord
    zone: str
    zone_id: str
    cidr: str
    map: AddressMap
    ipv6_cidr: str | None = None
    map6: AddressMap6 | None = None
    ipv6_association_id: str = ""
    default_for_zone: bool = False
    map_public_ip: bool = False
    assign_ipv6: bool = False
    reservations: dict[str, CidrReservation] = field(default_factory=dict)
    interfaces: dict[str, InterfaceRecord] = field(default_factory=dict)
    by_address: dict[str, InterfaceRecord] = field(default_factory=dict)


@dataclass(slots=True)
class GroupRecord:
    """A security group."""

    id: str
    name: str
    vpc_id: str
    uses: int = 0


@dataclass(slots=True)
class RouteTableRecord:
    """A route table."""

    id: str
    vpc_id: str
    main: bool
    subnets: tuple[str, ...] = ()


@dataclass(slots=True)
class AttachmentRecord:
    """An ENI's attachment."""

    id: str
    instance: InstanceRecord
    card: int
    index: int
    status: str
    delete_on_termination: bool
    attach_time_s: float


@dataclass(slots=True)
class InterfaceRecord:
    """An ENI. `secondaries` and `prefixes` keep the order of assignment."""

    id: str
    subnet: SubnetRecord
    mac: str
    description: str
    groups: tuple[str, ...]
    interface_type: str
    primary: str | None
    secondaries: dict[str, None] = field(default_factory=dict)
    prefixes: dict[str, None] = field(default_factory=dict)
    ipv6: dict[str, None] = field(default_factory=dict)
    ipv6_prefixes: dict[str, None] = field(default_factory=dict)
    source_dest_check: bool = True
    attachment: AttachmentRecord | None = None
    requester_managed: bool = False
    hidden: bool = False
    elastic_ip: str = ""
    past: list[tuple[float, NetworkInterface | None]] = field(default_factory=list)

    @property
    def slots(self) -> int:
        """IPv4 slots in use: the own address, each secondary, each prefix."""
        return (self.primary is not None) + len(self.secondaries) + len(self.prefixes)

    @property
    def slots6(self) -> int:
        """IPv6 slots in use."""
        return len(self.ipv6) + len(self.ipv6_prefixes)


@dataclass(slots=True)
class InstanceRecord:
    """An instance. `devices`: its ENIs by (card, index)."""

    id: str
    type: str
    image_id: str
    subnet: SubnetRecord
    launch_time_s: float
    state: str = "running"
    devices: dict[tuple[int, int], InterfaceRecord] = field(default_factory=dict)


class World:
    """All records and their indices. Verb modules derive from it."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        seed: int = 0,
        choice: Policy = "worst",
        instance_types: Mapping[str, Mapping[str, Any]] | None = None,
        region: str = "us-west-2",
        owner: str = "123456789012",
    ) -> None:
        """`clock` gives seconds; `instance_types` adds or replaces DescribeInstanceTypes documents by name."""
        self.clock = clock
        self.seed = seed
        self.choice = choice
        self.region = region
        self.owner = owner
        self.attach_delay_s = 0.0
        self.detach_delay_s = 0.0
        self.terminate_delay_s = 0.0
        self.visible_after_s = 0.0
        self.terminated_visible_s = 3600.0
        self.extra_types = dict(instance_types or {})
        self._limits: dict[str, limits.TypeLimits] = {}
        self._random = Random(seed)  # noqa: S311 - ids must repeat, not be secret
        self._macs = itertools.count(1)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._moment_s: float | None = None
        self.clear()

    def clear(self) -> None:
        """Forget all records; the feed goes on counting so that readers notice."""
        self.vpcs: dict[str, VpcRecord] = {}
        self.subnets: dict[str, SubnetRecord] = {}
        self.groups: dict[str, GroupRecord] = {}
        self.route_tables: dict[str, RouteTableRecord] = {}
        self.interfaces: dict[str, InterfaceRecord] = {}
        self.by_attachment: dict[str, InterfaceRecord] = {}
        self.instances: dict[str, InstanceRecord] = {}
        self.tags: dict[str, dict[str, str]] = defaultdict(dict)
        self.tokens: dict[str, tuple[float, object, NetworkInterface]] = {}
        self.changing: dict[str, InterfaceRecord] = {}
        self.feed: deque[Event] = getattr(self, "feed", deque(maxlen=FEED_LENGTH))
        self.feed_number = getattr(self, "feed_number", 0)
        self._due.clear()

    # --- time ------------------------------------------------------------------------------------------------

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do `act` once `delay_s` has passed; at once when it is not positive."""
        if delay_s <= 0:
            act()
        else:
            heapq.heappush(self._due, (self.moment_s() + delay_s, next(self._order), act))

    def advance(self) -> None:
        """Let everything happen whose time has come."""
        now = self.clock()
        while self._due and self._due[0][0] <= now:
            due_s, _, act = heapq.heappop(self._due)
            self._moment_s = due_s  # it happened then, although nobody looked
            act()
        self._moment_s = None

    def moment_s(self) -> float:
        """When what happens now happens."""
        return self.clock() if self._moment_s is None else self._moment_s

    def next_due_s(self) -> float | None:
        """When the next transition is due, or None."""
        return self._due[0][0] if self._due else None

    # --- names -----------------------------------------------------------------------------------------------

    def new_id(self, kind: str) -> str:
        """An id such as `eni-0…` with 17 hexadecimal digits."""
        return f"{kind}-{self._random.getrandbits(68):017x}"

    def new_mac(self) -> str:
        """A MAC address that no other ENI has: a bijection of a counter, locally administered."""
        raw = next(self._macs) * 0x9E3779B1 % (1 << 40)
        return "02:" + raw.to_bytes(5, "big").hex(":")

    # --- look-ups --------------------------------------------------------------------------------------------

    def subnet_record(self, subnet_id: str) -> SubnetRecord:
        """The subnet, or InvalidSubnetID.NotFound."""
        record = self.subnets.get(subnet_id)
        if record is None:
            raise unknown("subnet", subnet_id)
        return record

    def interface_record(self, interface_id: str) -> InterfaceRecord:
        """The ENI, or InvalidNetworkInterfaceID.NotFound."""
        record = self.interfaces.get(interface_id)
        if record is None:
            raise unknown("interface", interface_id)
        return record

    def instance_record(self, instance_id: str) -> InstanceRecord:
        """The instance, or InvalidInstanceID.NotFound."""
        record = self.instances.get(instance_id)
        if record is None:
            raise unknown("instance", instance_id)
        return record

    def type_document(self, name: str) -> Mapping[str, Any]:
        """The type's DescribeInstanceTypes document, or InvalidInstanceType."""
        document = self.extra_types.get(name) or limits.documents().get(name)
        if document is None:
            raise unknown("type", name)
        return document

    def limits_of(self, name: str) -> limits.TypeLimits:
        """The type's limits, or InvalidInstanceType."""
        if name not in self._limits:
            self._limits[name] = limits.limits_of(self.type_document(name))
        return self._limits[name]

    def require_groups(self, group_ids: Iterable[str], vpc_id: str) -> tuple[str, ...]:
        """The ids without repeats; InvalidGroup.NotFound, or InvalidParameter for a group of another VPC."""
        found = tuple(dict.fromkeys(group_ids))
        for group_id in found:
            group = self.groups.get(group_id)
            if group is None:
                raise unknown("group", group_id)
            if group.vpc_id != vpc_id:
                words = f"Security group {group_id} and the subnet's VPC {vpc_id} belong to different networks."
                raise ModelError("InvalidParameter", words)
        return found

    def use_groups(self, group_ids: Iterable[str], change: int) -> None:
        """Count uses of groups by ENIs."""
        for group_id in group_ids:
            if group_id in self.groups:
                self.groups[group_id].uses += change

    # --- views -----------------------------------------------------------------------------------------------

    def view(self, record: InterfaceRecord) -> NetworkInterface:
        """The ENI as it is now."""
        attachment = record.attachment
        own = () if record.primary is None else (record.primary,)
        return NetworkInterface(
            id=record.id,
            subnet_id=record.subnet.id,
            vpc_id=record.subnet.vpc.id,
            zone=record.subnet.zone,
            description=record.description,
            mac=record.mac,
            groups=record.groups,
            status="available" if attachment is None else "in-use",
            interface_type=record.interface_type,
            source_dest_check=record.source_dest_check,
            addresses=(*own, *record.secondaries),
            prefixes=tuple(record.prefixes),
            ipv6_addresses=tuple(record.ipv6),
            ipv6_prefixes=tuple(record.ipv6_prefixes),
            attachment=None if attachment is None else _attachment_view(attachment),
            requester_managed=record.requester_managed,
            tags=dict(self.tags.get(record.id, {})),
            elastic_ip=record.elastic_ip,
        )

    def seen(self, record: InterfaceRecord) -> NetworkInterface | None:
        """The ENI as Describe shows it at this moment, or None where it is not (or no longer) shown."""
        if record.hidden:
            return None
        horizon = self.clock() - self.visible_after_s
        for changed_s, before in record.past:
            if changed_s > horizon:
                return before
        record.past.clear()
        self.changing.pop(record.id, None)
        return self.view(record) if record.id in self.interfaces else None

    def keep(self, record: InterfaceRecord, *, new: bool = False) -> None:
        """Call before changing an ENI: while reads lag, they go on showing it as it is now."""
        if self.visible_after_s <= 0:
            return
        horizon = self.clock() - self.visible_after_s
        record.past = [entry for entry in record.past if entry[0] > horizon]
        record.past.append((self.moment_s(), None if new else self.view(record)))
        self.changing[record.id] = record

    # --- feed ------------------------------------------------------------------------------------------------

    def tell(self, kind: str, record: InterfaceRecord | None = None, **extra: Any) -> None:
        """Add an event. With a record, its identity and place are filled in."""
        self.feed_number += 1
        facts: dict[str, Any] = {}
        if record is not None:
            facts = {"interface_id": record.id, "mac": record.mac, "subnet_id": record.subnet.id}
            if record.attachment is not None:
                facts |= {
                    "instance_id": record.attachment.instance.id,
                    "card": record.attachment.card,
                    "index": record.attachment.index,
                }
        self.feed.append(Event(self.feed_number, self.moment_s(), kind, **(facts | extra)))

    def events(self, since: int = 0) -> tuple[list[Event], bool]:
        """Events numbered above `since`, and whether older ones that were asked for are already forgotten."""
        self.advance()
        if not self.feed or since >= self.feed_number:
            return [], since > self.feed_number
        first = self.feed[0].number
        start = max(0, since + 1 - first)
        return list(itertools.islice(self.feed, start, None)), since + 1 < first


def _attachment_view(record: AttachmentRecord) -> Attachment:
    return Attachment(
        id=record.id,
        instance_id=record.instance.id,
        card=record.card,
        index=record.index,
        status=record.status,
        delete_on_termination=record.delete_on_termination,
        attach_time_s=record.attach_time_s,
    )
