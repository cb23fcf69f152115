"""When a node is to carry our taint, and the JSON patch that says so. Pure; `tainting` does it.

A node that has no address to give is kept from new pods that would only wait there, and the scheduler finds another.
With hysteresis, because each change is a write that every scheduler and controller sees: the taint comes only when
nothing could be given for a while, and goes at once when the buffer of the class is there, else when at least one
address has been free for a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enitide_kube.objects import Node

KEY = "enitide.io/no-address"
EFFECT = "NoSchedule"
OURS: Mapping[str, str] = {"key": KEY, "effect": EFFECT}
NOTHING_FOR_S = 10.0  # a burst that is being filled is no shortage
SOMETHING_FOR_S = 30.0

Operations = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TaintView:
    """`tainted`: to carry it now. `look_again_at`: when time alone may change that (Unix seconds), None: never."""

    tainted: bool
    look_again_at: float | None = None


def is_tainted(node: Node | None) -> bool:
    """Whether it carries our taint."""
    taints = (node.spec.taints or ()) if node is not None else ()
    return any(each.key == KEY and each.effect == EFFECT for each in taints)


def decide(*, tainted: bool, to_give: int, buffer: int, since: float, now: float) -> TaintView:
    """`to_give`: addresses that a pod could get at once; `buffer`: the class's preAllocate.

    `since`: since when `to_give` has been above 0, or not, without a break.
    """
    if to_give <= 0:
        due = since + NOTHING_FOR_S
        return TaintView(tainted or now >= due, None if tainted or now >= due else due)
    if not tainted or to_give >= max(1, buffer):
        return TaintView(tainted=False)
    due = since + SOMETHING_FOR_S
    return TaintView(now < due, due if now < due else None)


def operations(node: Mapping[str, Any], *, tainted: bool) -> Operations:
    """The JSON patch that adds or takes away our taint and no other; empty where nothing is to be done.

    `node` as the API server gave it. The patch tests the very list it was made from, so that a taint which somebody
    else adds or removes meanwhile is not undone; a Node without a list is tested by its version.
    """
    listed = node.get("spec", {}).get("taints")
    before: Sequence[Mapping[str, Any]] = listed or ()
    kept = [dict(each) for each in before if not _is_ours(each)]
    carried = len(kept) < len(before)
    if carried == tainted:
        return []
    after = [*map(dict, before), dict(OURS)] if tainted else kept
    if listed is None:
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": node["metadata"]["resourceVersion"]}
        return [version, {"op": "add", "path": "/spec/taints", "value": after}]
    test = {"op": "test", "path": "/spec/taints", "value": [dict(each) for each in before]}
    if not after:
        return [test, {"op": "remove", "path": "/spec/taints"}]
    return [test, {"op": "replace", "path": "/spec/taints", "value": after}]


def _is_ours(taint: Mapping[str, Any]) -> bool:
    return taint.get("key") == KEY and taint.get("effect") == EFFECT
