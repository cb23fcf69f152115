"""What the operator counts, for Prometheus. Units are in the names; labels are bounded (verbs, outcomes, reasons).

Counters are counted where things happen. States (nodes, addresses, buckets) are computed when scraped, from the same
facts that decisions rest on, so that a gauge cannot drift away from them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from enitide_operator.ec2.budget import BucketState

_LATENCY_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600)
_PASS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


@dataclass(frozen=True, slots=True)
class FleetState:
    """Sums over all nodes. `waiting`: nodes by reason; addresses are IPv4."""

    nodes: int = 0
    in_deficit: int = 0
    at_capacity: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    provisioned: int = 0
    in_use: int = 0
    cooling: int = 0
    needed: int = 0
    interfaces: int = 0
    pending: int = 0


class Metrics:
    """One registry per process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per series, of no use
        self.registry = CollectorRegistry()
        # the same counts as plain numbers, for tests and the simulator
        self.calls: Tally[tuple[str, str]] = Tally()
        self.writes: Tally[str] = Tally()
        self._ec2_calls = Counter(
            "enitide_ec2_calls", "EC2 calls sent, by verb and outcome (ok or EC2's code)", ["verb", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._ec2_seconds = Histogram(
            "enitide_ec2_call_seconds", "How long EC2 calls took", ["verb"],
            registry=self.registry, buckets=_LATENCY_S,
        )  # fmt: skip
        self._budget_wait = Histogram(
            "enitide_ec2_budget_wait_seconds", "How long calls waited for their turn", ["verb"],
            registry=self.registry, buckets=_LATENCY_S,
        )  # fmt: skip
        self._api_writes = Counter(
            "enitide_api_writes", "Writes to the API server, by kind and outcome", ["kind", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.pass_seconds = Histogram(
            "enitide_pass_seconds", "How long one node's decision took", registry=self.registry, buckets=_PASS_S
        )
        self.publish_seconds = Histogram(
            "enitide_publish_latency_seconds", "From a change of demand or class to the write that met it",
            registry=self.registry, buckets=_LATENCY_S,
        )  # fmt: skip
        self.leader = Gauge("enitide_leader", "1 while this process leads", registry=self.registry)
        self.undone = Counter(
            "enitide_interfaces_undone", "ENIs that were made and deleted again, not attached", registry=self.registry
        )
        self.internal_errors = Counter(
            "enitide_internal_errors", "Bugs met and survived; each is in the log", registry=self.registry
        )
        self.leader.set(0)

    def called(self, verb: str, outcome: str, took_s: float) -> None:
        """One EC2 call was sent and has ended (or was held back: outcome NotLeading)."""
        self.calls[verb, outcome] += 1
        self._ec2_calls.labels(verb, outcome).inc()
        self._ec2_seconds.labels(verb).observe(took_s)

    def waited(self, verb: str, waited_s: float) -> None:
        """One EC2 call got its turn."""
        self._budget_wait.labels(verb).observe(waited_s)

    def wrote(self, kind: str, outcome: str) -> None:
        """One write to the API server."""
        if outcome == "ok":
            self.writes[kind] += 1
        self._api_writes.labels(kind, outcome).inc()

    def watch(self, fleet: Callable[[], FleetState], buckets: Callable[[], Mapping[str, BucketState]]) -> None:
        """Compute states from these when scraped."""
        self.registry.register(_States(fleet, buckets))


class _States(Collector):
    def __init__(self, fleet: Callable[[], FleetState], buckets: Callable[[], Mapping[str, BucketState]]) -> None:
        self._fleet = fleet
        self._buckets = buckets

    def describe(self) -> Iterable[Any]:
        """Nothing can be computed before the loop runs, so the registry is not to ask."""
        return []

    def collect(self) -> Iterator[Any]:
        fleet = self._fleet()
        nodes = {"total": fleet.nodes, "in-deficit": fleet.in_deficit, "at-capacity": fleet.at_capacity}
        yield _family("enitide_nodes", "Nodes with an ENINode, by state", "state", nodes)
        yield _family("enitide_nodes_waiting", "Nodes that wait, by reason", "reason", fleet.waiting)
        addresses = {
            "provisioned": fleet.provisioned,
            "in-use": fleet.in_use,
            "cooling": fleet.cooling,
            "needed": fleet.needed,
        }
        yield _family("enitide_addresses", "IPv4 addresses for pods, by state", "state", addresses)
        interfaces = {"published": fleet.interfaces, "pending": fleet.pending}
        yield _family("enitide_interfaces", "Managed ENIs, by state", "state", interfaces)
        states = self._buckets()
        tokens = {name: state.tokens for name, state in states.items()}
        yield _family("enitide_ec2_budget_tokens", "Calls that may be sent at once", "bucket", tokens)
        rates = {name: state.rate for name, state in states.items()}
        yield _family("enitide_ec2_budget_rate", "Calls per second that flow in now", "bucket", rates)
        waiting = {name: state.waiting for name, state in states.items()}
        yield _family("enitide_ec2_budget_waiting", "Calls that wait for their turn", "bucket", waiting)


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
