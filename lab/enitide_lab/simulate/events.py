"""What can happen in a scenario, one frozen class each. Nodes are named singly here: groups are spelled out.

Every event but `Settle` and `Advance` takes no time: all that stand between two of those are seen together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from enitide_lab.simulate.located import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class Event:
    """`place`: where it stands in the file."""

    place: Place = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce(Event):
    """The nodes' agents start and publish their ENINodes."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(Event):
    """Run until nothing is to be done any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(Event):
    """Run for so long."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Use(Event):
    """What the agents report from now on, in absolute numbers."""

    nodes: tuple[str, ...]
    in_use: int = 0
    cooling: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods(Event):
    """The pods bound to each node, in absolute numbers: without an address, with one, in the host's network."""

    nodes: tuple[str, ...]
    pending: int = 0
    holding: int = 0
    host_network: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAgent(Event):
    """How the agents behave. None leaves as it is; `yielded` empty and `as_it_would`: as they really would."""

    nodes: tuple[str, ...]
    silent: bool | None = None
    yielded: tuple[str, ...] | None = None
    as_it_would: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetClass(Event):
    """`patch` is merged into the class's spec."""

    name: str
    patch: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSubnet(Event):
    """What is left in a subnet from now on; None for as it is."""

    subnet: str
    free: int | None = None
    whole_prefixes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2Fault(Event):
    """What EC2 does to calls of `verb` from now on. `nodes` empty: to all."""

    verb: str
    code: str = ""
    times: int | None = None
    for_s: float | None = None
    every: int | None = None
    delay_s: float = 0.0
    nodes: tuple[str, ...] = ()
    empty: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeFault(Event):
    """What the API server does to writes of a kind from now on."""

    kind: str
    code: int = 0
    times: int | None = None
    for_s: float | None = None
    delay_s: float = 0.0
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EndWatches(Event):
    """The watches of a kind end now; `gone`: with 410, their versions forgotten."""

    kind: str
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminate(Event):
    """The instances go away."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand(Event):
    """Someone changes EC2 by hand: how many addresses (or which CIDRs) go or come, which ENI is detached."""

    nodes: tuple[str, ...] = ()
    unassign: int = 0
    unassign_named: tuple[str, ...] = ()
    assign: int = 0
    assign_named: tuple[str, ...] = ()
    detach: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(Event):
    """The operator is stopped and started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Event):
    """The operator dies when EC2 has done the nth such call from now on, before it hears of it."""

    after: str
    nth: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Event):
    """Note everything under a name."""

    name: str
