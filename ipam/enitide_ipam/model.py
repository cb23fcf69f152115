"""The facts a plan is made from and the actions it may order: frozen data only.

Nothing here decides. A snapshot holds everything a decision may rest on, pending and running work included, so that
two passes over the same snapshot order the same thing and never the same thing twice. Times are Unix seconds (UTC).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from enitide_api.iam import CLUSTER_TAG
from enitide_api.reasons import Reason
from enitide_api.resources import Demand, ENIClassSpec, ENINodeStatus, InstanceFacts, PendingInterface
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.limits import InstanceLimits

if TYPE_CHECKING:
    from enitide_ipam.blocks import BlockMap
    from enitide_ipam.elastic import ElasticChoice

TAG_CLUSTER = CLUSTER_TAG  # value: cluster name; only ENIs with our own are ever detached or deleted
TAG_NODE = "enitide.io/node"  # value: node name
TAG_INSTANCE = "enitide.io/instance"  # value: instance id
TAG_TOKEN = "enitide.io/token"  # noqa: S105  # value: the intent's client token, by which a saga finds its ENI


class Attachment(StrEnum):
    """EC2's attachment state of an ENI; `DETACHED` where EC2 reports none."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    DETACHED = "detached"


# --- what EC2 shows ------------------------------------------------------------------------------------------------


def is_foreign(tags: Mapping[str, str], cluster: str) -> bool:
    """Whether an ENI with these tags is another cluster's. Without a name of ours nobody can tell: none is."""
    return bool(cluster) and tags.get(TAG_CLUSTER, cluster) not in {"", cluster}


@dataclass(frozen=True, slots=True)
class EniView:
    """One ENI as EC2 shows it, whoever made it.

    `addresses` excludes the ENI's own `primary` and what its /28 `prefixes` hold; `primary` is empty for an IPv6-only
    ENI. `(card, index)` is its device key on the instance. `asked_at`: when the read or call behind this was sent.
    `elastic_ip`: the one on its own address. `foreign`: it carries another cluster's tag (`is_foreign`).
    """

    id: str
    subnet_id: str = ""
    mac: str = ""
    primary: str = ""
    card: int = 0
    index: int = 0
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    ipv6_prefixes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    instance_id: str = ""
    attachment_id: str = ""
    attachment: Attachment = Attachment.DETACHED
    delete_on_termination: bool = False
    asked_at: float = 0.0
    elastic_ip: str = ""
    foreign: bool = False

    @property
    def token(self) -> str:
        """Client token of the intent it was made for; empty where we did not make it."""
        return self.tags.get(TAG_TOKEN, "")

    @property
    def cidrs(self) -> tuple[str, ...]:
        """What it holds beside its own address."""
        return (*self.addresses, *self.prefixes)

    @property
    def beside_own(self) -> int:
        """Addresses that it holds beside its own one; a /28 is 16."""
        return len(self.addresses) + PREFIX_SIZE * len(self.prefixes)

    @property
    def is_on_instance(self) -> bool:
        """Attached, or about to be: EC2 has accepted it, and its addresses are the instance's.

        Its device may come later. An operator that has just taken over must not take it for missing.
        """
        return self.attachment in (Attachment.ATTACHED, Attachment.ATTACHING)


@dataclass(frozen=True, slots=True)
class SubnetView:
    """One subnet. `free`: addresses left after our local debits. `whole_prefixes`: whole free /28s left, None unknown.

    `blocks`: its /28 map with all that we have taken or ordered by name, where it has been read; whole /28s that are on
    order without a name are subtracted from `whole_prefixes` only. After a refusal the world says 0 for what was
    refused until it reads the subnet again. `gone`: EC2, asked for an ENI there, said that there is no such subnet; it
    stands here until the VPC is read again, since its ENIs are still to be shown. `route_table` is the id of the table
    that governs it, the VPC's main table where none is associated; empty where unknown.
    """

    id: str
    vpc_id: str
    zone: str
    cidr: str
    free: int
    ipv6_cidr: str = ""
    whole_prefixes: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    route_table: str = ""
    blocks: BlockMap | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class ElasticView:
    """One Elastic IP by its allocation id. `associated`: with whatever."""

    id: str
    address: str
    associated: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupView:
    """One security group of the VPC."""

    id: str
    vpc_id: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteTableView:
    """One route table: explicit associations, and whether it is the VPC's main one."""

    id: str
    vpc_id: str
    main: bool = False
    subnet_ids: tuple[str, ...] = ()


# --- the actions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AssignAddresses:
    """AssignPrivateIpAddresses: `count` single addresses, chosen by EC2, or exactly the `names`."""

    eni_id: str
    subnet_id: str
    count: int
    reason: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AssignPrefixes:
    """AssignPrivateIpAddresses: `count` /28 prefixes, chosen by EC2."""

    eni_id: str
    subnet_id: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class AssignIPv6Prefix:
    """AssignIpv6Addresses: one /80."""

    eni_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AssociateElasticIP:
    """AssociateAddress: the Elastic IP with the ENI's own address, never away from another."""

    eni_id: str
    allocation_id: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class CreateInterface:
    """CreateNetworkInterface with its addresses in the same call, to be attached at `(card, index)` afterwards.

    `addresses` are secondary ones; never both those and `prefixes` (/28s) above 0. `names`: its own address and all of
    the secondary ones by name, in this order; empty where EC2 chooses. `ipv6`: ask for one /80.
    `tags` are complete; `token` is the client token and stands in `tags` too.
    """

    token: str
    subnet_id: str
    card: int
    index: int
    groups: tuple[str, ...]
    addresses: int
    prefixes: int
    ipv6: bool
    tags: Mapping[str, str]
    delete_on_termination: bool
    description: str
    reason: str
    names: tuple[str, ...] = ()

    @property
    def gives(self) -> int:
        """Addresses for pods that come with it."""
        return self.addresses + PREFIX_SIZE * self.prefixes


