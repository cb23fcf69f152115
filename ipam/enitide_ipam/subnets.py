"""Which subnet a new ENI goes into: a hard rule, then a preference. Nothing silent: a refusal names the subnets.

Hard rule: the node's VPC and zone; then the class's ids or tags; without those the node's own route table, so that a
private node never gets an ENI in a public subnet. Sorted before any choice.

The tag that users of the AWS VPC CNI know, kubernetes.io/role/cni, has one meaning by itself: with the value 0 a subnet
is left alone. Its other value admits no further subnet here, as that would undo the rule of the route table: a class
whose subnetSelector names the tag does that, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import InstanceFacts, Selector
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.model import RouteTableView, SubnetView

NOT_FOR_PODS = ("kubernetes.io/role/cni", "0")


@dataclass(frozen=True, slots=True)
class SubnetChoice:
    """The subnet, or the reason and sentence why there is none."""

    subnet: SubnetView | None
    reason: Reason | None = None
    message: str = ""


def route_table_of(subnet_id: str, vpc_id: str, tables: Iterable[RouteTableView]) -> str:
    """Id of the table that governs a subnet: the one associated with it, else its VPC's main one; empty if unknown."""
    mine = sorted((table for table in tables if table.vpc_id == vpc_id), key=lambda table: table.id)
    explicit = next((table.id for table in mine if subnet_id in table.subnet_ids), "")
    return explicit or next((table.id for table in mine if table.main), "")


def eligible(subnets: Iterable[SubnetView], instance: InstanceFacts, selector: Selector) -> tuple[SubnetView, ...]:
    """The hard rule, by id: same VPC and zone, then the selector; without one, the node's route table.

    None that EC2 says is gone; the node's own tells its route table all the same. Without a selector a subnet that its
    owner has tagged as not for pods (`NOT_FOR_PODS`) is none.
    """
    return tuple(each for each in _admitted(subnets, instance, selector) if not each.gone)


def _admitted(subnets: Iterable[SubnetView], instance: InstanceFacts, selector: Selector) -> tuple[SubnetView, ...]:
    """The same, whether they are gone or not."""
    near = sorted(
        (each for each in subnets if each.vpc_id == instance.vpc_id and each.zone == instance.availability_zone),
        key=lambda each: each.id,
    )
    if selector.ids:
        return tuple(each for each in near if each.id in selector.ids)
    if selector.tags:
        return tuple(each for each in near if _has_tags(each, selector))
    home = next((each for each in near if each.id == instance.subnet_id), None)
    if home is None:
        return ()
    same = (each for each in near if each.id == home.id or (home.route_table and _same_table(each, home)))
    return tuple(each for each in same if each.tags.get(NOT_FOR_PODS[0]) != NOT_FOR_PODS[1])


def choose(
    subnets: Iterable[SubnetView], instance: InstanceFacts, selector: Selector, *, addresses: int = 0, prefixes: int = 0
) -> SubnetChoice:
    """The subnet for a new ENI that should carry that many secondary addresses or /28s (never both).

    The node's own subnet if it has the room (and no selector speaks), else the roomiest that has it, else the roomiest
    with any room at all. An ENI's own address is counted here, not by the caller.
    """
    known = tuple(subnets)
    candidates = eligible(known, instance, selector)
    if not candidates:
        return SubnetChoice(None, Reason.NO_ELIGIBLE_SUBNET, _nothing_matches(known, instance, selector))
    wanted = prefixes or addresses
    rooms = {each.id: new_interface_room(each, prefixes=bool(prefixes)) for each in candidates}
    enough = [each for each in candidates if rooms[each.id] >= wanted and _has_own(each)]
    home = next((each for each in enough if each.id == instance.subnet_id), None)
    if home is not None and not (selector.ids or selector.tags):
        return SubnetChoice(home)
    some = enough or [each for each in candidates if rooms[each.id] > 0]
    if some:
        return SubnetChoice(min(some, key=lambda each: (-rooms[each.id], -each.free, each.id)))
    names = ", ".join(each.id for each in candidates)
    if prefixes:
        return SubnetChoice(None, Reason.NO_WHOLE_PREFIX, f"no whole free /28 in subnets {names}")
    return SubnetChoice(None, Reason.SUBNET_EXHAUSTED, f"no free address for another ENI in subnets {names}")


def request_room(subnet: SubnetView, *, prefixes: bool) -> int:
    """How many single addresses, or whole /28s, one request on an existing ENI can get from the subnet."""
    return _room(subnet, subnet.free, prefixes=prefixes)


def new_interface_room(subnet: SubnetView, *, prefixes: bool) -> int:
    """The same for a new ENI, whose own address comes out of the subnet too."""
    return _room(subnet, subnet.free - 1, prefixes=prefixes)


def _room(subnet: SubnetView, free: int, *, prefixes: bool) -> int:
    """EC2 counts no reserved address as free: /28s of prefix reservations come on top of what the count allows."""
    if free < 0:
        return 0
    if not prefixes:
        return free
    by_count = free // PREFIX_SIZE + (subnet.blocks.kept_whole if subnet.blocks is not None else 0)
    return by_count if subnet.whole_prefixes is None else min(by_count, subnet.whole_prefixes)


def _has_own(subnet: SubnetView) -> bool:
    return subnet.free >= 1


def _has_tags(subnet: SubnetView, selector: Selector) -> bool:
    return all(subnet.tags.get(key) == value for key, value in selector.tags.items())


def _same_table(one: SubnetView, other: SubnetView) -> bool:
    return one.route_table == other.route_table


def _nothing_matches(subnets: tuple[SubnetView, ...], instance: InstanceFacts, selector: Selector) -> str:
    gone = [each.id for each in _admitted(subnets, instance, selector) if each.gone]
    if gone:
        return f"EC2 says that there is no subnet {', '.join(gone)}, and no other one matches"
    where = f"in {instance.vpc_id}, zone {instance.availability_zone}"
    if selector.ids:
        return f"none of the subnets {', '.join(sorted(selector.ids))} is {where}"
    if selector.tags:
        tags = ", ".join(f"{key}={value}" for key, value in sorted(selector.tags.items()))
        return f"no subnet {where} carries the tags {tags}"
    if any(each.id == instance.subnet_id and each.zone == instance.availability_zone for each in subnets):
        return f"all subnets of the node's route table {where} carry the tag {'='.join(NOT_FOR_PODS)}"
    return f"the node's subnet {instance.subnet_id or '(unknown)'} is not known {where}"
