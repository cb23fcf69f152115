"""The node itself as a subject of policy: what its labels select, and when that is enforced.

A node must never lock itself out. So nothing is told before the first whole reading; then, where a policy selects the
node, its connections are tracked for `TRACK_S` while all pass, and only then is it enforced: TCP that was there before
is read from the node's sockets with the end that began it, and whatever else speaks meanwhile is heard. An earlier
process that enforced has done that already. Rules that find no room close a pod, but open the node. It does no waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from enitide_enidp.datapath.types import EndpointPolicy
from enitide_policy.engine.engine import Engine
from enitide_policy.labels import Pairs
from enitide_policy.mapstate import RuleSet
from enitide_policy.numbers import Reserved

HOST = "node"  # its name among the endpoints: no pod's owner, which has a slash
TRACK_S = 10.0  # longer than a resolver waits for an answer (5 s), the longest of what speaks without a connection


class HostKernel(Protocol):
    """The part of `PolicyMaps` that is needed here."""

    def host(self) -> EndpointPolicy | None: ...
    def set_host(self, policy: EndpointPolicy | None) -> None: ...
    def adopt_node_connections(self) -> Any: ...
    @property
    def closed(self) -> frozenset[int]: ...


class Host:
    """`set_labels` when they are known or change; `settle` whenever the engine has been asked, and at `due_at`.

    Not `enabled`: no policy holds for the node, whoever selects it. `audit`: what would be dropped passes and is told.
    """

    def __init__(
        self, engine: Engine, kernel: HostKernel, clock: Callable[[], float], *, enabled: bool, audit: bool
    ) -> None:
        self.enabled = enabled
        self.told: EndpointPolicy | None = None
        self._engine = engine
        self._kernel = kernel
        self._clock = clock
        self._audit = audit
        self._labels: Pairs | None = None
        self._unsure = True  # whether the kernel has what was told
        self._enforce_at: float | None = None  # None: nothing selects the node

    def set_labels(self, labels: Pairs) -> None:
        """Of the Node object. One that is gone says nothing: what it said last stays."""
        if self.enabled and labels != self._labels:
            self._labels = labels
            self._engine.host(HOST, Reserved.HOST, labels)

    @property
    def due_at(self) -> float | None:
        """When enforcement begins, if it has not."""
        waits = self._enforce_at is not None and self._clock() < self._enforce_at
        return self._enforce_at if waits else None

    @property
    def why_not(self) -> str:
        """Why what selects the node is not enforced yet, as a sentence; '' if it is, or if nothing does."""
        if self.enabled and self._labels is None:
            return "the API server has no Node of this name: what held for the node before stays"
        if self.told is None or self.told.enforce:
            return ""
        if self.told.ruleset in self._kernel.closed:
            return "the policy of the node does not fit into the kernel's map: the node stays open"
        return f"its connections are tracked for {TRACK_S:g} s before policy holds for the node"

    def begin(self) -> None:
        """Before the first whole writing, and after a failed one: what the kernel enforces is enforced on."""
        self.told, self._unsure = self._kernel.host(), True
        self._enforce_at = self._clock() if self.told is not None and self.told.enforce else None

    def rule_set(self) -> RuleSet | None:
        """Of the node, right after a commit."""
        return self._engine.rule_set_of(HOST)

    def settle(self) -> bool:
        """Tell the kernel what holds now; whether that was news. Nothing while nobody has said who this node is."""
        if self.enabled and self._labels is None:
            return False
        wanted = self._wanted()
        if wanted == self.told and not self._unsure:
            return False
        self._kernel.set_host(wanted)
        if wanted is not None and not wanted.enforce:
            self._kernel.adopt_node_connections()  # new ones are tracked from here on: none falls between
        self.told, self._unsure = wanted, False
        return True

    def _wanted(self) -> EndpointPolicy | None:
        rules = self.rule_set()
        if rules is None or not self._engine.is_selected(Reserved.HOST):
            self._enforce_at = None
            return None
        now = self._clock()
        if self._enforce_at is None:
            self._enforce_at = now + TRACK_S
        enforce = now >= self._enforce_at and rules.id not in self._kernel.closed
        return EndpointPolicy(rules.id, Reserved.HOST, enforce=enforce, audit=self._audit)
