"""Who is who in the cluster, and where: identities of pods, and the records that tell every agent of them.

Its mirrors and its ledger are kept warm while following; a term starts the two writers, each of which first reads what
the last leader left. The engine owns the mirrors of pods, nodes and ENINodes and passes their news on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import msgspec

from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import KEYS_BATCH, EndpointBatch, ENINode, SecurityIdentity, decode
from enitide_api.settings import OperatorSettings
from enitide_kube.events import EventRecorder, ObjectRef
from enitide_kube.objects import HasMeta, Meta
from enitide_kube.port import ENDPOINTBATCH, ENINODE, NAMESPACE, POLICIES, SECURITYIDENTITY, SERVICE, Kind, KubePort
from enitide_kube.reflector import OnChange, Reflector
from enitide_operator.batches.join import Join
from enitide_operator.batches.keys import Announcer
from enitide_operator.batches.publisher import Publisher
from enitide_operator.identities.ledger import Ledger
from enitide_operator.identities.writer import Writer
from enitide_operator.metrics import Metrics
from enitide_operator.pods import SlimPod
from enitide_operator.policybook import PolicyBook
from enitide_operator.policykeys import (
    PolicyKeys,
    ServiceFact,
    SlimNamespace,
    decode_service,
    policy_decoder,
)
from enitide_operator.tasks import Tasks
from enitide_operator.term import Term
from enitide_policy.labels import PodFacts
from enitide_policy.relevance import relevance_of_settings
from enitide_policy.relevance_book import RelevanceBook
from enitide_policy.servicekeys import ServiceKeys

SERVICES_WAIT_S = 5.0
FRESH_S = 660.0  # the longest a watch lasts, and its grace
T = TypeVar("T", bound=HasMeta)

_log = get_logger(__name__)


class Directory:
    """`run()` as a task until cancelled; `lead(term)` and `follow()` as the election says. `now`: Unix seconds."""

    def __init__(
        self,
        kube: KubePort,
        settings: OperatorSettings,
        *,
        metrics: Metrics,
        events: EventRecorder,
        now: Callable[[], float],
        rng: Random,
        node_count: Callable[[], int],
        is_fresh: Callable[[float], bool],
    ) -> None:
        """`is_fresh(within_s)`: whether the engine's own mirrors may be believed in what they do not show."""
        self._kube = kube
        self._rng = rng
        self._metrics = metrics
        self._events = events
        self._now = now
        self._is_engine_fresh = is_fresh
        self._relevance = RelevanceBook(relevance_of_settings(settings.identity_labels))
        self.ledger = Ledger(settings.cluster_id, now, self._on_entry, self._on_moved, self._relevance.current(now()))
        self.writer = Writer(kube, self.ledger, rng, self._is_fresh, metrics.wrote, metrics.foreign_writes)
        self.publisher = Publisher(
            kube,
            rng,
            node_count,
            self.ledger.on_record,
            metrics.wrote,
            metrics.endpoint_seconds.observe,
            metrics.foreign_writes,
        )
        self.join = Join(self.ledger.identity_of, self.publisher.put, self._doubt)
        self.announcer = Announcer(kube, rng, self.ledger, self.publisher, metrics.wrote)
        self._identities = self._mirror(
            SECURITYIDENTITY, lambda raw: decode(raw, SecurityIdentity), self.writer.on_object
        )
        self._batches = self._mirror(ENDPOINTBATCH, decode_batch_head, self._on_batch)
        self._namespaces = self._mirror(NAMESPACE, msgspec.json.Decoder(SlimNamespace).decode, self._on_namespace)
        self._policies = [
            self._mirror(
                kind,
                policy_decoder(kind, host_policy=settings.host_policy),
                self._policy_of(kind),
                optional=True,
            )
            for kind in POLICIES
        ]
        self.policies = PolicyBook(kube, rng, events, metrics, now=now, is_leading=lambda: self._tasks is not None)
        self._service_keys = ServiceKeys(self._relevance)
        self._services = self._mirror(SERVICE, decode_service, self._on_service)
        self._names_services = asyncio.Event()
        self._rekey = asyncio.Event()
        self._settled = asyncio.Event()
        self._tasks: Tasks | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    @property
    def mirrors(self) -> list[Reflector[Any]]:
        """All that must be filled before anything is decided."""
        return [self._identities, self._batches, self._namespaces, *self._policies]

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for mirror in self.mirrors:
                group.create_task(mirror.run(), name=f"watch {mirror.kind.kind}")
            group.create_task(self._watch_services(), name="watch Service")
            group.create_task(self._rekey_loop(), name="re-key")

    async def _watch_services(self) -> None:
        """Only once a policy names one."""
        await self._names_services.wait()
        await self._services.run()

    def lead(self, term: Term) -> None:
        """A term begins."""
        self.follow()
        self._tasks = Tasks(self._metrics.internal_errors.inc)
        self._tasks.spawn(self._work(term), name="directory")

    async def _work(self, term: Term) -> None:
        """Nothing is decided before all is known: else a restart would make, and take away, what is right as it is."""
        for mirror in self.mirrors:
            await mirror.synced.wait()
        self._rekey.set()
        await self._settled.wait()
        self.policies.tell_all()
        await self.announcer.begin(term)
        self._rekey.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.writer.run(term), name="identities")
            group.create_task(self.publisher.run(term, self._replay), name="endpoint batches")
            group.create_task(self.announcer.run(term), name="announced keys")
            group.create_task(self.policies.run(term), name="status of policies")

    def follow(self) -> None:
        """It is over."""
        if self._tasks is not None:
            self._tasks.cancel()
            self._tasks = None
        self.announcer.end()

    def _replay(self) -> set[str]:
        self.join.replay()
        return self.join.owners()

    def _is_fresh(self) -> bool:
        return self._is_engine_fresh(FRESH_S) and all(mirror.is_fresh(FRESH_S) for mirror in self.mirrors)

    # --- news ------------------------------------------------------------------------------------------------------

    def on_pod(self, key: str, old: SlimPod | None, new: SlimPod | None) -> None:
        """From the engine's mirror."""
        before = old.facts if old is not None and old.wants_identity else None
        after = new.facts if new is not None and new.wants_identity else None
        self.ledger.on_pod(before, after)
        self.join.on_pod(key, old, new)

    def _on_namespace(self, name: str, _old: SlimNamespace | None, new: SlimNamespace | None) -> None:
        self.ledger.on_namespace(name, (new.metadata.labels or {}) if new is not None else None)

    def _on_batch(self, name: str, _old: BatchHead | None, new: BatchHead | None) -> None:
        if name == KEYS_BATCH:
            self.announcer.on_object(decode(new.raw, EndpointBatch) if new is not None else None)
        elif new is None:
            self.publisher.on_object(name, None)
        elif self.publisher.layout is not None:
            self.publisher.on_object(name, decode(new.raw, EndpointBatch))
            new.raw = b""

    def _on_entry(self, name: str) -> None:
        self.writer.add(name)

    def _on_moved(self, facts: PodFacts) -> None:
        self.join.moved(facts)

    def _policy_of(self, kind: Kind) -> OnChange[PolicyKeys]:
        def on_change(key: str, old: PolicyKeys | None, new: PolicyKeys | None) -> None:
            self.policies.on_policy(kind, old, new)
            name, now = (kind.kind, key), self._now()
            self._relevance.put(name, new.relevance if new is not None else None, now)
            self._service_keys.policy(name, new.services if new is not None else (), now)
            if new is not None and any(not peer.addresses for peer in new.services):
                self._names_services.set()
            self._rekey.set()

        return on_change

    def _on_service(self, _key: str, old: ServiceFact | None, new: ServiceFact | None) -> None:
        found = new or old
        assert found is not None
        key = (found.metadata.namespace, found.metadata.name)
        self._service_keys.service(key, new.service if new is not None else None, self._now())
        self._rekey.set()

    async def _rekey_loop(self) -> None:
        """Follow the policies' keys: at once where one is new, later where nobody names one any more."""
        while True:
            due_at = self._relevance.due_at
            try:
                async with asyncio.timeout(None if due_at is None else max(0.0, due_at - self._now()) + 0.1):
                    await self._rekey.wait()
            except TimeoutError:
                pass
            self._rekey.clear()
            for mirror in self._policies:
                await mirror.synced.wait()
            await self._wait_for_services()
            relevance = self._relevance.current(self._now())
            await self.announcer.narrow(relevance)
            for _ in self.ledger.rekey(relevance):
                await asyncio.sleep(0)
            self.announcer.rekeyed()
            self._settled.set()

    async def _wait_for_services(self) -> None:
        """No longer than a moment: without the right to read them the keys of policies must count all the same."""
        if self._names_services.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SERVICES_WAIT_S):
                    await self._services.synced.wait()

    def _doubt(self, node: str, sentence: str) -> None:
        self._metrics.endpoints_doubted.inc()
        _log.warning("endpoint not believed", node=node, reason=Reason.ENDPOINT_NOT_BELIEVED, why=sentence)
        ref = ObjectRef(ENINODE, node)
        self._events.record(ref, Reason.ENDPOINT_NOT_BELIEVED, sentence, action="Ignoring", event_type="Warning")

    def on_eninode(self, name: str, old: ENINode | None, new: ENINode | None) -> None:
        """From the engine's mirror."""
        self.join.on_eninode(name, old, new)

    def state(self) -> Mapping[str, float]:
        """For metrics: identities and numbers, batches and records."""
        layout = self.publisher.layout
        return {
            "identities": len(self.ledger.entries),
            "numbers": self.ledger.numbers_in_use,
            "batches": len(layout.batches) if layout is not None else 0,
            "endpoints": len(layout.want) if layout is not None else 0,
        }

    def _mirror(
        self, kind: Kind, decoder: Callable[[bytes], T], on_change: OnChange[T], *, optional: bool = False
    ) -> Reflector[T]:
        def on_state(reason: Reason | None, detail: str) -> None:
            if reason is None:
                _log.info("watching again", kind=kind.kind)
            else:
                _log.warning("watch failed", kind=kind.kind, reason=reason, why=detail)

        return Reflector(
            self._kube, kind, decoder, rng=self._rng, on_change=on_change, on_state=on_state, optional=optional
        )


@dataclass(slots=True)
class BatchHead:
    """A batch in the mirror. `raw` goes once it was looked at: what a batch holds is known to the layout."""

    metadata: Meta
    raw: bytes


def decode_batch_head(raw: bytes) -> BatchHead:
    """An EndpointBatch's bytes."""
    return BatchHead(msgspec.json.decode(raw, type=SlimNamespace).metadata, raw)
