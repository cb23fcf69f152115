"""The world of a scenario on the strict EC2: what exists before time begins, with the rights no call has.

Named addresses are placed first and the rest densely, so that what a scenario says is left can be left. From then on
EC2 chooses addresses in the worst way it may. What EC2 itself would refuse is told with the line it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from enitide_ipam.limits import InstanceLimits, limits_for
from enitide_ipam.model import TAG_CLUSTER, TAG_NODE
from enitide_lab.ec2model import EC2Model, ModelError
from enitide_lab.ec2model.addresses import ModelRange, Policy
from enitide_lab.ec2model.types import NicSpec
from enitide_lab.simulate.located import Place
from enitide_lab.simulate.scenario import Eni, NodeGroup, Scenario, Subnet
from enitide_operator.ec2 import views


def instance_id(node: str) -> str:
    """The id of a node's instance."""
    return f"i-{node}"


def shipped_limits(scenario: Scenario) -> Callable[[str], InstanceLimits | None]:
    """The operator's table: the shipped one, as the scenario extends or shortens it."""
    own = {name: views.limits(each.document) if each.shipped else None for name, each in scenario.world.types.items()}
    return lambda name: own[name] if name in own else limits_for(name)


def build(scenario: Scenario, clock: Callable[[], float]) -> EC2Model:
    """EC2 as the scenario has it at time 0."""
    types = {name: each.document for name, each in scenario.world.types.items()}
    model = EC2Model(clock, seed=scenario.seed, choice="dense", instance_types=types)
    _Ground(model, scenario).build()
    return model


class _Ground:
    def __init__(self, model: EC2Model, scenario: Scenario) -> None:
        self._model = model
        self._world = scenario.world
        self._nodes = {name: group for group in scenario.nodes for name in group.members}
        self._members = scenario.members()
        self._first: dict[str, str] = {}  # node -> its ENI at card 0, index 0, where the scenario names it

    def build(self) -> None:
        self._network()
        placed = [(eni, node, name) for eni in self._in_order() for node, name in self._copies(eni)]
        made = [(eni, node, self._place(eni, node, name)) for eni, node, name in placed]
        for eni, node, made_id in made:
            if node and (eni.card, eni.index) == (0, 0):
                if node in self._first:
                    eni.place.refuse(f"{node} has an ENI at card 0, index 0 already: write another index")
                self._first[node] = made_id
        for name, group in self._nodes.items():
            self._launch(name, group)
        for eni, node, made_id in sorted(made, key=lambda each: each[0].index is None):
            if node and self._first.get(node) != made_id:
                self._attach(eni, node, made_id)
        for subnet in self._world.subnets:
            self._leave_room(subnet)
        self._choose("worst")

    # --- network -----------------------------------------------------------------------------------------------------

    def _network(self) -> None:
        model, world = self._model, self._world
        with _at(world.vpc.place):
            model.create_vpc(world.vpc.cidrs, fixed_id=world.vpc.id)
        for other in dict.fromkeys(each.vpc for each in world.subnets if each.vpc != world.vpc.id):
            model.create_vpc([each.cidr for each in world.subnets if each.vpc == other], fixed_id=other)
        for subnet in world.subnets:
            with _at(subnet.place):
                model.create_subnet(subnet.vpc, subnet.cidr, subnet.zone, fixed_id=subnet.id, tags=dict(subnet.tags))
        for group in world.groups:
            model.create_security_group(world.vpc.id, group.id, fixed_id=group.id, tags=dict(group.tags))
        for table in world.route_tables:
            model.create_route_table(world.vpc.id, main=table.main, subnets=table.subnets, fixed_id=table.id)

    def _leave_room(self, subnet: Subnet) -> None:
        space = self._model.subnets[subnet.id].map
        if subnet.free is None and subnet.whole_prefixes is None:
            return
        try:
            space.change_room(subnet.free, subnet.whole_prefixes)
        except ValueError as error:
            subnet.place.refuse(f"subnet {subnet.id}: {error}")

    def _choose(self, policy: Policy) -> None:
        self._model.choice = policy
        for record in self._model.subnets.values():
            record.map.policy = policy

    # --- interfaces --------------------------------------------------------------------------------------------------

    def _in_order(self) -> list[Eni]:
        """What is named is placed before EC2 chooses."""
        return sorted(self._world.interfaces, key=lambda eni: not (eni.address or eni.addresses or eni.prefixes))

    def _copies(self, eni: Eni) -> Iterator[tuple[str, str]]:
        """(node, id) of each ENI that the entry stands for."""
        nodes = self._members[eni.node] if eni.node else ("",)
        total = len(nodes) * eni.count
        if total > 1 and (eni.address or eni.addresses or eni.prefixes):
            eni.place.refuse("stands for several ENIs, which cannot hold the same addresses: write numbers")
        places = [(node, number) for node in nodes for number in range(eni.count)]
        for position, (node, _) in enumerate(places, 1):
            yield node, (eni.id if total == 1 else f"{eni.id}-{position}") if eni.id else ""

    def _place(self, eni: Eni, node: str, name: str) -> str:
        subnet = eni.subnet or self._nodes[node].subnet
        tags = dict(eni.tags)
        if eni.cluster:
            tags = {TAG_CLUSTER: eni.cluster, TAG_NODE: node or "gone", **tags}
        if name in self._model.interfaces:
            eni.place.refuse(f"there is an ENI {name} already: choose another id")
        with _at(eni.place):
            made = self._model.place_interface(
                subnet,
                fixed_id=name or None,
                ipv4=eni.ipv4,
                hidden=eni.hidden,
                groups=eni.groups or (self._nodes[node].groups if node else ()),
                address=eni.address or None,
                addresses=eni.addresses,
                count=eni.address_count,
                prefixes=eni.prefixes,
                prefix_count=eni.prefix_count,
                tags=tags,
            )
        return made.id

    def _attach(self, eni: Eni, node: str, made_id: str) -> None:
        model, instance = self._model, self._model.instances[instance_id(node)]
        index = eni.index
        if index is None:
            taken = {used for card, used in instance.devices if card == eni.card}
            index = next(number for number in range(1, len(taken) + 2) if number not in taken)
        record = model.interface_record(made_id)
        with _at(eni.place):
            model.require_place(record, instance, eni.card, index)
            model.hang(record, instance, eni.card, index, delete_on_termination=bool(eni.cluster))

    # --- instances ---------------------------------------------------------------------------------------------------

    def _launch(self, name: str, group: NodeGroup) -> None:
        model, first = self._model, self._first.get(name)
        nics = (NicSpec(interface_id=first),) if first is not None else ()
        with _at(group.place):
            model.run_instances(
                group.type,
                group.subnet,
                groups=group.groups,
                nics=nics,
                interface_tags=dict(group.tags),
                ids=(instance_id(name),),
            )
        if first is not None:
            record = model.interfaces[first]
            model.tags[first].update(group.tags)
            if record.attachment is not None:
                record.attachment.delete_on_termination = True


@contextmanager
def _at(place: Place) -> Iterator[None]:
    """What EC2 refuses here is a bad scenario, told with its line."""
    try:
        yield
    except ModelError as error:
        place.refuse(f"EC2 would refuse this: {error.code}: {error.message}")
    except ModelRange as error:
        place.refuse(str(error))
