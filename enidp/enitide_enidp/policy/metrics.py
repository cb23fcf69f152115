"""What the agent exports of policy, read when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from enitide_enidp.policy.agent import PolicyAgent


class PolicyCollector(Collector):
    """Nothing of it while policy is off."""

    def __init__(self, policy: Callable[[], PolicyAgent | None]) -> None:
        self._policy = policy

    def describe(self) -> Iterable[Metric]:
        """Every family, without samples."""
        return [_known(), _pending(), _closed(), _failures(), _refused()]

    def collect(self) -> Iterable[Metric]:
        """As things stand."""
        agent = self._policy()
        if agent is None:
            return
        state = agent.state
        known = _known()
        for what, number in (
            ("identities", len(state.identities.labels)),
            ("addresses", len(state.remote)),
            ("policies", len(agent.policies)),
            ("selectors", len(state.engine.peers.selections)),
        ):
            known.add_metric([what], number)
        yield known
        values = (
            (_pending(), sum(bool(local.uid) and local.told is None for local in state.locals.values())),
            (_closed(), len(agent.kernel.closed)),
            (_failures(), agent.failures),
            (_refused(), state.identities.refused),
        )
        for family, value in values:
            family.add_metric([], value)
            yield family


def _known() -> GaugeMetricFamily:
    text = "What this node knows of policy: identities, addresses, policies, selectors."
    return GaugeMetricFamily("enitide_policy_known", text, labels=["what"])


def _pending() -> GaugeMetricFamily:
    return GaugeMetricFamily("enitide_policy_endpoints_pending", "Pods here whose identity is not known.", labels=[])


def _closed() -> GaugeMetricFamily:
    text = "Rule sets that found no room in the kernel: their pods are closed."
    return GaugeMetricFamily("enitide_policy_rulesets_closed", text, labels=[])


def _failures() -> CounterMetricFamily:
    return CounterMetricFamily("enitide_policy_write_failures", "Failed writes of policy to the kernel.", labels=[])


def _refused() -> CounterMetricFamily:
    text = "SecurityIdentities that no operator wrote, or that claim another's number."
    return CounterMetricFamily("enitide_policy_identities_refused", text, labels=[])
