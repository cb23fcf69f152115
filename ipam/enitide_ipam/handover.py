"""The release hand-over as pure decisions, for both sides. No address leaves a node while a pod may hold it.

Operator: asks (`reclaim`), moves what was yielded out of `interfaces` (`accept`: only to be written with the
resourceVersion it was read at), then unassigns (`unassign`), then forgets (`released`). Agent: chooses what to yield
(`choose`), and takes back (`may_use_again`) only what the reply to its own write still shows as published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from enitide_api.resources import ENINodeStatus, Interface, Reclaim, ReleasePolicy
from enitide_ipam.model import EniView, Unassign
from enitide_ipam.tide import Levels

SILENT_AFTER_S = 300.0


# --- operator --------------------------------------------------------------------------------------------------------


def excess_since(marks: Levels, provisioned: int, before: float | None, now: float) -> float | None:
    """Since when there is an excess without a break: keep it in the snapshot."""
    raise NotImplementedError


def reclaim(
    marks: Levels,
    provisioned: int,
    policy: ReleasePolicy,
    current: Reclaim | None,
    since: float | None,
    now: float,
) -> Reclaim | None:
    """What status.reclaim should say. Set or raised once the excess has lasted release.delay; lowered or withdrawn
    (None) at once. `provisioned` includes what is yielded but not yet moved; `since` is from `excess_since`.
    """
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Accepted:
    """The status after moving yielded CIDRs to releasing. Write all three in ONE patch that carries the version."""

    interfaces: tuple[Interface, ...]
    releasing: tuple[str, ...]
    reclaim: Reclaim | None
    moved: tuple[str, ...]


def accept(
    status: ENINodeStatus, yielded: Sequence[str], wanted: Reclaim | None, in_use: Collection[str] = ()
) -> Accepted | None:
    """Which yielded CIDRs to move, None for none: published ones, up to `wanted.count` addresses (as just decided by
    `reclaim`), in the agent's order. What is unasked, beyond the count or holds an endpoint's address stays.
    """
    raise NotImplementedError


def unassign(releasing: Iterable[str], enis: Iterable[EniView]) -> tuple[Unassign, ...]:
    """One call per ENI for what stands in the ACCEPTED status.releasing and EC2 still shows."""
    raise NotImplementedError


def still_releasing(
    releasing: Iterable[str], enis: Iterable[EniView], asked_at: float | None, accepted_at: float
) -> tuple[str, ...]:
    """What stays in status.releasing: all that EC2 still shows, and everything until a read asked after
    `accepted_at` (when the move was accepted; the start of this process for what stood there before) has come.
    """
    raise NotImplementedError


def is_silent(status: ENINodeStatus, class_changed_at: float | None, agent_wrote_at: float | None, now: float) -> bool:
    """`AgentSilent`: a reclaim or a changed class unanswered for 5 minutes; any write of the agent is an answer."""
    raise NotImplementedError


# --- agent -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Idle:
    """One CIDR of the pool as the choice sees it: `busy` addresses are held, reserved or cooling."""

    eni_id: str
    cidr: str
    size: int
    busy: int
    first: bool  # of the ENI at card 0, index 0, which never goes as a whole


def choose(units: Iterable[Idle], count: int) -> tuple[str, ...]:
    """CIDRs to yield, together at most `count` addresses: a whole idle ENI, then whole prefixes, then singles."""
    raise NotImplementedError


def may_use_again(cidrs: Iterable[str], reply: ENINodeStatus) -> tuple[str, ...]:
    """Of CIDRs taken out of `yielded`, those that the reply to that very write still shows in interfaces."""
    raise NotImplementedError
