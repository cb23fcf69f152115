"""What the socket shows of policy: endpoints' identities and rule sets, policies read, selectors. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enitide_policy.engine.views import policy_rows, selector_rows
from enitide_policy.labels import IdentityLabels
from enitide_policy.problems import ObjectRef

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
    """Every policy read, in the order of decision: what it is, whom it selects here, and what is wrong with it.

    A policy without a subject here, such as one of nodes, stands at the end with its problems. `resourceVersion`: which
    edit of it this node has read.
    """
    if agent is None:
        return []
    named = {str(found.ref): name for name, found in agent.policies.items()}
    problems = {name: [problem.row() for problem in found.problems] for name, found in agent.policies.items()}
    rows = []
    for row in policy_rows(agent.state.engine):
        name = named[str(ObjectRef(row["kind"], row["namespace"], row["name"]))]
        row["selects"] = row.pop("endpoints")
        rows.append({"policy": name, **row, "problems": problems.pop(name, [])})
    rest = [{"policy": name, "kind": agent.policies[name].ref.kind, "selects": []} for name in sorted(problems)]
    rows += [row | {"problems": problems[str(row["policy"])]} for row in rest]
    versions = {name: found.metadata.resource_version for name, found in agent.policies.items()}
    return [row | {"resourceVersion": versions[row["policy"]]} for row in rows]


def selectors(agent: PolicyAgent | None) -> list[dict[str, Any]]:
    """Every selector and range in use: the identities that it selects, and how many uses it has."""
    return selector_rows(agent.state.engine) if agent is not None else []
