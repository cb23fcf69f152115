"""One node as its actor holds it: the freshest resource, what is under way, and the snapshot for decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from enitide_api.reasons import Reason
from enitide_api.resources import EndpointRecord, ENINode, ENINodeStatus
from enitide_ipam.handover import still_releasing
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import Action, CreateInterface, NodeSnapshot, Unassign
from enitide_operator.book import Ticket
from enitide_operator.classes import Governing
from enitide_operator.context import Context
from enitide_operator.trouble import Troubles


@dataclass(frozen=True, slots=True)
class Summary:
    """What metrics say of one node after its last pass. Addresses are IPv4.

    `to_give`: addresses that pods could get at once, below 0 by the pods that wait for one. `candidates`: ENIs with a
    free slot; `places`: where one more ENI would go.
    """

    provisioned: int = 0
    needed: int = 0
    to_give: int = 0
    candidates: int = 0
    places: int = 0
    at_capacity: bool = False
    wait: Reason | None = None


@dataclass(slots=True)
class NodeState:
    """Times are Unix seconds.

    `enis_asked_at`: when the last complete, non-empty read of its ENIs was sent. `empty_reads`: in a row.
    `ambiguous_since`: when a mutation of an existing ENI ended with unknown outcome. `read_after`: a read is wanted,
    not before this. `ended`: tokens of sagas that are done: the next write drops their intents. `unassigned`: CIDRs
    that EC2 said are gone from the ENI. `removed`: ids of ENIs that are gone: the next write drops them.
    `releasing_accepted_at`: when the last move to `releasing` was accepted.
    `orders`, `tickets`: by token, until its saga has ended. `unmet_since`: a change of demand or class that no
    write has met yet. `lack`: addresses below the low tide when it was last planned. `waiting_since`: since when the
    reason of the summary stands. `had_address`: an address has been published for this node while we looked, or before.
    """

    name: str
    resource: ENINode
    first_seen_at: float
    releasing_accepted_at: float
    enis_asked_at: float | None = None
    empty_reads: int = 0
    instance_missing: bool = False
    ambiguous_since: float | None = None
    read_after: float | None = None
    in_flight: dict[int, Action] = field(default_factory=dict)
    orders: dict[str, CreateInterface] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    unassigned: set[str] = field(default_factory=set)
    excess_since: float | None = None
    idle_since: Mapping[str, float] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    agent_wrote_at: float | None = None
    unmet_since: float | None = None
    lack: int = 0
    troubles: Troubles = field(default_factory=Troubles)
    summary: Summary = field(default_factory=Summary)
    waiting_since: float | None = None
    had_address: bool = False

    def __post_init__(self) -> None:
        self.had_address = self.resource.status.capacity.provisioned > 0

    def summarise(self, summary: Summary, now: float) -> None:
        """What the last pass found."""
        if summary.wait is not self.summary.wait or self.waiting_since is None:
            self.waiting_since = now
        self.summary = summary

    @property
    def instance_id(self) -> str:
        """What the agent says it runs on."""
        return self.resource.spec.instance.id

    @property
    def published(self) -> ENINodeStatus:
        """The status of this very instance.

        Of an earlier one only its intents and removals count: their ENIs must be undone, or gone.
        """
        status = self.resource.status
        if status.instance_id in {"", self.instance_id}:
            return status
        return ENINodeStatus(pending=status.pending, removing=status.removing)

    def is_newer(self, other: ENINode) -> bool:
        """Whether `other` is a later version than ours (of another incarnation, or not to be compared: always)."""
        mine, theirs = self.resource.metadata, other.metadata
        if mine.uid != theirs.uid:
            return True
        if not (mine.resource_version.isdecimal() and theirs.resource_version.isdecimal()):
            return mine.resource_version != theirs.resource_version
        # since Kubernetes 1.35 (KEP-5504) versions of one kind are comparable as numbers
        return int(theirs.resource_version) > int(mine.resource_version)

    def take(self, resource: ENINode, now: float, *, authoritative: bool = False) -> bool:
        """A version from the watch, a write's reply or (`authoritative`) the server. Returns whether it was news."""
        if not (authoritative or self.is_newer(resource)):
            if _is_same_version(self.resource, resource):
                self.resource = resource  # the watch's copy is kept anyway: one in memory is enough
            return False
        before, self.resource = self.resource, resource
        self.ended &= {each.token for each in resource.status.pending}
        self.unassigned &= set(resource.status.releasing)
        self.removed &= set(resource.status.removing)
        if before.spec.instance.id != resource.spec.instance.id:
            self._reset()
        if before.spec != resource.spec:
            self.agent_wrote_at = now
        if before.spec.demand != resource.spec.demand and self.unmet_since is None:
            self.unmet_since = now
        return True

    def _reset(self) -> None:
        """Another instance under the same name: nothing that we know of EC2 is about it."""
        self.enis_asked_at = None
        self.empty_reads = 0
        self.instance_missing = False
        self.ambiguous_since = None
        self.excess_since = None
        self.idle_since = {}
        self.unassigned.clear()
        self.troubles.clear()

    def snapshot(self, ctx: Context, governing: Governing, limits: InstanceLimits | None) -> NodeSnapshot:
        """Everything a decision may rest on, work under way included."""
        published = self.published
        pending = tuple(each for each in published.pending if each.token not in self.ended)
        tokens = {each.token for each in pending} | self.running
        enis = ctx.world.enis_of(self.instance_id, tokens)
        releasing = still_releasing(
            published.releasing,
            enis,
            asked_at=self.enis_asked_at,
            accepted_at=self.releasing_accepted_at,
            unassigned=self.unassigned,
            called=[cidr for each in self.in_flight.values() if isinstance(each, Unassign) for cidr in each.cidrs],
        )
        return NodeSnapshot(
            name=self.name,
            instance=self.resource.spec.instance,
            limits=limits,
            limits_error="" if limits else ctx.discovery.limits_error(self.resource.spec.instance.type),
            class_=governing.spec,
            class_name=governing.name,
            class_generation=governing.generation,
            demand=self.resource.spec.demand,
            bound=ctx.pods.count(self.name),
            enis=enis,
            enis_asked_at=self.enis_asked_at,
            instance_missing=self.instance_missing,
            pending=pending,
            running=frozenset(self.running),
            in_flight=tuple(self.in_flight.values()),
            ambiguous_since=self.ambiguous_since,
            yielded=self.resource.spec.yielded,
            releasing=releasing,
            published=published,
            version=self.resource.metadata.resource_version,
            excess_since=self.excess_since,
            agent_wrote_at=self.agent_wrote_at,
            removing=tuple(each for each in published.removing if each not in self.removed),
            busy=_busy(self.resource.spec.endpoints),
            idle_since=self.idle_since,
        )


def _busy(endpoints: Iterable[EndpointRecord]) -> frozenset[str]:
    """The tide and the hand-over speak of IPv4; a pod's IPv6 address follows its IPv4 address."""
    return frozenset(address for record in endpoints for address in record.addresses if ":" not in address)


def _is_same_version(one: ENINode, other: ENINode) -> bool:
    mine, theirs = one.metadata, other.metadata
    return (mine.uid, mine.resource_version) == (theirs.uid, theirs.resource_version)
