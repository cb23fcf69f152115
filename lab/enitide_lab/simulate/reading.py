"""From the file to a `Scenario`: every key known, every name resolved, every complaint with its line.

What stands here is the contract of `docs/simulate.md`, key by key. It builds nothing: what only EC2 or the API server
can refuse is found when the world is built, with the places kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from enitide_api.errors import SettingsInvalid, UsageError
from enitide_api.options import explain
from enitide_api.resources import API_VERSION
from enitide_api.settings import OperatorSettings
from enitide_ipam.limits import known_types
from enitide_lab.ec2model import limits
from enitide_lab.simulate.classes import Classes, judge_node, read_classes
from enitide_lab.simulate.located import Item, given, load, required, unknown
from enitide_lab.simulate.reading_events import Names, read_events
from enitide_lab.simulate.scenario import (
    DEFAULT_CIDRS,
    DEFAULT_TYPE,
    DEFAULT_VPC,
    DEFAULT_ZONE,
    Eni,
    Group,
    InstanceType,
    NodeGroup,
    RouteTable,
    Scenario,
    Subnet,
    Vpc,
    World,
)
from enitide_operator.ec2.budget import Budget, Size

KIND = "Scenario"
_TOP = ("apiVersion", "kind", "seed", "world", "classes", "nodes", "settings", "events")
_WORLD = ("cluster", "vpc", "instanceTypes", "routeTables", "subnets", "securityGroups", "interfaces")
_SUBNET = ("id", "zone", "cidr", "free", "wholePrefixes", "tags", "vpc")
_NODE = ("name", "count", "type", "subnet", "securityGroups", "labels", "tags")
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


def read_file(path: Path) -> Scenario:
    """The scenario in a file. `UsageError` for one that cannot be read or means nothing."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return read(text, str(path))


def read(text: str, file: str = "scenario") -> Scenario:
    """The scenario in a text; `file` is its name in complaints."""
    root = load(text, file)
    keys = root.mapping(_TOP)
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        found = required(root, keys, name)
        if found.plain() != wanted:
            found.refuse(f"must be {wanted}")
    classes = given(keys, "classes", read_classes, Classes.none())
    world = given(keys, "world", _world, World())
    nodes = given(keys, "nodes", lambda item: _nodes(item, world), ())
    names = Names(_members(nodes), frozenset(each.id for each in world.subnets), frozenset(classes.specs))
    return Scenario(
        world=_completed(world, nodes),
        nodes=nodes,
        classes=classes.objects(),
        settings=_settings(keys, world.cluster),
        events=given(keys, "events", lambda item: read_events(item, names, classes), ()),
        seed=given(keys, "seed", lambda item: item.integer(-(1 << 63)), 0),
    )


def _members(nodes: tuple[NodeGroup, ...]) -> Mapping[str, tuple[str, ...]]:
    return Scenario(World(), nodes).members()


# --- world -----------------------------------------------------------------------------------------------------------


def _world(item: Item) -> World:
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
    cidrs = given(keys, "cidrs", lambda each: tuple(member.network() for member in each.sequence()), ())
    vpc = Vpc(given(keys, "id", lambda each: each.text("a VPC's id"), DEFAULT_VPC), cidrs, item.place)
    return vpc if cidrs else _implied_vpc(vpc, subnets)


def _implied_vpc(vpc: Vpc, subnets: tuple[Subnet, ...]) -> Vpc:
    """Without `cidrs` the VPC is as wide as its subnets."""
    own = tuple(dict.fromkeys(each.cidr for each in subnets if each.vpc in ("", vpc.id)))
    return replace(vpc, cidrs=own or DEFAULT_CIDRS)


def _types(item: Item) -> dict[str, InstanceType]:
    return {name: _type(name, each) for name, each in item.mapping().items()}


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
    _once(item, [each.id for each in found])
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
    _once(item, [each.id for each in found])
    return tuple(found)


def _groups(item: Item) -> tuple[Group, ...]:
    found = []
    for each in item.sequence():
        keys = each.mapping(("id", "tags"))
        name = required(each, keys, "id").text("a security group's id")
        found.append(Group(name, given(keys, "tags", Item.tags, {}), each.place))
    _once(item, [each.id for each in found])
    return tuple(found)


