"""What a lab is asked to be. Pure: text in, checked facts out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from enitide_api.errors import UsageError
from enitide_api.resources import ENIClassSpec
from enitide_ipam.capacity import capacity_of_type
from enitide_ipam.limits import known_types, limits_for

DEFAULT_TYPE = "t3.medium"
MOST_NODES = 32
MOST_PODS = 110  # kubelet's own limit
_TYPE = re.compile(r"(?P<type>[a-z0-9-]+\.[a-z0-9-]+)(:(?P<count>\d+))?")


@dataclass(frozen=True, slots=True)
class LabOptions:
    """`types`: one instance type for each node. `appear_delay_s`: from attached to visible on the node."""

    name: str
    types: tuple[str, ...]
    kubernetes: Literal["embedded", "real"] = "embedded"
    prefix_delegation: bool = False
    appear_delay_s: float = 0.0
    region: str = "us-west-2"


def read_types(asked: Sequence[str], nodes: int | None) -> tuple[str, ...]:
    """One type for each node from `--type m5.large:2 --type m5.xlarge` and `--nodes`; `UsageError` what to write."""
    types: list[str] = []
    for text in asked:
        match = _TYPE.fullmatch(text)
        if match is None:
            raise UsageError(f"--type {text!r}: write TYPE or TYPE:COUNT, such as m5.large:2")
        if limits_for(match["type"]) is None:
            close = get_close_matches(match["type"], known_types(), n=3)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise UsageError(f"--type {text!r}: EC2 has no such instance type{hint}")
        types += [match["type"]] * int(match["count"] or 1)
    wanted = nodes if nodes is not None else max(len(types), 3 if not types else 0)
    if len(types) > wanted:
        raise UsageError(f"--nodes {wanted} is fewer than the {len(types)} nodes that --type asks for")
    types += [DEFAULT_TYPE] * (wanted - len(types))
    if not 1 <= len(types) <= MOST_NODES:
        raise UsageError(f"a lab has 1 to {MOST_NODES} nodes, not {len(types)}")
    return tuple(types)


def max_pods(instance_type: str, *, prefix_delegation: bool) -> int:
    """How many pods kubelet is told to take: what the node can hold, and two more for pods on the host's network."""
    limits = limits_for(instance_type)
    if limits is None:
        return MOST_PODS
    class_ = ENIClassSpec(prefix_delegation=prefix_delegation)
    return min(MOST_PODS, capacity_of_type(limits, class_).room + 2)
