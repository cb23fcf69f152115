"""The world of a scenario: VPC, instance types, route tables, subnets, groups and the ENIs that exist beforehand."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from enitide_lab.ec2model import limits
from enitide_lab.simulate.located import Item, given, required, twice
from enitide_lab.simulate.scenario import (
    DEFAULT_CIDRS,
    DEFAULT_VPC,
    DEFAULT_ZONE,
    Eni,
    Group,
    InstanceType,
    RouteTable,
    Subnet,
    Vpc,
    World,
)

_WORLD = ("cluster", "vpc", "instanceTypes", "routeTables", "subnets", "securityGroups", "interfaces")
_SUBNET = ("id", "zone", "cidr", "free", "wholePrefixes", "tags", "vpc")
_TYPE = ("cards", "ipv4PerInterface", "hypervisor", "shipped")
_ENI = (
    "id",
    "subnet",
    "count",
    "node",
    "card",
    "index",
    "address",
    "addresses",
    "prefixes",
    "tags",
    "cluster",
    "securityGroups",
    "ipv4",
    "hidden",
)


def read_world(item: Item) -> World:
    """The mapping `world`."""
    keys = item.mapping(_WORLD)
    subnets = given(keys, "subnets", _subnets, ())
    vpc = given(keys, "vpc", lambda each: _vpc(each, subnets), _implied_vpc(Vpc(cidrs=()), subnets))
    world = World(
        cluster=given(keys, "cluster", lambda each: each.text("a cluster's name"), ""),
        vpc=vpc,
        types=given(keys, "instanceTypes", _types, {}),
        route_tables=given(keys, "routeTables", _route_tables, ()),
        subnets=tuple(replace(each, vpc=each.vpc or vpc.id) for each in subnets),
        groups=given(keys, "securityGroups", _groups, ()),
    )
    return replace(world, interfaces=given(keys, "interfaces", lambda each: _enis(each, world), ()))


def _vpc(item: Item, subnets: tuple[Subnet, ...]) -> Vpc:
    keys = item.mapping(("id", "cidrs"))
    cidrs = given(keys, "cidrs", _cidrs, ())
    vpc = Vpc(given(keys, "id", lambda each: each.text("a VPC's id"), DEFAULT_VPC), cidrs, item.place)
    return vpc if cidrs else _implied_vpc(vpc, subnets)


def _cidrs(item: Item) -> tuple[str, ...]:
    """Of a VPC: none wider or narrower than EC2 has it, none within another."""
    found: list[ipaddress.IPv4Network] = []
    for each in item.sequence():
        network = ipaddress.IPv4Network(each.network())
        if not 16 <= network.prefixlen <= 28:
            each.refuse(f"a VPC's CIDR is a /16 to /28, this is a /{network.prefixlen}: write several")
        other = next((one for one in found if one.overlaps(network)), None)
        if other is not None:
            each.refuse(f"{network} overlaps {other}: leave one of them out")
        found.append(network)
    return tuple(str(each) for each in found)


def _implied_vpc(vpc: Vpc, subnets: tuple[Subnet, ...]) -> Vpc:
    """Without `cidrs` the VPC is as wide as its subnets."""
    own = tuple(dict.fromkeys(each.cidr for each in subnets if each.vpc in ("", vpc.id)))
    return replace(vpc, cidrs=own or DEFAULT_CIDRS)


def _types(item: Item) -> dict[str, InstanceType]:
    found = item.mapping()
    if "" in found:
        found[""].refuse("an instance type needs a name: write one such as my.large")
    return {name: _type(name, each) for name, each in found.items()}


def _type(name: str, item: Item) -> InstanceType:
    keys = item.mapping(_TYPE)
    known = limits.documents().get(name)
    shipped = given(keys, "shipped", Item.boolean, default=True)
    if known is not None and not {"cards", "ipv4PerInterface", "hypervisor"} & keys.keys():
        return InstanceType(name, known, shipped)
    document = limits.make_type(
        name,
        cards=[each.integer(1, 64) for each in required(item, keys, "cards").sequence()],
        ipv4=required(item, keys, "ipv4PerInterface").integer(1, 256),
        hypervisor=given(keys, "hypervisor", lambda each: each.word(("nitro", "xen"), "hypervisor"), "nitro"),
    )
    if not document["NetworkInfo"]["NetworkCards"]:
        keys["cards"].refuse("an instance has at least one network card: write [3] for three interfaces on one card")
    return InstanceType(name, document, shipped)


def _route_tables(item: Item) -> tuple[RouteTable, ...]:
    found = []
    for each in item.sequence():
        keys = each.mapping(("id", "main", "subnets"))
        found.append(
            RouteTable(
                id=required(each, keys, "id").text("a route table's id"),
                main=given(keys, "main", Item.boolean, default=False),
                subnets=given(keys, "subnets", Item.texts, ()),
                place=each.place,
            )
        )
    once(item, [each.id for each in found])
    subnet = twice([subnet for each in found for subnet in each.subnets])
    if subnet is not None:
        item.refuse(f"subnet {subnet} is named twice: a subnet has one route table")
    if sum(each.main for each in found) > 1:
        item.refuse("more than one route table is main: a VPC has one, write main: true on that")
    return tuple(found)


def _subnets(item: Item) -> tuple[Subnet, ...]:
    found = []
    for each in item.sequence():
        keys = each.mapping(_SUBNET)
        found.append(
            Subnet(
                id=required(each, keys, "id").text("a subnet's id"),
                cidr=required(each, keys, "cidr").network(),
                zone=given(keys, "zone", lambda zone: zone.text("a zone"), DEFAULT_ZONE),
                vpc=given(keys, "vpc", lambda vpc: vpc.text("a VPC's id"), ""),
                free=given(keys, "free", Item.integer, None),
                whole_prefixes=given(keys, "wholePrefixes", Item.integer, None),
                tags=given(keys, "tags", Item.tags, {}),
                place=each.place,
            )
        )
    once(item, [each.id for each in found])
    return tuple(found)


def _groups(item: Item) -> tuple[Group, ...]:
    found = []
    for each in item.sequence():
        keys = each.mapping(("id", "tags"))
        name = required(each, keys, "id").text("a security group's id")
        found.append(Group(name, given(keys, "tags", Item.tags, {}), each.place))
    once(item, [each.id for each in found])
    return tuple(found)


def _enis(item: Item, world: World) -> tuple[Eni, ...]:
    found = tuple(_eni(each, world) for each in item.sequence())
    once(item, [each.id for each in found if each.id])
    return found


def _eni(item: Item, world: World) -> Eni:
    keys = item.mapping(_ENI)
    address_count, addresses = given(keys, "addresses", lambda each: each.amount(Item.address), (0, ()))
    prefix_count, prefixes = given(keys, "prefixes", lambda each: each.amount(Item.network), (0, ()))
    eni = Eni(
        id=given(keys, "id", lambda each: each.text("an ENI's id"), ""),
        subnet=given(keys, "subnet", lambda each: each.word([s.id for s in world.subnets], "subnet"), ""),
        count=given(keys, "count", lambda each: each.integer(1), 1),
        node=given(keys, "node", lambda each: each.text("a node's name"), ""),
        card=given(keys, "card", lambda each: each.integer(0, 31), 0),
        index=given(keys, "index", lambda each: each.integer(0, 63), None),
        address=given(keys, "address", Item.address, ""),
        addresses=addresses,
        address_count=address_count,
        prefixes=prefixes,
        prefix_count=prefix_count,
        tags=given(keys, "tags", Item.tags, {}),
        cluster=given(keys, "cluster", lambda each: each.text("a cluster's name"), ""),
        groups=given(keys, "securityGroups", lambda each: group_names(each, world), ()),
        ipv4=given(keys, "ipv4", Item.boolean, default=True),
        hidden=given(keys, "hidden", Item.boolean, default=False),
        place=item.place,
    )
    if not eni.ipv4 and (eni.address or any(eni.addresses) or any(eni.prefixes) or address_count or prefix_count):
        item.refuse("ipv4: false has no IPv4 addresses: leave out address, addresses and prefixes")
    if not eni.node and not eni.subnet:
        item.refuse("subnet is missing: an ENI without a node needs one")
    if not eni.node and (eni.index is not None or eni.card):
        item.refuse("has a place but no instance: write node, or leave out card and index")
    return eni


def group_names(item: Item, world: World) -> tuple[str, ...]:
    """A list of security groups of the world."""
    return tuple(each.word([group.id for group in world.groups], "security group") for each in item.sequence())


def once(item: Item, ids: list[str]) -> None:
    """Refuse an id that stands there twice."""
    name = twice(ids)
    if name is not None:
        item.refuse(f"{name!r} stands here twice: each needs an id of its own")
