"""`enitide policy verdict`: one answer for each query, from both directions, both families and every endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from enitide_api.reasons import Reason
from enitide_policy.directory import Directory, Target
from enitide_policy.evaluate import Decision, End, Packet
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import ICMP, ICMPV6, PROTOCOLS
from enitide_policy.problems import ObjectRef, Problem
from enitide_policy.query import FAMILIES, Query
from enitide_policy.world import Backend, Service

_WORDS = {number: word for word, number in FAMILIES.items()}
_STRENGTH = (Reason.ALLOWED_BY_RULE, Reason.SELF_TRAFFIC, Reason.OWN_NODE_TRAFFIC, Reason.ALLOWED_BY_DEFAULT)


class Judge(Protocol):
    """Whoever decides one direction: the engine with the kernel's lookup, or the reference evaluator."""

    def decide(self, side: Direction, subject: End, peer: End, packet: Packet) -> Decision:
        """The verdict of the subject's policies about a new connection with `peer`."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both directions of one connection between two addresses."""

    egress: Decision
    ingress: Decision
    reason: Reason
    families: tuple[tuple[str, Verdict], ...] = ()  # where they differ and the query names none: each of them

    @property
    def allowed(self) -> bool:
        """Request and reply both arrive."""
        return self.egress.allowed and self.ingress.allowed

    def body(self) -> dict[str, Any]:
        """The part of a row that speaks of the verdict."""
        row = {
            "verdict": word(self.allowed),
            "reason": str(self.reason),
            "egress": {"verdict": word(self.egress.allowed), "rule": rule_row(self.egress)},
            "ingress": {"verdict": word(self.ingress.allowed), "rule": rule_row(self.ingress)},
        }
        return row | ({"families": {name: each.body() for name, each in self.families}} if self.families else {})


def word(allowed: bool) -> str:
    """As printed."""
    return "allowed" if allowed else "denied"


def rule_row(decision: Decision) -> dict[str, Any] | None:
    """Which rule decided, in the words of its object; None for the default."""
    if decision.policy is None or decision.rule is None:
        return None
    return {
        "kind": decision.policy.ref.kind,
        "namespace": decision.policy.ref.namespace,
        "name": decision.policy.ref.name,
        "tier": str(decision.policy.tier),
        "direction": decision.rule.direction.name.lower(),
        "index": decision.rule.index,
        "action": {Action.ALLOW: "Allow", Action.DENY: "Deny", Action.PASS: "Pass"}[decision.rule.action],
    }


def connect(judge: Judge, source: End, target: End, packet: Packet) -> Verdict:
    """Ask the sender's egress and the receiver's ingress."""
    egress = judge.decide(Direction.EGRESS, source, target, packet)
    ingress = judge.decide(Direction.INGRESS, target, source, packet)
    denied = next((one.reason for one in (egress, ingress) if not one.allowed), None)
    spoken = min((egress.reason, ingress.reason), key=lambda r: _STRENGTH.index(r) if r in _STRENGTH else 0)
    return Verdict(egress, ingress, denied or spoken)


def _refused(reason: Reason) -> Verdict:
    neither = Decision(False, reason)
    return Verdict(neither, neither, reason)


def answer(judge: Judge, query: Query, directory: Directory) -> tuple[dict[str, Any], list[Problem]]:
    """The row of one query, and what is to be said about the query itself."""
    if query.source.gone or query.target.gone:
        return {"id": query.id, **_refused(Reason.POD_ENDED).body()}, []
    if query.target.service is not None:
        return _service(judge, query, directory)
    verdict, problems = _both_families(judge, query)
    return {"id": query.id, **verdict.body()}, problems


