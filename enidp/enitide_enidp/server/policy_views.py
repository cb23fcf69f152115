"""What the socket shows of policy: endpoints' identities and rule sets, policies read, selectors. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enitide_policy.labels import IdentityLabels

if TYPE_CHECKING:
    from enitide_enidp.policy.agent import PolicyAgent
    from enitide_enidp.policy.state import Local

_OFF: dict[str, Any] = {"identity": None, "labels": [], "ruleSet": None, "state": "open", "revision": 0}


def endpoint(agent: PolicyAgent | None, owner: str) -> dict[str, Any]:
    """What policy knows of one endpoint. `revision` counts the kernel writes up to the last that concerned it."""
    local = agent.state.locals.get(owner) if agent is not None else None
    if agent is None or local is None:
        return dict(_OFF)
    labels = agent.state.identities.labels.get(local.identity)
    return {
        "identity": local.identity or None,
        "labels": label_words(labels) if labels is not None else [],
        "ruleSet": local.ruleset or None,
        "state": _state(agent, local),
        "revision": local.revision,
    }


def _state(agent: PolicyAgent, local: Local) -> str:
    if not local.uid:
        return "open"
    if local.told is None:
        return "pending"
    if not local.ruleset or local.ruleset in agent.kernel.closed:
        return "closed"
    return "audit" if local.told.audit else "enforced"


def label_words(labels: IdentityLabels) -> list[str]:
    """The labels of an identity, one word each."""
    words = [f"namespace={labels.namespace}", *(f"{key}={value}" for key, value in labels.pod)]
    words += [f"namespace:{key}={value}" for key, value in labels.namespace_labels]
    words += [f"serviceaccount={labels.service_account}"] if labels.service_account else []
    return words + [f"port:{name}={number}/{protocol}" for name, protocol, number in labels.ports]


def identities(agent: PolicyAgent | None) -> list[dict[str, Any]]:
    """Every identity that this node knows in force."""
    known = agent.state.identities.labels if agent is not None else {}
    return [{"id": number, "labels": label_words(known[number])} for number in sorted(known)]


def policies(agent: PolicyAgent | None) -> list[dict[str, Any]]:
    """Every policy read, what is wrong with it, and which endpoints of this node it selects."""
    if agent is None:
        return []
    engine = agent.state.engine
    return [
        {
            "policy": name,
            "kind": found.ref.kind,
            "selects": sorted(
                owner
                for owner, local in agent.state.locals.items()
                if local.identity in engine.subjects.labels
                and any(policy.subject.matches(engine.subjects.labels[local.identity]) for policy in found.policies)
            ),
            "problems": [problem.row() for problem in found.problems],
        }
        for name, found in sorted(agent.policies.items())
    ]


def selectors(agent: PolicyAgent | None) -> list[dict[str, Any]]:
    """Every selector of a peer: the identities that it selects, and how many uses it has."""
    cache = agent.state.engine.peers.selections if agent is not None else {}
    return [
        {"selector": str(selector), "identities": list(found.snapshot()), "users": sum(found.users.values())}
        for selector, found in sorted(cache.items(), key=lambda item: str(item[0]))
    ]
