"""The agent's metrics: counted where things happen, or read when Prometheus asks; labels are reasons and states."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from enitide_enidp.core import Core
from enitide_enidp.endpoints.waiting import NAME, TEXT
from enitide_enidp.waits import Waits
from enitide_ipam.rows import address_rows

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 20.0)


class CallMetrics:
    """CNI calls: how long by command, how many by command and CNI code (0: success)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "enitide_cni_seconds",
            "Duration of CNI calls in the agent.",
            ["command"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.calls = Counter(
            "enitide_cni_calls", "CNI calls by command and CNI code.", ["command", "code"], registry=registry
        )


class StateCollector(Collector):
    """What stands in pool, datapath and passes at this moment."""

    def __init__(self, waits: Waits, core: Callable[[], Core | None]) -> None:
        self._waits = waits
        self._core = core

    def describe(self) -> Iterable[Metric]:
        """Every family there can be, without samples."""
        return [make() for make in (_waits, _addresses, _address_wait, _endpoints, _ready, _undone, _drops)]

    def collect(self) -> Iterable[Metric]:
        """One family after the other; nothing of the core before there is one."""
        waits = _waits()
        for reason, count in Tally(wait.reason for wait in self._waits.all()).items():
            waits.add_metric([reason], count)
        yield waits
        core = self._core()
        if core is not None:
            yield from _of_core(core)


def _of_core(core: Core) -> Iterable[Metric]:
    addresses = _addresses()
    for state, count in Tally(row.state for row in address_rows(core.memory.pool)).items():
        addresses.add_metric([state], count)
    yield addresses
    yield from core.endpoints.address_wait.collect()
    endpoints = _endpoints()
    endpoints.add_metric([], len(core.endpoints.live))
    yield endpoints
    ready = _ready()
    ready.add_metric([], len(core.outcome.ready))
    yield ready
    undone = _undone()
    undone.add_metric([], core.undone.total())
    yield undone
    drops = _drops()
    for reason, packets in core.datapath.drops().items():
        drops.add_metric([reason.word], packets)
    yield drops


# --- the families, once: collected with samples, described without ---------------------------------------------------


def _waits() -> GaugeMetricFamily:
    return GaugeMetricFamily("enitide_agent_waits", "What the agent waits for, by reason.", labels=["reason"])


def _addresses() -> GaugeMetricFamily:
    text = "Addresses of this node by state; cooling ones rest after a pod."
    return GaugeMetricFamily("enitide_addresses", text, labels=["state"])


def _address_wait() -> HistogramMetricFamily:
    return HistogramMetricFamily(NAME, TEXT, labels=["outcome"])


def _endpoints() -> GaugeMetricFamily:
    return GaugeMetricFamily("enitide_endpoints", "Wired pods.", labels=[])


def _ready() -> GaugeMetricFamily:
    return GaugeMetricFamily("enitide_interfaces_ready", "ENIs whose device is as wanted.", labels=[])


def _undone() -> CounterMetricFamily:
    text = "What the system configured on our ENIs."
    return CounterMetricFamily("enitide_foreign_configuration_undone", text, labels=[])


def _drops() -> CounterMetricFamily:
    text = "Packets that the datapath dropped, by reason."
    return CounterMetricFamily("enitide_drops", text, labels=["reason"])
