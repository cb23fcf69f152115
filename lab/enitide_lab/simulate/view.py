"""What a snapshot says: from ENINodes, from EC2 and from what the scenario told. Never from inside the operator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from enitide_api.resources import Condition, ENINode, decode
from enitide_ipam import tide
from enitide_ipam.capacity import NodeCapacity, may_use_prefixes, node_capacity, whole_prefix_exists
from enitide_ipam.model import EniView, RouteTableView, SubnetView, is_foreign
from enitide_ipam.subnets import eligible, route_table_of
from enitide_kube.port import ENINODE, LEASE
from enitide_lab.apistore.table import Stored
from enitide_lab.ec2model.port import eni_view
from enitide_lab.ec2model.state import InstanceRecord, InterfaceRecord
from enitide_lab.simulate import ground
from enitide_lab.simulate.agent import facts_of
from enitide_operator.conditions import read_annotation
from enitide_operator.ec2 import views

if TYPE_CHECKING:
    from enitide_lab.simulate.simulation import Simulation

_WRITES = frozenset({"create", "update", "patch", "delete"})
NO_ERROR = frozenset({"ok", "lost", "garbage", "crash"})  # EC2 did as asked; the answer came or not
_GONE = frozenset({"shutting-down", "terminated"})
_EMPTY = ENINode()


class View:
    """Reads a simulation. Cheap enough to ask after every write."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim

    # --- one node ----------------------------------------------------------------------------------------------------

    def eninode(self, node: str) -> ENINode | None:
        """The resource now."""
        stored = self._stored(node)
        return None if stored is None else decode(stored.raw(self._sim.store.type_of(ENINODE)), ENINode)

    def _stored(self, node: str) -> Stored | None:
        store = self._sim.store
        return store.catalog.table(store.type_of(ENINODE)).objects.get(node)

    def instance(self, node: str) -> InstanceRecord | None:
        """What EC2 has, None once the instance has gone."""
        record = self._sim.model.instances.get(ground.instance_id(node))
        return None if record is None or record.state in _GONE else record

    def capacity(
        self, node: str, releasing: Collection[str], subnets: Callable[[], Sequence[SubnetView]]
    ) -> NodeCapacity | None:
        """By the shared function, on what EC2 has; None for a vanished instance. `subnets` are asked for if need be."""
        instance = self.instance(node)
        if instance is None:
            return None
        model, spec = self._sim.model, self._sim.demands.governing(node).spec
        limits = views.limits(model.type_document(instance.type))
        prefix_room = False
        if may_use_prefixes(limits, spec):
            home = instance.subnet
            facts = facts_of(instance.id, instance.type, home.zone, home.vpc.id, home.id)
            prefix_room = whole_prefix_exists(eligible(subnets(), facts, spec.interfaces.subnet_selector))
        return node_capacity(
            limits,
            spec,
            [self._usable(eni_view(model.view(record)), record) for record in instance.devices.values()],
            prefix_room=prefix_room,
            releasing=releasing,
        )

    def _usable(self, eni: EniView, record: InterfaceRecord) -> EniView:
        """As the operator knows it; one that no read shows holds its place and gives nothing, as IPv6 alone does."""
        eni = replace(eni, foreign=is_foreign(eni.tags, self._sim.scenario.settings.cluster_name))
        return replace(eni, primary="") if record.hidden else eni

    def is_full(self, node: str) -> bool:
        """No free slot, or maxAllocate reached; also for a vanished instance, which can have nothing."""
        stored = self._stored(node)
        status = {} if stored is None else stored.obj.get("status") or {}
        provisioned: int = (status.get("capacity") or {}).get("provisioned", 0)
        capacity = self.capacity(node, status.get("releasing") or (), self.subnets)
        if capacity is None:
            return True
        maximum = self._sim.demands.governing(node).spec.pool.max_allocate
        return tide.cap(provisioned, capacity.room, maximum) <= provisioned

    def node(self, node: str, subnets: Sequence[SubnetView]) -> dict[str, Any]:
        """One row of `nodes`."""
        asked = self._sim.demands.nodes[node]
        resource = self.eninode(node) or _EMPTY
        status, class_ = resource.status, self._sim.demands.governing(node).spec
        provisioned = status.capacity.provisioned
        instance, capacity = self.instance(node), self.capacity(node, status.releasing, lambda: subnets)
        needed = excess = 0
        if instance is not None and capacity is not None:
            limits = views.limits(self._sim.model.type_document(instance.type))
            delegating = may_use_prefixes(limits, class_)
            marks = tide.levels(asked.demand, asked.bound, class_.pool, prefix_delegation=delegating)
            needed, excess = tide.needed(marks, provisioned, capacity.room), tide.excess(marks, provisioned)
        return {
            "name": node,
            "provisioned": provisioned,
            "inUse": asked.demand.in_use,
            "needed": needed,
            "excess": excess,
            "capacity": provisioned + (capacity.room if capacity is not None else 0),
            "latency": _rounded(asked.latency),
            "reclaim": status.reclaim.count if status.reclaim is not None else 0,
            "yielded": list(resource.spec.yielded),
            "releasing": list(status.releasing),
            "conditions": [_condition(each) for each in status.conditions],
            "interfaces": [self._interface(each) for _, each in sorted(instance.devices.items())] if instance else [],
        }

    def _interface(self, record: InterfaceRecord) -> dict[str, Any]:
        attachment = record.attachment
        return {
            "id": record.id,
            "card": attachment.card if attachment is not None else 0,
            "index": attachment.index if attachment is not None else 0,
            "subnet": record.subnet.id,
            "primary": record.primary,
            "addresses": list(record.secondaries),
            "prefixes": list(record.prefixes),
            "securityGroups": list(record.groups),
            "deleteOnTermination": attachment is not None and attachment.delete_on_termination,
        }

    # --- all of it ---------------------------------------------------------------------------------------------------

    def subnets(self) -> tuple[SubnetView, ...]:
        """Every subnet as it really is."""
        model = self._sim.model
        tables = [RouteTableView(t.id, t.vpc_id, t.main, t.subnets) for t in model.route_tables.values()]
        return tuple(
            SubnetView(
                id=each.id,
                vpc_id=each.vpc.id,
                zone=each.zone,
                cidr=each.cidr,
                free=each.map.free,
                whole_prefixes=each.map.blocks_left(),
                tags=model.tags.get(each.id, {}),
                route_table=route_table_of(each.id, each.vpc.id, tables),
            )
            for each in model.subnets.values()
        )

    def snapshot(self) -> dict[str, Any]:
        """S of the contract."""
        sim = self._sim
        sim.model.advance()
        subnets = self.subnets()
        loose = (each for each in sim.model.interfaces.values() if each.attachment is None)
        return {
            "time_s": _rounded(sim.loop.time()),
            "nodes": [self.node(node, subnets) for node in sim.groups if node in sim.demands.nodes],
            "subnets": [{"id": s.id, "free": s.free, "wholePrefixes": s.whole_prefixes} for s in subnets],
            "detached": [
                {"id": each.id, "subnet": each.subnet.id, "tags": dict(sim.model.tags.get(each.id, {}))}
                for each in loose
            ],
            "calls": self._calls(),
            "writes": self._writes(),
            "largestReply": sim.physics.largest_reply,
            "operator": {"conditions": self._operator_conditions()},
            "publish_s": percentiles(sim.demands.samples),
        }

    def _calls(self) -> dict[str, dict[str, int]]:
        table: dict[str, Counter[str]] = {}
        for (verb, outcome), times in sorted(self._sim.physics.counts.items()):
            table.setdefault(str(verb), Counter())["ok" if outcome in NO_ERROR else outcome] += times
        return {verb: dict(outcomes) for verb, outcomes in table.items()}

    def _writes(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for (_client, verb, kind, _outcome), times in self._sim.store.requests.items():
            if verb in _WRITES:
                found[kind] += times
        return dict(sorted(found.items()))

    def _operator_conditions(self) -> list[dict[str, str]]:
        """What the operator says of itself stands on its Lease."""
        settings, store = self._sim.scenario.settings, self._sim.store
        key = f"{settings.lease_namespace}/{settings.lease_name}"
        stored = store.catalog.table(store.type_of(LEASE)).objects.get(key)
        notes = stored.obj["metadata"].get("annotations") or {} if stored is not None else {}
        return [_condition(each) for each in read_annotation(notes)]


def _condition(found: Condition) -> dict[str, str]:
    return {"type": found.type, "status": found.status, "reason": found.reason, "message": found.message}


def percentiles(samples: Iterable[float]) -> dict[str, float | None]:
    """Nearest rank; None where nothing was measured."""
    found = sorted(samples)

    def rank(share: float) -> float | None:
        return _rounded(found[max(0, math.ceil(share * len(found)) - 1)]) if found else None

    return {"p50": rank(0.5), "p99": rank(0.99), "max": rank(1.0)}


def _rounded(value: float | None) -> float | None:
    """To the millisecond: sums of many steps differ beyond that."""
    return None if value is None else round(value, 3)
