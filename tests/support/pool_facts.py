"""A pool, what is published to it, and the answers that a test expects of it."""

from __future__ import annotations

from enitide_api.resources import (
    Capacity,
    ClassStatus,
    ENINodeStatus,
    Interface,
    Reclaim,
)
from enitide_ipam.pool import Grant, Pool, Refusal
from enitide_ipam.records import PodRef
from enitide_ipam.rows import address_rows

POD = PodRef("default", "web-0", "uid-0")


def pod(number: int) -> PodRef:
    return PodRef("default", f"web-{number}", f"uid-{number}")


def interface(number: int = 0, *, singles: int = 0, prefixes: int = 0, **more) -> Interface:
    facts = {
        "primary": f"10.0.{number}.4",
        "cidr": "10.0.0.0/16",
        "addresses": tuple(f"10.0.{number}.{5 + each}" for each in range(singles)),
        "prefixes": tuple(f"10.0.{number}.{64 + 16 * each}/28" for each in range(prefixes)),
        **more,
    }
    return Interface(id=f"eni-{number}", card=0, index=number, **facts)


def status(*interfaces: Interface, slots: int = 100, used: int = 9, **more) -> ENINodeStatus:
    facts = {
        "instance_id": "i-1",
        "class_": ClassStatus(),
        "capacity": Capacity(slots=slots, used_slots=used),
        **more,
    }
    return ENINodeStatus(interfaces=interfaces, **facts)


def pool_with(*interfaces: Interface, ready: bool = True, **more) -> Pool:
    pool = Pool("i-1")
    pool.apply_status(status(*interfaces, **more), "1", 0.0)
    if ready:
        pool.set_ready([each.id for each in interfaces])
    return pool


def give(pool: Pool, owner: str, who: PodRef = POD, now: float = 0.0) -> str:
    grant = pool.allocate(owner, who, now)
    assert isinstance(grant, Grant), grant
    return grant.allocation.address


def refused(answer: object) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer


def states(pool: Pool) -> dict[str, str]:
    return {row.address: row.state for row in address_rows(pool)}


# --- the hand-over ---


def asked(count: int, *interfaces: Interface) -> ENINodeStatus:
    reclaim = Reclaim(count=count, since="2026-01-01T00:00:00Z") if count else None
    return status(*interfaces, reclaim=reclaim)
