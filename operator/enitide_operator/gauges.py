"""States for Prometheus, computed when scraped from what decisions rest on. One table says what there is.

Nothing is labelled by node unless the setting `node_metrics` asks for it: 5,000 nodes are 5,000 series per gauge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from enitide_operator.ec2.budget import BucketState

Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class NodeGauge:
    """One node; addresses are IPv4. `to_give`: addresses that a pod could get at once."""

    name: str
    provisioned: int
    in_use: int
    cooling: int
    needed: int
    to_give: int
    reason: str


@dataclass(frozen=True, slots=True)
class SubnetGauge:
    """One subnet that nodes can use. `free`: addresses after our debits. `whole`, `broken`: /28s, None unknown."""

    id: str
    zone: str
    free: int
    whole: int | None = None
    broken: int | None = None


@dataclass(frozen=True, slots=True)
class FleetState:
    """Sums over all nodes. `waiting`: nodes by reason, `waiting_s`: since when the longest of them waits.

    `candidates`: ENIs with a free slot; `places`: device keys where one more ENI would go. Ages are the oldest one's,
    in seconds, 0 where there is none: of a reading, of an unanswered reclaim, of what is releasing, of an intent.
    """

    nodes: int = 0
    in_deficit: int = 0
    at_capacity: int = 0
    tainted: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    waiting_s: Mapping[str, float] = field(default_factory=dict)
    provisioned: int = 0
    in_use: int = 0
    cooling: int = 0
    needed: int = 0
    interfaces: int = 0
    pending: int = 0
    candidates: int = 0
    places: int = 0
    read_age_s: float = 0.0
    reclaim_age_s: float = 0.0
    releasing_age_s: float = 0.0
    pending_age_s: float = 0.0
    each: tuple[NodeGauge, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """All that gauges are computed from. `leaked`: detached ENIs of this cluster at the last sweep, None before it.

    `directory`: how many identities, numbers, endpoints and batches there are.
    """

    fleet: FleetState = field(default_factory=FleetState)
    buckets: Mapping[str, BucketState] = field(default_factory=dict)
    subnets: tuple[SubnetGauge, ...] = ()
    vpc_age_s: Mapping[str, float] = field(default_factory=dict)
    leaked: int | None = None
    directory: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """One gauge: its name without the prefix, its labels and how its samples are read off."""

    name: str
    text: str
    labels: tuple[str, ...]
    samples: Callable[[Seen], Samples]


def _by_state(pairs: Callable[[FleetState], Mapping[str, float]]) -> Callable[[Seen], Samples]:
    return lambda seen: (((key,), value) for key, value in pairs(seen.fleet).items())


def _one(value: Callable[[FleetState], float]) -> Callable[[Seen], Samples]:
    return lambda seen: [((), value(seen.fleet))]


def _buckets(value: Callable[[BucketState], float]) -> Callable[[Seen], Samples]:
    return lambda seen: (((name,), value(state)) for name, state in seen.buckets.items())


def _subnets(value: Callable[[SubnetGauge], int | None]) -> Callable[[Seen], Samples]:
    return lambda seen: (
        ((subnet.id, subnet.zone), float(number)) for subnet in seen.subnets if (number := value(subnet)) is not None
    )


FAMILIES: tuple[Family, ...] = (
    Family("nodes", "Nodes with an ENINode, by state (tainted: by us, for want of an address)", ("state",), _by_state(
        lambda f: {"total": f.nodes, "in-deficit": f.in_deficit, "at-capacity": f.at_capacity, "tainted": f.tainted}
    )),
    Family("nodes_waiting", "Nodes that wait, by reason", ("reason",), _by_state(lambda f: f.waiting)),
    Family("nodes_waiting_oldest_seconds", "How long the node that waits longest has waited, by reason", ("reason",),
           _by_state(lambda f: f.waiting_s)),
    Family("addresses", "IPv4 addresses for pods of all nodes; needed: what is short of the low tide", ("state",),
           _by_state(lambda f: {"provisioned": f.provisioned, "in-use": f.in_use, "cooling": f.cooling,
                                "needed": f.needed})),
    Family("interfaces", "Managed ENIs: published, or pending (an intent stands)", ("state",),
           _by_state(lambda f: {"published": f.interfaces, "pending": f.pending})),
    Family("interface_candidates", "Published ENIs with a free address slot", (), _one(lambda f: f.candidates)),
    Family("empty_interface_slots", "Device keys where nodes could have one more ENI", (), _one(lambda f: f.places)),
    Family("interfaces_leaked", "Detached ENIs of this cluster at the last sweep; none before it", (),
           lambda seen: [] if seen.leaked is None else [((), float(seen.leaked))]),
    Family("node_read_age_seconds", "Age of the oldest reading of a node's ENIs", (), _one(lambda f: f.read_age_s)),
    Family("vpc_read_age_seconds", "Age of the last good reading of each VPC", ("vpc",),
           lambda seen: (((vpc,), age) for vpc, age in seen.vpc_age_s.items())),
    Family("reclaim_age_seconds", "How long the oldest reclaim stands that its agent has not met", (),
           _one(lambda f: f.reclaim_age_s)),
    Family("releasing_age_seconds", "How long addresses have been about to be unassigned, at most", (),
           _one(lambda f: f.releasing_age_s)),
    Family("pending_age_seconds", "How long the oldest intent of an ENI has stood", (),
           _one(lambda f: f.pending_age_s)),
    Family("subnet_free_addresses", "Free addresses of each subnet, after our own debits", ("subnet", "zone"),
           _subnets(lambda s: s.free)),
    Family("subnet_whole_prefixes", "Whole free /28s of each subnet whose map has been read", ("subnet", "zone"),
           _subnets(lambda s: s.whole)),
    Family("subnet_broken_prefixes", "/28s of each subnet that are neither whole nor full", ("subnet", "zone"),
           _subnets(lambda s: s.broken)),
    Family("directory", "Who is who: identities, numbers taken, endpoints told of, in how many batches",
           ("what",), lambda seen: (((what,), value) for what, value in seen.directory.items())),
    Family("ec2_budget_tokens", "Calls that may be sent at once", ("bucket",), _buckets(lambda b: b.tokens)),
    Family("ec2_budget_rate", "Calls per second that flow in now", ("bucket",), _buckets(lambda b: b.rate)),
    Family("ec2_budget_waiting", "Calls that wait for their turn", ("bucket",), _buckets(lambda b: b.waiting)),
)  # fmt: skip

NODE_FAMILIES: tuple[Family, ...] = (
    Family("node_addresses",
           "Addresses of each node by state; to-give: what pods could get at once (only with node_metrics)",
           ("node", "state"),
           lambda seen: (((n.name, state), float(value)) for n in seen.fleet.each for state, value in (
               ("provisioned", n.provisioned), ("in-use", n.in_use), ("cooling", n.cooling), ("needed", n.needed),
               ("to-give", n.to_give)))),
    Family("node_waiting", "1 for each node that waits, with its reason (only with node_metrics)", ("node", "reason"),
           lambda seen: (((n.name, n.reason), 1.0) for n in seen.fleet.each if n.reason)),
)  # fmt: skip


class Gauges(Collector):
    """Reads `seen()` when Prometheus asks."""

    def __init__(self, seen: Callable[[], Seen], *, per_node: bool = False) -> None:
        self._seen = seen
        self._families = (*FAMILIES, *NODE_FAMILIES) if per_node else FAMILIES

    def describe(self) -> Iterable[Any]:
        """Families without samples: nothing can be computed before the loop runs."""
        return [_family(each, ()) for each in self._families]

    def collect(self) -> Iterator[Any]:
        """Families with their samples now."""
        seen = self._seen()
        for each in self._families:
            yield _family(each, each.samples(seen))


def _family(family: Family, samples: Samples) -> GaugeMetricFamily:
    made = GaugeMetricFamily(f"enitide_operator_{family.name}", family.text, labels=family.labels)
    for labels, value in samples:
        made.add_metric(labels, value)
    return made
