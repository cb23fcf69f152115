"""The pool as a table: every address, its state, its owner, since when. For the agent's socket and the command line."""

from __future__ import annotations

from dataclasses import dataclass

from enitide_ipam.addresses import text
from enitide_ipam.pool import Pool
from enitide_ipam.records import Held, PodRef


@dataclass(frozen=True, slots=True)
class AddressRow:
    """One address.

    `state`: free, reserved, claimed (ADD under way), in-use, cooling, yielded, not-ready, vanished (held, but no
    longer published). `since`: when it came into a state that is recorded, in the pool's clock.
    """

    address: str
    ipv6: str
    eni_id: str
    state: str
    owner: str
    pod: PodRef
    since: float | None


def address_rows(pool: Pool) -> tuple[AddressRow, ...]:
    """Every published or held address, in numeric order."""
    known = {address: eni.interface.id for address, eni, _ in pool.stock}
    for address, held in pool.ledger.held.items():
        known.setdefault(address, held.eni)
    return tuple(_row(pool, address, known[address]) for address in sorted(known))


def _row(pool: Pool, address: int, eni_id: str) -> AddressRow:
    held = pool.ledger.held.get(address)
    if held is not None:
        return AddressRow(
            held.address, held.ipv6, eni_id, _held_state(pool, address, held), held.owner, held.pod, held.since
        )
    cooling = pool.ledger.cooling.get(address)
    if cooling is not None:
        return AddressRow(text(address), "", eni_id, "cooling", "", PodRef(), cooling)
    if pool.stock.is_closed(address):
        return AddressRow(text(address), "", eni_id, "yielded", "", PodRef(), None)
    eni = pool.stock.eni_of(address)
    state = "free" if eni is not None and eni.ready else "not-ready"
    return AddressRow(text(address), "", eni_id, state, "", PodRef(), None)


def _held_state(pool: Pool, address: int, held: Held) -> str:
    if address not in pool.stock:
        return "vanished"
    if not held.owner:
        return "reserved"
    return "in-use" if held.confirmed else "claimed"