def _both_families(judge: Judge, query: Query) -> tuple[Verdict, list[Problem]]:
    families = query.source.families & query.target.families
    if query.family:
        families &= {query.family}
    if not families:
        return _refused(Reason.FAMILY_MISMATCH), [_family(query, _no_family(query))]
    if not any(e.address for e in (*query.source.ends, *query.target.ends)) and not query.family:
        families = frozenset({4})
    found = {
        family: connect(judge, query.source.end(family), query.target.end(family), _packet(query, family))
        for family in sorted(families)
    }
    first = next(iter(found.values()))
    if len({verdict.allowed for verdict in found.values()}) > 1:
        both = ", ".join(f"{_WORDS[family]} is {word(verdict.allowed)}" for family, verdict in found.items())
        denied = next(verdict for verdict in found.values() if not verdict.allowed)
        named = tuple((_WORDS[family], verdict) for family, verdict in found.items())
        message = f"{both}: the query needs family: IPv4 or family: IPv6"
        return replace(denied, reason=Reason.FAMILY_MISMATCH, families=named), [_family(query, message)]
    return first, []


def _no_family(query: Query) -> str:
    if query.family:
        return f"not both ends have an {_WORDS[query.family]} address: leave family out, or write the other"
    return "the ends have no address family in common: they cannot connect"


def _packet(query: Query, family: int) -> Packet:
    icmp = ICMP if family == 4 else ICMPV6
    return Packet(icmp if query.protocol == "ICMP" else PROTOCOLS[query.protocol], query.port)


def _family(query: Query, message: str) -> Problem:
    return Problem(ObjectRef("query", "", str(query.id)), "family", Reason.FAMILY_MISMATCH, message)


def _service(judge: Judge, query: Query, directory: Directory) -> tuple[dict[str, Any], list[Problem]]:
    """Every ready endpoint is judged; the Service is allowed if all of them are."""
    backends, problems = _backends(query, directory)
    rows, verdicts = [], []
    for backend, port in backends:
        target = Target(str(backend.address), (directory.behind(backend.address),))
        if not query.source.families & target.families:
            continue
        verdict, more = _both_families(judge, replace(query, target=target, port=port))
        verdicts.append(verdict)
        problems += more
        rows.append({"address": str(backend.address), "port": port, **verdict.body()})
    if not verdicts:
        return {"id": query.id, **_refused(Reason.NO_ENDPOINTS).body(), "endpoints": []}, problems
    worst = next((verdict for verdict in verdicts if not verdict.allowed), verdicts[0])
    return {"id": query.id, **worst.body(), "endpoints": rows}, problems


def _backends(query: Query, directory: Directory) -> tuple[list[tuple[Backend, int]], list[Problem]]:
    service = query.target.service
    assert service is not None
    wanted = (query.protocol, query.port)
    name = next((n for n, protocol, number in service.ports if (protocol, number) == wanted), None)
    if name is None or service.alias:
        field, message = _why_none(query, service)
        return [], [Problem(ObjectRef("query", "", str(query.id)), field, Reason.NO_ENDPOINTS, message)]
    family = {query.family} if query.family else {4, 6}
    return [
        (backend, number)
        for backend in directory.world.backends
        if backend.ready
        and (backend.namespace, backend.service) == (service.namespace, service.name)
        and backend.address.version in family
        for port, protocol, number in backend.ports
        if (port, protocol) == (name, query.protocol)
    ], []


def _why_none(query: Query, service: Service) -> tuple[str, str]:
    """Field and message of a query that asks a Service for what it has not."""
    which = f"Service {service.namespace}/{service.name}"
    if service.alias:
        return (
            "to",
            f"{which} is a name of {service.alias}, without endpoints: write the address that is meant",
        )
    if query.protocol == "ICMP":
        return "protocol", f"{which} has ports, and answers no ICMP: write one of its endpoints as to"
    listed = ", ".join(f"{number}/{protocol}" for _, protocol, number in service.ports) or "none"
    return "port", f"{which} has no such port: its ports are {listed}"


def answers(judge: Judge, queries: Iterable[Query], directory: Directory) -> tuple[list[dict[str, Any]], list[Problem]]:
    """All rows in order, and the problems of the queries."""
    rows, problems = [], []
    for query in queries:
        row, found = answer(judge, query, directory)
        rows.append(row)
        problems += found
    return rows, problems
