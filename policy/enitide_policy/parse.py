"""Any policy object into the model: which language reads it, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from enitide_api.reasons import Reason
from enitide_policy.languages import cilium, clusternetworkpolicy, networkpolicy
from enitide_policy.languages.reading import Closed, Place
from enitide_policy.model import Policy, Tier
from enitide_policy.problems import ObjectRef, Problem

_TIERED = "policy.networking.k8s.io"
VERSIONS = {
    "NetworkPolicy": ("networking.k8s.io/v1",),
    "ClusterNetworkPolicy": (f"{_TIERED}/v1alpha2", f"{_TIERED}/v1beta1"),
    "AdminNetworkPolicy": (f"{_TIERED}/v1alpha1",),
    "BaselineAdminNetworkPolicy": (f"{_TIERED}/v1alpha1",),
    "CiliumNetworkPolicy": ("cilium.io/v2",),
    "CiliumClusterwideNetworkPolicy": ("cilium.io/v2",),
}
NAMESPACED = frozenset({"NetworkPolicy", "CiliumNetworkPolicy"})
_DIALECTS = {
    "ClusterNetworkPolicy": clusternetworkpolicy.CLUSTER,
    "AdminNetworkPolicy": clusternetworkpolicy.ADMIN,
    "BaselineAdminNetworkPolicy": clusternetworkpolicy.BASELINE,
}

Rank = tuple[Tier, int]  # a tier, and a priority in it
NAMED_CLASHES = 5  # a message stays readable

_GROUPS = {
    kind: frozenset({versions[0].partition("/")[0]} | ({"extensions"} if kind == "NetworkPolicy" else set()))
    for kind, versions in VERSIONS.items()
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one object says. `policies` is empty where it has no subject here."""

    ref: ObjectRef
    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]


def ref_of(obj: Mapping[str, Any]) -> ObjectRef:
    """Kind, namespace (`default` where a namespaced kind has none) and name of a policy object."""
    kind = str(obj.get("kind", ""))
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    namespace = str(metadata.get("namespace") or "default") if kind in NAMESPACED else ""
    return ObjectRef(kind, namespace, str(metadata.get("name") or ""))


def is_policy(obj: Mapping[str, Any]) -> bool:
    """Whether it is of a kind and group that are read. Kinds of the same name in other groups are other languages.

    One that says no version at all is read: better closed than passed over.
    """
    group, slash, _ = str(obj.get("apiVersion") or "").partition("/")
    known = _GROUPS.get(str(obj.get("kind", "")), frozenset[str]())
    return group in known if slash else bool(known and not group)


def parse(obj: Mapping[str, Any], cluster: str = "default", *, host_policy: bool = False) -> Parsed:
    """Read one policy object of a kind in `VERSIONS`. Never raises for what a user wrote.

    `host_policy`: policies of nodes are in force; else they have no subject, which is a problem.
    """
    ref = ref_of(obj)
    found: list[Problem] = []
    place = Place(ref, found=found, cluster=cluster, host_policy=host_policy)
    if obj.get("apiVersion") not in VERSIONS[ref.kind]:
        known = " or ".join(VERSIONS[ref.kind])
        message = f"{obj.get('apiVersion')!r} is not known and was read as {known}: write that"
        place.at("apiVersion").note(Reason.POLICY_INVALID, message)
    if not ref.name:
        place.at("metadata").at("name").note(Reason.POLICY_INVALID, "write a name")
    return Parsed(ref, tuple(_policies(place, obj)), tuple(found))


def _policies(place: Place, obj: Mapping[str, Any]) -> list[Policy]:
    spec = place.at("spec")
    if place.ref.kind == "NetworkPolicy":
        return networkpolicy.read(spec, obj.get("spec"))
    if place.ref.kind in _DIALECTS:
        return clusternetworkpolicy.read(spec, obj.get("spec"), _DIALECTS[place.ref.kind])
    specs = [(spec, obj["spec"])] if obj.get("spec") is not None else []
    with suppress(Closed):
        specs += place.at("specs").items(obj.get("specs"))
    if not specs:
        spec.note(Reason.POLICY_INVALID, "write spec, or a list of them as specs")
    return [policy for part, (at, item) in enumerate(specs) for policy in cilium.read(at, item, part)]


def ranks_of(policies: Iterable[Policy]) -> frozenset[Rank]:
    """Where in the order of their tiers policies stand that must not share it with others."""
    ordered = ("ClusterNetworkPolicy", "AdminNetworkPolicy")
    return frozenset((policy.tier, policy.priority) for policy in policies if policy.ref.kind in ordered)


def clashes(policies: Iterable[Policy]) -> list[Problem]:
    """Policies of one tier with equal priority: which of them decides is undefined in their language.

    Here the name decides, the first in the alphabet being stronger; the problem stands on each of them.
    """
    found: dict[Rank, set[ObjectRef]] = {}
    for policy in policies:
        for rank in ranks_of([policy]):
            found.setdefault(rank, set()).add(policy.ref)
    return [clash(ref, rank, refs) for rank, refs in sorted(found.items()) if len(refs) > 1 for ref in sorted(refs)]


def clash(ref: ObjectRef, rank: Rank, refs: Iterable[ObjectRef]) -> Problem:
    """What is said of one of the policies `refs` that share a rank."""
    others = [str(other) for other in sorted(refs) if other != ref]
    more = f" and {len(others) - NAMED_CLASHES} more" if len(others) > NAMED_CLASHES else ""
    whose = f"{', '.join(others[:NAMED_CLASHES])}{more}"
    message = f"priority {rank[1]} is also that of {whose}: write a number of its own (0-1000); until then names decide"
    return Problem(ref, "spec.priority", Reason.PRIORITY_CLASH, message)