@dataclass(frozen=True, slots=True)
class AttachInterface:
    """AttachNetworkInterface."""

    eni_id: str
    instance_id: str
    card: int
    index: int
    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class SetDeleteOnTermination:
    """ModifyNetworkInterfaceAttribute: delete-on-termination of the attachment."""

    eni_id: str
    attachment_id: str
    value: bool
    reason: str


@dataclass(frozen=True, slots=True)
class DetachInterface:
    """DetachNetworkInterface of an ENI in status.removing; `token` as its tag says."""

    eni_id: str
    attachment_id: str
    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteInterface:
    """DeleteNetworkInterface of a detached ENI that carries our token: part of an undo, or of a removal."""

    eni_id: str
    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class FinishOrUndoPending:
    """An intent stands in status.pending and no saga runs for it: start one (`saga.next_step` decides each step)."""

    intent: PendingInterface
    reason: str


@dataclass(frozen=True, slots=True)
class Unassign:
    """UnassignPrivateIpAddresses: single addresses and /28s of one ENI, all of them in status.releasing."""

    eni_id: str
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...]
    reason: str

    @property
    def cidrs(self) -> tuple[str, ...]:
        """All that it takes away."""
        return (*self.addresses, *self.prefixes)


@dataclass(frozen=True, slots=True)
class Reread:
    """Read this node's ENIs (and those that carry `tokens`) again, not before `not_before`."""

    not_before: float
    reason: str
    tokens: tuple[str, ...] = ()


Action = (
    AssignAddresses
    | AssignPrefixes
    | AssignIPv6Prefix
    | AssociateElasticIP
    | CreateInterface
    | AttachInterface
    | SetDeleteOnTermination
    | DetachInterface
    | DeleteInterface
    | FinishOrUndoPending
    | Unassign
    | Reread
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. Actions are independent of each other: all may run in parallel, in this order of preference.

    `wait`: why what the node still lacks is not covered by `actions` (None: all covered, or nothing lacks).
    `message`: the sentence beside it, naming subnets and groups. `elastic`: what became of the class's wish for an
    Elastic IP, None without one; no address for pods waits for it.
    """

    actions: tuple[Action, ...] = ()
    wait: Reason | None = None
    message: str = ""
    elastic: ElasticChoice | None = None


# --- the node ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """The operator's settings that decide. `nonce`: unique per process (client tokens must never repeat).

    `name_beside_prefixes`: whether EC2 takes an own address by name beside a count of /28s, until it says no.
    """

    cluster_name: str = ""
    nonce: str = ""
    call_timeout_s: float = 15.0
    report_interval_s: float = 30.0
    name_beside_prefixes: bool = True


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """Everything known of one node at one moment.

    `enis`: all ENIs attached to its instance, managed or not, and detached ones that carry a token of `pending`.
    `enis_asked_at`: when the last complete read of them was sent, None before the first. `pending`: intents as in
    status.pending. `running`: tokens with a saga at work. `in_flight`: actions ordered whose outcome is not yet
    merged into `enis` (merging an outcome and dropping its action is one step).
    `ambiguous_since`: a mutation of an existing ENI ended at this time with unknown outcome. `published` is our last
    accepted status, `version` its resourceVersion. `releasing` and `yielded` as in the resource read at `version`.
    `excess_since`: since when provisioned stands above high + slack without a break. `agent_wrote_at`: when the agent
    was last seen to write its spec. `removing`: ids of ENIs that are being detached and deleted. `busy`: IPv4 addresses
    of reported endpoints. `idle_since`: since when an ENI of ours holds nothing for pods, by id. `limits_error`: why
    EC2 has not told limits that the table does not have, as the end of a sentence.
    """

    name: str
    instance: InstanceFacts
    limits: InstanceLimits | None
    class_: ENIClassSpec
    class_name: str = "default"
    class_generation: int = 0
    demand: Demand = field(default_factory=Demand)
    bound: int = 0
    enis: tuple[EniView, ...] = ()
    enis_asked_at: float | None = None
    instance_missing: bool = False
    pending: tuple[PendingInterface, ...] = ()
    running: frozenset[str] = frozenset()
    in_flight: tuple[Action, ...] = ()
    ambiguous_since: float | None = None
    yielded: tuple[str, ...] = ()
    releasing: tuple[str, ...] = ()
    published: ENINodeStatus = field(default_factory=ENINodeStatus)
    version: str = ""
    excess_since: float | None = None
    agent_wrote_at: float | None = None
    removing: tuple[str, ...] = ()
    busy: frozenset[str] = frozenset()
    idle_since: Mapping[str, float] = field(default_factory=dict)
    limits_error: str = ""