def _enis(item: Item, world: World) -> tuple[Eni, ...]:
    found = tuple(_eni(each, world) for each in item.sequence())
    _once(item, [each.id for each in found if each.id])
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
        groups=given(keys, "securityGroups", lambda each: _group_names(each, world), ()),
        ipv4=given(keys, "ipv4", Item.boolean, default=True),
        hidden=given(keys, "hidden", Item.boolean, default=False),
        place=item.place,
    )
    if not eni.ipv4 and (eni.address or any(eni.addresses) or any(eni.prefixes) or address_count or prefix_count):
        item.refuse("ipv4: false has no IPv4 addresses: leave out address, addresses and prefixes")
    if not eni.node and not eni.subnet:
        item.refuse("subnet is missing: an ENI without a node needs one")
    return eni


def _group_names(item: Item, world: World) -> tuple[str, ...]:
    return tuple(each.word([group.id for group in world.groups], "security group") for each in item.sequence())


def _once(item: Item, ids: list[str]) -> None:
    twice = next((name for number, name in enumerate(ids) if name in ids[:number]), None)
    if twice is not None:
        item.refuse(f"{twice!r} stands here twice: each needs an id of its own")


# --- nodes and settings ----------------------------------------------------------------------------------------------


def _nodes(item: Item, world: World) -> tuple[NodeGroup, ...]:
    found = tuple(_node(each, world) for each in item.sequence())
    names = [each.name for each in found] + [m for each in found if each.count > 1 for m in each.members]
    _once(item, names)
    return found


def _node(item: Item, world: World) -> NodeGroup:
    keys = item.mapping(_NODE)
    if not world.subnets:
        item.refuse("there is no subnet for it: write world.subnets")
    types = {*known_types(), *world.types}
    group = NodeGroup(
        name=required(item, keys, "name").text("a node's name"),
        count=given(keys, "count", lambda each: each.integer(1, 100_000), 1),
        type=given(keys, "type", lambda each: each.word(types, "instance type"), DEFAULT_TYPE),
        subnet=given(keys, "subnet", lambda each: each.word([s.id for s in world.subnets], "subnet"), ""),
        groups=given(keys, "securityGroups", lambda each: _group_names(each, world), ()),
        labels=given(keys, "labels", Item.tags, {}),
        tags=given(keys, "tags", Item.tags, {}),
        place=item.place,
    )
    judge_node(group.members[-1], group.labels, item)
    home = next((each for each in world.subnets if each.vpc == world.vpc.id), None)
    if not group.subnet and home is None:
        item.refuse(f"subnet is missing, and none is in {world.vpc.id}: write one")
    return group if group.subnet or home is None else replace(group, subnet=home.id)


def _completed(world: World, nodes: tuple[NodeGroup, ...]) -> World:
    """Interfaces with their node's name looked up."""
    members = _members(nodes)
    for eni in world.interfaces:
        if eni.node and eni.node not in members:
            eni.place.refuse(unknown("node", eni.node, list(members)))
    return world


def _settings(keys: Mapping[str, Item], cluster: str) -> OperatorSettings:
    item = keys.get("settings")
    fields = {_camel(name): name for name in OperatorSettings.model_fields}
    known = [*fields, *(name for name in OperatorSettings.model_fields if name not in fields)]
    found: dict[str, Any] = {"cluster_name": cluster}
    places: dict[str, Item] = {}
    if item is not None and not item.is_null:
        for key, value in item.mapping(known).items():
            name = fields.get(key, key)
            found[name], places[name] = value.plain(), value
    try:
        settings = OperatorSettings.model_validate(found)
        Budget({verb: Size(bucket.rate, bucket.burst) for verb, bucket in settings.budget.items()})
    except ValidationError as error:
        place = places.get(str(error.errors()[0]["loc"][0])) or item
        (place or keys["world"]).refuse(explain(error, OperatorSettings))
    except SettingsInvalid as error:
        (places.get("budget") or item or keys["world"]).refuse(str(error))
    return settings


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
