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
from enitide_lab.simulate.classes import Classes, judge_node, read_classes
from enitide_lab.simulate.located import Item, given, load, required, unknown
from enitide_lab.simulate.reading_events import Names, read_events
from enitide_lab.simulate.reading_world import group_names, once, read_world
from enitide_lab.simulate.scenario import DEFAULT_TYPE, NodeGroup, Scenario, World
from enitide_operator.ec2.budget import Budget, Size

KIND = "Scenario"
_MOST_SEED = 10**9
_TOP = ("apiVersion", "kind", "seed", "world", "classes", "nodes", "settings", "events")
_NODE = ("name", "count", "type", "subnet", "securityGroups", "labels", "tags")


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
    world = given(keys, "world", read_world, World())
    nodes = given(keys, "nodes", lambda item: _nodes(item, world), ())
    names = Names(_members(nodes), frozenset(each.id for each in world.subnets), frozenset(classes.specs))
    return Scenario(
        world=_completed(world, nodes),
        nodes=nodes,
        classes=classes.objects(),
        settings=_settings(keys, world.cluster),
        events=given(keys, "events", lambda item: read_events(item, names, classes), ()),
        seed=given(keys, "seed", lambda item: item.integer(-_MOST_SEED, _MOST_SEED), 0),
    )


def _members(nodes: tuple[NodeGroup, ...]) -> Mapping[str, tuple[str, ...]]:
    return Scenario(World(), nodes).members()


# --- nodes and settings ----------------------------------------------------------------------------------------------


def _nodes(item: Item, world: World) -> tuple[NodeGroup, ...]:
    found = tuple(_node(each, world) for each in item.sequence())
    names = [each.name for each in found] + [m for each in found if each.count > 1 for m in each.members]
    once(item, names)
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
        groups=given(keys, "securityGroups", lambda each: group_names(each, world), ()),
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
    # agents in a scenario report as with policy off: nobody would read identities and endpoint batches
    found: dict[str, Any] = {"cluster_name": cluster, "policy": "off"}
    places: dict[str, Item] = {}
    if item is not None and not item.is_null:
        for key, value in item.mapping(known).items():
            name = fields.get(key, key)
            if name in places:
                value.refuse(f"{_camel(name)} stands here twice, in both spellings: write it once")
            places[name] = value
            if not value.is_null:
                found[name] = value.plain()
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
