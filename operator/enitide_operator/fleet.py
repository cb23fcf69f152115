"""All actors of one term: made, woken and ended here. News about one node costs work for that node alone.

Reflectors tell it what changed; it never looks at all nodes because one did. What concerns many (a class, a VPC's
reading, drift) is spread out in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from enitide_api.errors import KubeError, NotLeading
from enitide_api.logging import get_logger
from enitide_api.resources import ENINode
from enitide_ipam.sweep import Known
from enitide_kube.objects import Node, instance_of
from enitide_operator.actor import Actor
from enitide_operator.conditions import OperatorConditions
from enitide_operator.context import Context
from enitide_operator.decision import mismatch
from enitide_operator.fleet_state import fleet_state
from enitide_operator.gauges import FleetState
from enitide_operator.leftovers import Leftovers
from enitide_operator.node_state import Summary
from enitide_operator.preview import NodePreview
from enitide_operator.subnet_reporter import Placement, SubnetReporter
from enitide_operator.sweeper import Sweeper
from enitide_operator.tainting import bring
from enitide_operator.taints import is_tainted

_log = get_logger(__name__)

CLASS_WRITES_PER_S = 20.0
PREVIEWS_AT_ONCE = 10
SLICE_NODES = 100  # nodes per drift slice: one call of at most 200 instances


class Fleet:
    """The nodes' actors, by name."""

    def __init__(self, ctx: Context, conditions: OperatorConditions) -> None:
        self._ctx = ctx
        self._conditions = conditions
        self._sweeper: Sweeper | None = None
        self._leftovers = Leftovers(ctx, self._resource)
        self._actors: dict[str, Actor] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._to_look: dict[str, None] = {}  # nodes that a change of class concerns, in turn
        self._look: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self, resources: Iterable[ENINode]) -> None:
        """One actor for each ENINode there is, the drift reading, and the two that look for what was left over."""
        for resource in resources:
            self._add(resource)
        self._ctx.tasks.spawn(self._drift(), name="drift")
        self._ctx.tasks.spawn(self._leftovers.run(), name="leftovers")
        if self._ctx.settings.subnet_reports:
            self._ctx.tasks.spawn(SubnetReporter(self._ctx, self.placements).run(), name="subnet reports")
        if self._ctx.plan_settings.cluster_name:
            self._sweeper = Sweeper(self._ctx, self._known, self._conditions)
            self._ctx.tasks.spawn(self._sweeper.run(), name="sweep")

    def stop(self) -> None:
        """No actor decides any more. Calls under way are the context's tasks: drained or cancelled by the caller."""
        self._stopped = True
        for run in self._runs.values():
            run.cancel()
        if self._look is not None:
            self._look.cancel()

    # --- news ------------------------------------------------------------------------------------------------------

    def on_eninode(self, name: str, _old: ENINode | None, new: ENINode | None) -> None:
        """A reflector's callback."""
        if self._stopped:
            return
        actor = self._actors.get(name)
        if new is None:
            self._remove(name)
        elif actor is None:
            self._add(new)
        else:
            actor.offer(new)
            self._claim(name)

    def on_node(self, name: str, old: Node | None, new: Node | None) -> None:
        """A reflector's callback. Only what decisions rest on wakes the actor: kubelets write Nodes all the time."""
        actor = self._actors.get(name)
        if new is not None:
            self._leftovers.adopted(name)
        elif actor is not None:
            self._leftovers.orphaned(name)
        if actor is not None and _essence(old) != _essence(new):
            self._claim(name)
            actor.wake()

    def wake(self, name: str) -> None:
        """Something else has changed for this node."""
        actor = self._actors.get(name)
        if actor is not None:
            actor.wake()

    def _claim(self, name: str) -> None:
        """Which instance the node says is its own: believed where Node and ENINode agree."""
        instance_id = self._actors[name].state.instance_id
        agreed = not mismatch(self._ctx.nodes.get(name), instance_id)
        self._ctx.claims.update(name, instance_id if agreed else "")

    def on_pods(self, name: str) -> None:
        """The number of pods bound to the node has changed."""
        actor = self._actors.get(name)
        if actor is not None:
            actor.demand_changed()

    def on_classes(self) -> None:
        """Some class has changed: every node looks again, at most 20 a second, since each may have to be written.

        However many classes change meanwhile: a node that stands in the row already will see them all.
        """
        self._to_look |= dict.fromkeys(each for each in sorted(self._actors) if each not in self._to_look)
        if self._look is None:
            self._look_next()

    def on_vpc(self, vpc_id: str) -> None:
        """A VPC was read: whoever waits there looks again."""
        for actor in self._actors.values():
            spec = actor.state.resource.spec
            if spec.instance.vpc_id == vpc_id and (actor.state.summary.wait or not actor.state.resource.status.class_):
                actor.wake()

    def instances(self) -> frozenset[str]:
        """Ids of all nodes' instances."""
        return frozenset(actor.state.instance_id for actor in self._actors.values())

    def on_elastic(self, tags: Mapping[str, str]) -> None:
        """Elastic IPs with these tags were read: whoever waits for one looks again."""
        for actor in self._actors.values():
            actor.elastic_read(tags)

    def on_limits(self, instance_type: str) -> None:
        """A type's limits are known now."""
        for actor in self._actors.values():
            if actor.state.resource.spec.instance.type == instance_type:
                actor.wake()

    # --- metrics ---------------------------------------------------------------------------------------------------

    def state(self) -> FleetState:
        """Sums over all nodes, for a scrape."""
        states = [actor.state for actor in self._actors.values()]
        return fleet_state(states, self._ctx.nodes, self._ctx.now(), each=self._ctx.settings.node_metrics)

    async def previews(self, name: str = "") -> list[NodePreview]:
        """What the next passes would do, of one node or of all; empty where there is no such node.

        Of many nodes it is made a few at a time: whoever asks must not keep the actors waiting.
        """
        chosen = [self._actors[name]] if name in self._actors else [] if name else list(self._actors.values())
        found = []
        for number, actor in enumerate(chosen, 1):
            found.append(actor.preview())
            if number % PREVIEWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    def summaries(self) -> list[tuple[str, Summary]]:
        """Each node's class by name and its state, for the classes' own status."""
        found = []
        for actor in self._actors.values():
            class_ = actor.state.resource.status.class_
            if class_ is not None:
                found.append((class_.name, actor.state.summary))
        return found

    # --- inside ----------------------------------------------------------------------------------------------------

    def placements(self) -> frozenset[Placement]:
        """Where nodes are and which classes govern them, each once."""
        found = set()
        for actor in self._actors.values():
            where, class_ = actor.state.resource.spec.instance, actor.state.resource.status.class_
            if where.vpc_id and class_ is not None:
                found.add(Placement(where.vpc_id, where.availability_zone, where.subnet_id, class_.name))
        return frozenset(found)

    def _add(self, resource: ENINode) -> None:
        name = resource.metadata.name
        actor = Actor(self._ctx, resource)
        self._actors[name] = actor
        self._runs[name] = self._ctx.actors.spawn(actor.run(), name=f"{name}: actor")
        self._claim(name)
        if name not in self._ctx.nodes:
            self._leftovers.orphaned(name)

    @property
    def leaked(self) -> int | None:
        """How many leaked ENIs the last look found; None before the first, and where the sweep is off."""
        return self._sweeper.leaked if self._sweeper is not None else None

    def _resource(self, name: str) -> ENINode | None:
        actor = self._actors.get(name)
        return actor.state.resource if actor is not None else None

    def _known(self, names: Iterable[str]) -> Known:
        """What is written down of ENIs of these nodes: their intents, and sagas at work."""
        states = [self._actors[name].state for name in names if name in self._actors]
        pending = {intent.token for state in states for intent in state.resource.status.pending}
        removing = {eni_id for state in states for eni_id in state.resource.status.removing}
        return Known(tokens=pending.union(*(state.running for state in states)), removing=removing)

    def _remove(self, name: str) -> None:
        self._leftovers.adopted(name)
        self._ctx.claims.update(name, "")
        actor = self._actors.pop(name, None)
        run = self._runs.pop(name, None)
        if actor is None or run is None:
            return
        run.cancel()
        # sagas under way undo what they have not attached: nobody is left to publish it
        actor.state.instance_missing = True
        self._ctx.world.forget_instance(actor.state.instance_id)
        if self._ctx.settings.taint_nodes and is_tainted(self._ctx.nodes.get(name)):
            # nobody speaks for its addresses any more: its pods are no longer our affair
            self._ctx.tasks.spawn(self._untaint(name), name=f"{name}: taint")
        _log.info("node gone", node=name)

    async def _untaint(self, name: str) -> None:
        try:
            await bring(self._ctx, name, tainted=False)
        except (KubeError, NotLeading) as error:
            _log.warning("taint left behind", node=name, reason=error.reason, why=str(error))

    def _look_next(self) -> None:
        """One node of the row; the next comes its time later, also where the row was empty meanwhile."""
        self._look = None
        name = next(iter(self._to_look), None)
        if name is None:
            return
        del self._to_look[name]
        actor = self._actors.get(name)
        if actor is not None:
            actor.class_changed()
        self._look = asyncio.get_running_loop().call_later(1 / CLASS_WRITES_PER_S, self._look_next)

    async def _drift(self) -> None:
        """Each node's ENIs once per interval: in slices of nodes that are read together, evenly spread, jittered."""
        ctx = self._ctx
        interval_s = ctx.settings.drift_interval
        while True:
            slices = max(1, -(-len(self._actors) // SLICE_NODES))
            await asyncio.sleep(interval_s / slices * ctx.rng.uniform(0.9, 1.1))
            slices = max(1, -(-len(self._actors) // SLICE_NODES))
            count = -(-len(self._actors) // slices)
            oldest = sorted(self._actors.values(), key=_read_at)
            for actor in oldest[:count]:
                if not actor.state.instance_missing and _read_at(actor) < ctx.now() - interval_s / 2:
                    actor.read_again()


def _read_at(actor: Actor) -> float:
    return actor.state.enis_asked_at or 0.0


def _essence(node: Node | None) -> Any:
    """What decisions rest on: whose instance it is, the labels by which classes select, and our own taint."""
    if node is None:
        return None
    return instance_of(node.spec.provider_id), node.metadata.uid, node.metadata.labels or {}, is_tainted(node)
