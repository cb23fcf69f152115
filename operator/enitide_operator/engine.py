"""The whole operator on its two ports: caches always warm, a fleet of actors while this process leads.

A follower watches and calls no EC2. Each term starts with nothing believed about EC2, so that a node's ENIs are read
before its first action. Whoever embeds it (the command, the simulator) gives ports, clock, random source and election.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, TypeVar

from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import DEFAULT_CLASS, Condition, ENIClass, ENINode, decode
from enitide_api.settings import OperatorSettings
from enitide_ipam.limits import InstanceLimits, limits_for
from enitide_ipam.model import PlanSettings
from enitide_kube.events import EventRecorder, ObjectRef
from enitide_kube.objects import HasMeta, Node, decode_node
from enitide_kube.port import ENICLASS, ENINODE, LEASE, NODE, POD, Kind, KubePort
from enitide_kube.reflector import OnChange, Reflector
from enitide_operator.book import Book
from enitide_operator.claims import Claims
from enitide_operator.class_status import ClassReporter, ClassView
from enitide_operator.classes import ClassBook
from enitide_operator.conditions import CLASS, SWEEP, OperatorConditions
from enitide_operator.context import Context
from enitide_operator.directory import Directory
from enitide_operator.discovery import Discovery
from enitide_operator.ec2.budget import Budget, Size
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.merge import InterfaceReader
from enitide_operator.ec2.port import Ec2Port
from enitide_operator.elastic import ElasticBook
from enitide_operator.fleet import Fleet
from enitide_operator.gauges import FleetState, Seen
from enitide_operator.mapping import MapReader
from enitide_operator.metrics import Metrics
from enitide_operator.pods import BoundPods, SlimPod, decode_slim
from enitide_operator.preview import document
from enitide_operator.tasks import Tasks
from enitide_operator.term import Term, TermGate
from enitide_operator.world import SETTLE_S, World

_log = get_logger(__name__)

T = TypeVar("T", bound=HasMeta)


class Engine:
    """`run()` as a task until cancelled; `lead(may_mutate)` and `follow()` as the election says; `drain` at the end.

    `now`: Unix seconds that never jump back. `nonce`: this process's alone, in client tokens. `gate`: given to the wire
    too, so that it is asked next to each send. `limits`: the shipped table of instance types.
    """

    def __init__(
        self,
        kube: KubePort,
        ec2: Ec2Port,
        settings: OperatorSettings,
        *,
        gate: TermGate,
        metrics: Metrics,
        now: Callable[[], float],
        rng: Random,
        identity: str,
        limits: Callable[[str], InstanceLimits | None] = limits_for,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._gate = gate
        self._metrics = metrics
        self._now = now
        self._rng = rng
        self._limits = limits
        sizes = {verb: Size(bucket.rate, bucket.burst) for verb, bucket in settings.budget.items()}
        self._budget = Budget(sizes)
        self._gateway = Gateway(
            ec2, self._budget, gate, metrics, now=now, rng=rng, call_timeout_s=settings.call_timeout
        )
        self._plan_settings = PlanSettings(
            cluster_name=settings.cluster_name,
            nonce=f"{rng.getrandbits(64):016x}",
            call_timeout_s=settings.call_timeout,
            report_interval_s=settings.report_interval,
        )
        self.events = EventRecorder(
            kube, "enitide.io/operator", identity, rng=rng, on_failed=lambda why: metrics.events_lost.labels(why).inc()
        )
        lease = ObjectRef(LEASE, settings.lease_name, settings.lease_namespace)
        self._conditions = OperatorConditions(
            kube, lease, self.events, gauge=metrics.condition, now=now, leading=lambda: self._fleet is not None
        )
        self.classes = ClassBook()
        self.pods = BoundPods(self._on_pods)
        self.class_reporter = ClassReporter(kube, metrics, rng, now)
        self.directory = self._new_directory() if settings.policy != "off" else None
        self._eninodes = self._reflector(ENINODE, lambda raw: decode(raw, ENINode), self._on_eninode)
        self._nodes: Reflector[Node] = self._reflector(NODE, decode_node, self._on_node)
        self._pods: Reflector[SlimPod] = self._reflector(POD, decode_slim, self._on_pod)
        self._classes = self._reflector(ENICLASS, lambda raw: decode(raw, ENIClass), self._on_class)
        self._fleet: Fleet | None = None
        self._ctx: Context | None = None
        metrics.watch(self.seen, per_node=settings.node_metrics)

    # --- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep caches warm and Events flowing until cancelled. An exception here is a bug and ends the process."""
        async with asyncio.TaskGroup() as group:
            for reflector in (self._eninodes, self._nodes, self._pods, self._classes):
                group.create_task(reflector.run(), name=f"watch {reflector.kind.kind}")
            group.create_task(self.events.run(), name="events")
            group.create_task(self._conditions.run(), name="conditions")
            group.create_task(self.class_reporter.run(self._class_view), name="classes")
            if self.directory is not None:
                group.create_task(self.directory.run(), name="directory")

    async def synced(self) -> None:
        """Return when all caches have been filled once: nothing may be decided before."""
        for reflector in (self._eninodes, self._nodes, self._pods, self._classes):
            await reflector.synced.wait()

    @property
    def ready(self) -> bool:
        """Whether all caches have been filled once."""
        return all(each.synced.is_set() for each in (self._eninodes, self._nodes, self._pods, self._classes))

    @property
    def leading(self) -> bool:
        """Whether a term is on."""
        return self._fleet is not None

    def lead(self, may_mutate: Callable[[], bool]) -> None:
        """A term begins. All caches must be filled."""
        self.follow()
        term = Term(may_mutate)
        self._gate.current = term
        self._ctx = self._context(term)
        self._fleet = Fleet(self._ctx, self._conditions)
        self._metrics.leader.set(1)
        _log.info("leading", nodes=len(self._eninodes.store))
        if not self._settings.cluster_name:
            sentence = "no cluster name: leaked ENIs are not looked for; start the operator with --cluster-name"
            self._conditions.tell(SWEEP, Reason.NO_CLUSTER_NAME, sentence, ok=False)
        self._tell_default_class()
        self._conditions.write()
        self._fleet.start(self._eninodes.store.values())
        if self.directory is not None:
            self.directory.lead(term)

    def follow(self) -> None:
        """The term, if any, is over: nothing is decided or sent any more; calls under way are abandoned."""
        if self._fleet is None or self._ctx is None:
            return
        self._ctx.term.end()
        self._gate.current = None
        if self.directory is not None:
            self.directory.follow()
        self._fleet.stop()
        self._ctx.reader.close()
        self._ctx.actors.cancel()
        self._ctx.tasks.cancel()
        self._fleet = self._ctx = None
        self._metrics.leader.set(0)
        _log.info("following")

    async def drain(self) -> None:
        """End the term cleanly: no new decision, no new call; return when EC2's reads show what the last calls did.

        The next leader starts at once, and would take an older picture for true.
        What a saga has not finished stands in status.pending: the next leader finishes it.
        """
        if self._fleet is None or self._ctx is None:
            return
        self._fleet.stop()
        self._ctx.term.end()
        await self._gateway.settled(SETTLE_S)
        self.follow()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the operator says of itself, as it last led."""
        return self._conditions.all

    def state(self) -> FleetState:
        """Of all nodes; all zero but their number while following."""
        return self._fleet.state() if self._fleet is not None else FleetState(nodes=len(self._eninodes.store))

    def seen(self) -> Seen:
        """For metrics: no subnet and no age while following, since a follower reads no EC2."""
        ctx = self._ctx
        subnets = ctx.book.gauges(ctx.now()) if ctx is not None else ()
        ages = ctx.discovery.ages() if ctx is not None else {}
        leaked = self._fleet.leaked if self._fleet is not None else None
        known = self.directory.state() if self.directory is not None else {}
        return Seen(self.state(), self._budget.states(), subnets, ages, leaked, known)

    async def preview(self, node: str = "") -> dict[str, Any] | None:
        """What the next pass would do and cost, of one node or of all; None while following. Changes nothing."""
        if self._fleet is None:
            return None
        return document(await self._fleet.previews(node), self._budget.states())

    # --- inside ----------------------------------------------------------------------------------------------------

    def _new_directory(self) -> Directory:
        return Directory(
            self._kube,
            self._settings,
            metrics=self._metrics,
            events=self.events,
            now=self._now,
            rng=self._rng,
            node_count=lambda: len(self._eninodes.store),
            is_fresh=lambda within_s: all(each.is_fresh(within_s) for each in (self._eninodes, self._pods)),
        )

    def _context(self, term: Term) -> Context:
        bug = self._metrics.internal_errors.inc
        tasks, book = Tasks(bug), Book()
        return Context(
            kube=self._kube,
            gateway=self._gateway,
            reader=InterfaceReader(partial(self._gateway.interfaces, patient=False)),
            discovery=Discovery(
                self._gateway,
                book,
                interval_s=self._settings.discovery_interval,
                rng=self._rng,
                tasks=tasks,
                on_vpc=self._on_vpc,
                on_limits=self._on_limits,
                table=self._limits,
                on_read=self._metrics.vpc_read,
            ),
            maps=MapReader(
                self._gateway,
                book,
                cluster=self._settings.cluster_name,
                interval_s=self._settings.discovery_interval,
                rng=self._rng,
                tasks=tasks,
                now=self._now,
                instances=self._instances,
                on_map=lambda subnet_id: self._on_vpc(book.vpc_of(subnet_id)),
            ),
            elastic=ElasticBook(self._gateway, tasks, self._rng, self._on_elastic),
            world=World(self._settings.cluster_name),
            book=book,
            classes=self.classes,
            pods=self.pods,
            nodes=self._nodes.store,
            node_count=lambda: len(self._eninodes.store),
            events=self.events,
            metrics=self._metrics,
            actors=Tasks(bug),
            tasks=tasks,
            term=term,
            settings=self._settings,
            plan_settings=self._plan_settings,
            now=self._now,
            rng=self._rng,
            began_at=self._now(),
            claims=Claims(self._on_claim),
        )

    def _reflector(self, kind: Kind, decoder: Callable[[bytes], T], on_change: OnChange[T]) -> Reflector[T]:
        def on_state(reason: Reason | None, detail: str) -> None:
            if reason is None:
                _log.info("watching again", kind=kind.kind)
            else:
                _log.warning("watch failed", kind=kind.kind, reason=reason, why=detail)

        return Reflector(self._kube, kind, decoder, rng=self._rng, on_change=on_change, on_state=on_state)

    def _on_eninode(self, name: str, old: ENINode | None, new: ENINode | None) -> None:
        if self.directory is not None:
            self.directory.on_eninode(name, old, new)
        if self._fleet is not None:
            self._fleet.on_eninode(name, old, new)

    def _on_node(self, name: str, old: Node | None, new: Node | None) -> None:
        if self.directory is not None:
            self.directory.join.on_node(name, old, new)
        if self._fleet is not None:
            self._fleet.on_node(name, old, new)

    def _on_pod(self, key: str, old: SlimPod | None, new: SlimPod | None) -> None:
        self.pods.on_change(key, old, new)
        if self.directory is not None:
            self.directory.on_pod(key, old, new)

    def _on_pods(self, node: str) -> None:
        if self._fleet is not None:
            self._fleet.on_pods(node)

    def _on_class(self, name: str, old: ENIClass | None, new: ENIClass | None) -> None:
        self.classes.on_change(name, old, new)
        if name == DEFAULT_CLASS and self.leading:
            self._tell_default_class()
        # our own status writes come back as changes: only another spec is one
        if self._fleet is not None and (old is None or new is None or old.spec != new.spec):
            self._fleet.on_classes()

    def _tell_default_class(self) -> None:
        if DEFAULT_CLASS in self._classes.store:
            self._conditions.tell(CLASS, Reason.CLASS_VALID, "there is an ENIClass named default", ok=True)
            return
        sentence = "there is no ENIClass named default: nodes that no other class selects go by the built-in defaults"
        self._conditions.tell(CLASS, Reason.CLASS_MISSING, sentence, ok=False)

    def _on_claim(self, node: str) -> None:
        if self._fleet is not None:
            self._fleet.wake(node)

    def _on_vpc(self, vpc_id: str) -> None:
        if self._fleet is not None:
            self._fleet.on_vpc(vpc_id)

    def _instances(self) -> frozenset[str]:
        """Ids of our nodes' instances."""
        return self._fleet.instances() if self._fleet is not None else frozenset()

    def _on_elastic(self, tags: Mapping[str, str]) -> None:
        if self._fleet is not None:
            self._fleet.on_elastic(tags)

    def _on_limits(self, instance_type: str) -> None:
        if self._fleet is not None:
            self._fleet.on_limits(instance_type)

    def _class_view(self) -> ClassView | None:
        """What the class reporter writes from; None while following."""
        if self._fleet is None or self._ctx is None:
            return None
        return ClassView(self._ctx.term, self._classes.store, self._fleet.summaries())
