"""A subnet's /28 map from what EC2 shows: all ENIs in the subnet, whoever they belong to, and its CIDR reservations."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from types import MappingProxyType

from enitide_ipam.addresses import PREFIX_SIZE, parse_cidr
from enitide_ipam.blocks import AWS_FIRST, BlockMap, CidrReservation, mark, words
from enitide_ipam.model import TAG_CLUSTER, EniView


def block_map(
    cidr: str,
    enis: Iterable[EniView],
    reservations: Iterable[CidrReservation],
    *,
    cluster: str,
    nodes: Collection[str] = (),
    asked_at: float = 0.0,
) -> BlockMap:
    """The map of a subnet from all ENIs in it. Own: with this cluster's tag, or attached to an instance of `nodes`."""
    blocks = max(1, (1 << 32 - parse_cidr(cidr)[1]) // PREFIX_SIZE)
    empty = BlockMap(cidr, words(blocks), words(blocks), words(blocks), words(blocks))
    clusters: dict[str, int] = {}
    mine: list[EniView] = []
    others: list[EniView] = []
    for eni in enis:
        tag = eni.tags.get(TAG_CLUSTER, "")
        own = (bool(cluster) and tag == cluster) or (bool(eni.instance_id) and eni.instance_id in nodes)
        (mine if own else others).append(eni)
        if tag and not own:
            held = bool(eni.primary) + eni.beside_own
            clusters[tag] = clusters.get(tag, 0) + held
    ours, theirs = empty.taken(*_held_by(mine)), empty.taken(*_held_by(others))
    closed, kept = _reserved(cidr, blocks, reservations)
    return BlockMap(
        cidr=cidr,
        own=ours.own,
        foreign=theirs.own,
        closed=closed,
        kept=kept,
        own_prefixes=ours.own_prefixes,
        foreign_prefixes=theirs.own_prefixes,
        clusters=MappingProxyType(clusters),
        asked_at=asked_at,
    )


def _held_by(enis: Iterable[EniView]) -> tuple[list[str], list[str]]:
    """Single addresses (the ENIs' own included) and /28s."""
    singles: list[str] = []
    prefixes: list[str] = []
    for eni in enis:
        singles += [each for each in (eni.primary, *eni.addresses) if each]
        prefixes += eni.prefixes
    return singles, prefixes


def _reserved(cidr: str, blocks: int, reservations: Iterable[CidrReservation]) -> tuple[array[int], array[int]]:
    """What no single address and no /28 may come from, and what only /28s may."""
    base = parse_cidr(cidr)[0]
    closed, kept = words(blocks), words(blocks)
    for offset in (*range(AWS_FIRST), PREFIX_SIZE * blocks - 1):
        mark(closed, offset)
    for each in reservations:
        first, length = parse_cidr(each.cidr)
        row = kept if each.kind == "prefix" else closed
        for offset in range(first - base, first - base + (1 << 32 - length)):
            if 0 <= offset < PREFIX_SIZE * blocks:
                mark(row, offset)
    return closed, kept
