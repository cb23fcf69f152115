"""What the operator counts, for Prometheus. Units are in the names; labels are bounded (verbs, outcomes, subnets).

Counters are counted where things happen. States (nodes, addresses, buckets) are computed when scraped (`gauges`), from
the same facts that decisions rest on, so that a gauge cannot drift away from them. `docs/reference/metrics.md` is made
from these very objects.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from enitide_api.errors import EC2_CODES, EC2Throttled
from enitide_operator.gauges import Gauges, Seen

PREFIX = "enitide_operator_"

_LATENCY_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600)
_PASS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_AGE_S = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """One registry per process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per series, of no use
        self.registry = CollectorRegistry()
        # the same counts as plain numbers, for tests and the simulator
        self.calls: Tally[tuple[str, str]] = Tally()
        self.writes: Tally[str] = Tally()
        self._of_ec2()
        self._of_addresses()
        self._of_passes()
        self._of_identities()
        self.leader = Gauge(f"{PREFIX}leader", "1 while this process leads", registry=self.registry)
        self.internal_errors = self._counter("internal_errors", "Bugs met and survived; each is in the log")
        self._conditions = Gauge(
            f"{PREFIX}condition", "The operator's own conditions: 1 true, 0 false", ["type", "reason"],
            registry=self.registry,
        )  # fmt: skip
        self.leader.set(0)

    # --- what there is ---------------------------------------------------------------------------------------------

    def _of_ec2(self) -> None:
        self._ec2_calls = self._counter(
            "ec2_calls", "EC2 calls sent, by verb and outcome (ok or EC2's code)", "verb", "outcome"
        )
        self._ec2_seconds = self._seconds("ec2_call_seconds", "How long EC2 calls took", "verb", "outcome")
        self._throttled = self._counter("ec2_throttled", "EC2 calls that were refused for their rate", "verb")
        self._budget_wait = self._seconds("ec2_budget_wait_seconds", "How long calls waited for their turn", "verb")

    def _of_addresses(self) -> None:
        self._allocated = self._counter(
            "addresses_allocated", "IPv4 addresses for pods that EC2 gave (a /28 is 16), by subnet", "subnet"
        )
        self._released = self._counter("addresses_released", "IPv4 addresses for pods given back to EC2", "subnet")
        self._created = self._counter("interfaces_created", "ENIs made", "subnet")
        self._deleted = self._counter("interfaces_deleted", "ENIs deleted, whatever for", "subnet")
        self.swept = self._counter("interfaces_swept", "Leaked ENIs that were deleted")
        self.undone = self._counter("interfaces_undone", "ENIs that were made and deleted again, not attached")
        self._allocation = self._seconds(
            "allocation_seconds", "From the order of an action that gains addresses to its outcome, waiting for its "
            "turn included; outcome is ok or a reason", "action", "outcome", "subnet",
        )  # fmt: skip
        self._release = self._seconds(
            "release_seconds",
            "From the order of an action that gives addresses or ENIs back to its outcome",
            "action",
            "outcome",
            "subnet",
        )
        self.first_address = self._seconds(
            "first_address_seconds", "From the registration of a node to its first published address", buckets=_AGE_S
        )
        self.publish_seconds = self._seconds(
            "publish_latency_seconds", "From a change of demand or class to the write that met it"
        )

    def _of_passes(self) -> None:
        self.pass_seconds = self._seconds("pass_seconds", "How long one node's decision took", buckets=_PASS_S)
        self.pass_latency = self._seconds(
            "pass_latency_seconds", "From the news that woke a node's actor to its pass", buckets=_PASS_S
        )
        self.folded = self._counter("wakes_folded", "News that came while a pass was due anyway")
        self.node_reads = self._counter(
            "node_reads", "Readings of a node's ENIs, by outcome (ok or a reason)", "outcome"
        )
        self.vpc_reads = self._seconds("vpc_read_seconds", "Readings of a VPC: how long, by outcome", "outcome")
        self._api_writes = self._counter(
            "api_writes", "Writes to the API server, by kind and outcome", "kind", "outcome"
        )
        self.events_lost = self._counter("events_lost", "Events that could not be written, by reason", "reason")

    def _of_identities(self) -> None:
        self.endpoint_seconds = self._seconds(
            "endpoint_publish_seconds", "From a change of a pod's address or identity to the batch that tells of it"
        )
        self.endpoints_doubted = self._counter(
            "endpoints_doubted", "What agents said of pods and addresses that are not theirs; nothing is done with it"
        )
        self.policy_problems = self._counter(
            "policy_problems",
            "Parts of policies that are not valid or not done here, by kind and reason",
            "kind",
            "reason",
        )
        self.foreign_writes = self._counter(
            "foreign_writes", "Identities and batches that somebody else wrote, and that were put right", "kind"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _seconds(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _LATENCY_S) -> Histogram:
        return Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=buckets)

    # --- what happened ---------------------------------------------------------------------------------------------

    def called(self, verb: str, outcome: str, took_s: float) -> None:
        """One EC2 call was sent and has ended (or was held back: outcome NotLeading)."""
        self.calls[verb, outcome] += 1
        self._ec2_calls.labels(verb, outcome).inc()
        self._ec2_seconds.labels(verb, outcome).observe(took_s)
        if EC2_CODES.get(outcome) is EC2Throttled:
            self._throttled.labels(verb).inc()

    def waited(self, verb: str, waited_s: float) -> None:
        """One EC2 call got its turn."""
        self._budget_wait.labels(verb).observe(waited_s)

    def condition(self, kind: str, before: str, reason: str, *, ok: bool) -> None:
        """A condition of the operator is so now; `before`: its last reason."""
        if before and before != reason:
            self._conditions.remove(kind, before)
        self._conditions.labels(kind, reason).set(float(ok))

    def wrote(self, kind: str, outcome: str) -> None:
        """One write to the API server."""
        if outcome == "ok":
            self.writes[kind] += 1
        self._api_writes.labels(kind, outcome).inc()

    def vpc_read(self, outcome: str, took_s: float) -> None:
        """One reading of a VPC. `outcome`: ok, or a reason."""
        self.vpc_reads.labels(outcome).observe(took_s)

    def gained(self, subnet_id: str, addresses: int) -> None:
        """EC2 gave so many addresses for pods: what it granted, not what was asked."""
        self._allocated.labels(subnet_id).inc(addresses)

    def gave_back(self, subnet_id: str, addresses: int) -> None:
        """So many addresses for pods went back."""
        self._released.labels(subnet_id).inc(addresses)

    def made(self, subnet_id: str, addresses: int) -> None:
        """An ENI was made with so many addresses for pods."""
        self._created.labels(subnet_id).inc()
        self.gained(subnet_id, addresses)

    def deleted(self, subnet_id: str, addresses: int) -> None:
        """An ENI was deleted that held so many addresses for pods."""
        self._deleted.labels(subnet_id).inc()
        self.gave_back(subnet_id, addresses)

    def acted(self, action: str, outcome: str, subnet_id: str, took_s: float, *, gives_back: bool) -> None:
        """An action has ended. `outcome`: ok, or a reason."""
        (self._release if gives_back else self._allocation).labels(action, outcome, subnet_id).observe(took_s)

    def watch(self, seen: Callable[[], Seen], *, per_node: bool = False) -> None:
        """Compute states from this when scraped; with `per_node` two families with a label for each node."""
        self.registry.register(Gauges(seen, per_node=per_node))
