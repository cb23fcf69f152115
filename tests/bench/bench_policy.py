"""What policies cost to compute: the shapes of the 2019 benchmark and honest ones beside it. Pure; no kernel.

Times are CPU time of the one thread that computes, which on an idle machine is the time that passes.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from ipaddress import ip_network

from enitide_policy.engine.engine import Engine
from enitide_policy.labels import IdentityLabels
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import L4, TCP, CidrPeer, PodsPeer, Policy, Rule, Tier
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import Operator, Requirement, equals, selector

Row = dict[str, object]
SUBJECT = 303
FIRST, COUNT = 1000, 3000
ALL = 1000
PEER_MS = 2.15
NAMES = (
    "policy_2019_ms_p50",
    "policy_2019_ms_p99",
    "policy_match_all_ms",
    "policy_1000_selectors_ms",
    "policy_1000_selectors_entries",
    "policy_unselected_ms",
    "cidr_distil_ms",
    "cidr_entries",
    "identity_match_ms_p99",
    "identity_event_engine_ms_p99",
    "policy_selector_index_ms",
)


def _policy(index: int, subject: str, side: Direction, rules: list[Rule]) -> Policy:
    ref = ObjectRef("CiliumNetworkPolicy", "default", f"p{index}")
    wanted = selector([Requirement(f"pod:{subject}", Operator.EXISTS)])
    return Policy(ref, Tier.CILIUM, wanted, tuple(rules), frozenset({side}))


def _engine(labels: Callable[[int], dict[str, str]] | None = None) -> Engine:
    """3,000 identities and the subject, 303."""
    engine = Engine()
    engine.identity(SUBJECT, IdentityLabels("default", pod=(("foo", ""),)))
    shared = {"cluster": "default", "serviceaccount": "default", "namespace": "monitoring", "app": "analytics-erneh"}
    for number in range(FIRST, FIRST + COUNT):
        own = labels(number) if labels else {f"foo{number}": "", **shared}
        engine.identity(number, IdentityLabels("monitoring", pod=tuple(sorted(own.items()))))
    engine.commit()
    return engine


def _load(engine: Engine, policies: list[Policy]) -> None:
    for policy in policies:
        engine.policy(policy.ref, (policy,))
    engine.commit()


def _resolve_ms(engine: Engine, rounds: int) -> tuple[list[float], int]:
    """Times of: give an endpoint its rule set, from matching to whole entries, and take it away."""
    times, entries = [], 0
    for _ in range(rounds):
        began = time.thread_time()
        engine.endpoint("e", SUBJECT)
        changes = engine.commit()
        engine.endpoint("e", None)
        engine.commit()
        times.append((time.thread_time() - began) * 1000)
        entries = len(changes.created[0].entries)
    return times, entries


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _pods(*requirements: Requirement) -> tuple[PodsPeer]:
    return (PodsPeer(selector(requirements)),)


def bench_policy() -> list[Row]:
    """The 2019 shape, and the same with a selector that matches every identity."""
    engine = _engine()
    bar = _pods(Requirement("pod:bar", Operator.EXISTS))
    rule = Rule(Direction.INGRESS, Action.ALLOW, 0, bar)
    _load(engine, [_policy(i, "foo", Direction.INGRESS, [rule]) for i in range(ALL)])
    times, _ = _resolve_ms(engine, 400)
    how = "1,000 equal rules (one when shared), 3,000 identities, peers that match none: to whole rule set, CPU time"
    matching = _engine()
    app = Rule(Direction.INGRESS, Action.ALLOW, 0, _pods(equals("pod:app", "analytics-erneh")))
    _load(matching, [_policy(i, "foo", Direction.INGRESS, [app]) for i in range(ALL)])
    all_of_them, entries = _resolve_ms(matching, 60)
    return [
        _row("policy_2019_ms_p50", statistics.median(times), how, PEER_MS),
        _row("policy_2019_ms_p99", _p99(times), how),
        _row("policy_match_all_ms", statistics.median(all_of_them), f"the same, matching all: {entries} entries, p50"),
    ]


def bench_selectors() -> list[Row]:
    """1,000 distinct selectors of 30 identities each (seed 1), ports 80 to 176."""
    chooser = random.Random(1)
    chosen: dict[int, dict[str, str]] = {number: {} for number in range(FIRST, FIRST + COUNT)}
    for i in range(ALL):
        for number in chooser.sample(range(FIRST, FIRST + COUNT), 30):
            chosen[number][f"s{i}"] = ""
    began = time.thread_time()
    engine = _engine(chosen.__getitem__)
    policies = []
    for i in range(ALL):
        peers = _pods(Requirement(f"pod:s{i}", Operator.EXISTS))
        rule = Rule(Direction.INGRESS, Action.ALLOW, 0, peers, (L4(TCP, 80 + i % 97, 80 + i % 97),))
        policies.append(_policy(i, "foo", Direction.INGRESS, [rule]))
    _load(engine, policies)
    index_ms = (time.thread_time() - began) * 1000
    times, entries = _resolve_ms(engine, 40)
    how = "1,000 distinct selectors x 30 of 3,000 identities x 97 ports: subject to whole rule set, p50 of 40, CPU time"
    return [
        _row("policy_1000_selectors_ms", statistics.median(times), how),
        _row("policy_1000_selectors_entries", entries, "entries of that rule set; 28,668 is right", unit="entries"),
        _row("policy_selector_index_ms", index_ms, "the same shape from nothing: labels indexed, selectors resolved"),
    ]


def _cidr_rule(i: int) -> Rule:
    """The i-th rule of the CIDR shape."""
    first, length = (10, 192, 244)[i % 3], (8, 16, 24, 28, 32)[i % 5]
    octets = {
        8: (0, 0, 0),
        16: (i % 17, 0, 0),
        24: (i % 17, i % 121, 0),
        28: (i % 17, i % 121, i % 16 * 16),
        32: (i % 17, i % 121, i % 255),
    }[length]
    network = ip_network(f"{first}.{'.'.join(map(str, octets))}/{length}")
    port = 80 + i % 97
    return Rule(Direction.EGRESS, Action.ALLOW, 0, (CidrPeer(network, outside=True),), (L4(TCP, port, port),))


def bench_cidrs() -> list[Row]:
    """1,000 rules of one range and one port; and 20,000 such rules of which none selects the endpoint."""
    engine = _engine()
    _load(engine, [_policy(i, "foo", Direction.EGRESS, [_cidr_rule(i)]) for i in range(1, ALL + 1)])
    times, entries = _resolve_ms(engine, 20)
    unselected = _engine()
    _load(unselected, [_policy(i, f"other{i}", Direction.EGRESS, [_cidr_rule(i % ALL + 1)]) for i in range(20_000)])
    none, _ = _resolve_ms(unselected, 400)
    how = "1,000 rules over 654 nested ranges, one port each: subject to whole rule set, p50 of 20, CPU time"
    counted = "entries of that rule set and 1 for its open ingress, which is a flag here; 44,596 is right"
    return [
        _row("cidr_distil_ms", statistics.median(times), how),
        _row("cidr_entries", entries + 1, counted, unit="entries"),
        _row("policy_unselected_ms", statistics.median(none), "20,000 rules for other subjects: p50 of 400, CPU time"),
    ]


def bench_identity_event() -> list[Row]:
    """10,000 selectors, 100 endpoints of 100 policies, 1 in 10 affected by each identity."""
    engine = Engine()
    for i in range(100):
        engine.identity(300 + i, IdentityLabels("default", pod=((f"e{i}", ""),)))
        engine.endpoint(f"e{i}", 300 + i)
        peers = [Requirement(f"pod:s{i * 100 + j}", Operator.EXISTS) for j in range(99)]
        tens = Requirement("pod:ten", Operator.IN, (str(i % 10),))
        rules = [Rule(Direction.INGRESS, Action.ALLOW, j, _pods(one)) for j, one in enumerate([*peers, tens])]
        policy = _policy(i, f"e{i}", Direction.INGRESS, rules)
        engine.policy(policy.ref, (policy,))
    engine.commit()
    times, matching = [], []
    for number in range(10_000, 11_000):
        labels = IdentityLabels("default", pod=(("app", str(number)), ("ten", str(number % 10))))
        began = time.thread_time()
        engine.peers.matching({"pod:app": str(number), "pod:ten": str(number % 10)})
        matching.append((time.thread_time() - began) * 1000)
        engine.identity(number, labels)
        changes = engine.commit()
        times.append((time.thread_time() - began) * 1000)
        assert len(changes.early) == 10
    how = "10,000 selectors, 100 endpoints, a policy each, 10 of them changed: event to deltas, p99 of 1,000, CPU time"
    return [
        _row("identity_match_ms_p99", _p99(matching), "the matching of that alone"),
        _row("identity_event_engine_ms_p99", _p99(times), how),
    ]


def _row(name: str, value: float, method: str, peer: float | None = None, unit: str = "ms") -> Row:
    return {"name": name, "value": value, "unit": unit, "peer": peer, "method": method}


bench_policy.names = NAMES[:3]  # type: ignore[attr-defined]
bench_selectors.names = (*NAMES[3:5], NAMES[10])  # type: ignore[attr-defined]
bench_cidrs.names = NAMES[5:8]  # type: ignore[attr-defined]
bench_identity_event.names = NAMES[8:10]  # type: ignore[attr-defined]
