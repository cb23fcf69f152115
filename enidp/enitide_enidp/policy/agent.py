"""Policy on this node as a task: mirrors fill the state, every burst of news is one flush, failures are tried again.

Mirrors start one after the other, the cheapest first, so that thousands of agents that start together ask for little
at once. Until all are filled nothing is written and no pod gets its policy: ADD waits, bounded, and says for what.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

from enitide_api.errors import CniError, EnitideError
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.settings import AgentSettings
from enitide_enidp.cni.request import TRY_LATER, bad
from enitide_enidp.datapath.types import EndpointPolicy
from enitide_enidp.policy.objects import (
    Fact,
    FactPod,
    PolicyObject,
    SlimNamespace,
    decode_namespace,
    fact_decoder,
    policy_decoder,
)
from enitide_enidp.policy.own import SlimIdentity, decode_identity
from enitide_enidp.policy.remote import Address, Packer, SlimBatch
from enitide_enidp.policy.state import Kernel, PolicyState
from enitide_enidp.waits import Waits
from enitide_ipam.records import PodRef
from enitide_kube.objects import HasMeta
from enitide_kube.port import (
    ENDPOINTBATCH,
    ENDPOINTSLICE,
    NAMESPACE,
    NODE,
    POLICIES,
    SECURITYIDENTITY,
    SERVICE,
    Kind,
    KubePort,
)
from enitide_kube.reflector import OnChange, Reflector
from enitide_policy.relevance import relevance_of_settings
from enitide_policy.relevance_book import RelevanceBook
from enitide_policy.servicekeys import ServiceKeys

IDENTITY_WAIT_S = 5.0
_AGAIN_S = 1.0
T = TypeVar("T", bound=HasMeta)

_log = get_logger("policy")


class PolicyAgent:
    """`run()` it as a task; it is the gate that ADD asks (`admit`, `attach`, `detach`)."""

    def __init__(
        self, kube: KubePort, kernel: Kernel, node: str, *, settings: AgentSettings, waits: Waits, rng: Random
    ) -> None:
        loop = asyncio.get_running_loop()
        self.state = PolicyState(kernel, loop.time, audit=settings.policy == "audit", host_policy=settings.host_policy)
        self.kernel = kernel
        self.policies: dict[str, PolicyObject] = {}
        self.failures = 0
        self._kube = kube
        self._waits = waits
        self._rng = rng
        self._loop = loop
        self._node = node
        self._host: EndpointPolicy | None = None
        self._packer = Packer(node)
        self._relevance = RelevanceBook(relevance_of_settings(settings.identity_labels))
        self._service_keys = ServiceKeys(self._relevance)
        self._news = asyncio.Event()
        self._wake = asyncio.Event()
        self._used: dict[str, asyncio.Event] = {"services": asyncio.Event(), "nodes": asyncio.Event()}

    # --- the gate of ADD ---------------------------------------------------------------------------------------------

    async def admit(self, pod: Callable[[], PodRef], is_gone: Callable[[], bool]) -> None:
        """Return once the pod could be given its policy; `CniError` IdentityPending after 5 s, or when nobody waits."""
        deadline = self._loop.time() + IDENTITY_WAIT_S
        while not self._may_come(who := pod()):
            left_s = deadline - self._loop.time()
            if left_s <= 0 or is_gone():
                raise self._pending(who)
            news = self._news
            try:
                async with asyncio.timeout(min(left_s, _AGAIN_S)):
                    await news.wait()
            except TimeoutError:
                continue

    def _may_come(self, pod: PodRef) -> bool:
        """A container that is no pod may always; a pod whose uid nobody said is not known yet."""
        if not pod.name and not pod.uid:
            return True
        return bool(pod.uid) and self.state.is_known(pod.uid)

    def _pending(self, pod: PodRef) -> CniError:
        why = self.state.own.why_not(pod.uid) if self.state.synced else "policies and identities are not read yet"
        return bad(f"{pod.namespace}/{pod.name}: {why}", TRY_LATER, Reason.IDENTITY_PENDING)

    def attach(self, owner: str, pod: PodRef, ifindex: int, addresses: Iterable[Address]) -> None:
        """The pod is wired and closed; its policy is in the kernel when this returns."""
        try:
            self.state.attach(owner, pod.uid, ifindex, addresses)
        except EnitideError:
            self.state.synced = False
            self._wake.set()
            raise

    def detach(self, owner: str) -> None:
        """It is gone."""
        try:
            self.state.detach(owner)
        except EnitideError as error:  # a stale record of an address that is nobody's: the next whole pass removes it
            self.state.synced = False
            self._waits.put_error("policy", error)
        self._wake.set()

    def adopt(self, owner: str, pod: PodRef, ifindex: int, addresses: Iterable[Address]) -> None:
        """It was here before this process."""
        self.state.adopt(owner, pod.uid, ifindex, addresses)

    def on_pod(self, _key: str, old: FactPod | None, new: FactPod | None) -> None:
        """For the reflector of this node's pods."""
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self.state.own.put(old.metadata.uid, None)
        if new is not None:
            self.state.own.put(new.metadata.uid, new.facts)
        self._changed()

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            slow = self._loop.call_later(IDENTITY_WAIT_S, self._tell_slow)
            try:
                await self._fill(group)
            finally:
                slow.cancel()
            self._wake.set()
            await self._flushes()

    def _tell_slow(self) -> None:
        self._waits.put("policy", Reason.IDENTITY_PENDING, "policies and identities are not read yet: no pod can start")

    async def _fill(self, group: asyncio.TaskGroup) -> None:
        state = self.state
        mirrors: list[Reflector[Any]] = [
            self._mirror(NAMESPACE, decode_namespace, self._on_namespace),
            *(
                self._mirror(kind, policy_decoder(kind, host_policy=state.host.enabled), self._on_policy, optional=True)
                for kind in POLICIES
            ),
            self._mirror(SECURITYIDENTITY, decode_identity, self._on_identity),
            self._mirror(ENDPOINTBATCH, self._packer.decode, self._on_batch),
        ]
        if state.host.enabled:
            fields = f"metadata.name={self._node}"
            mirrors.append(self._mirror(NODE, fact_decoder(NODE), self._on_own_node, fields=fields))
        for mirror in mirrors:
            group.create_task(mirror.run(), name=f"watch {mirror.kind.kind}")
            await mirror.synced.wait()
        on_demand = (
            ("services", ((SERVICE, self._on_service), (ENDPOINTSLICE, self._on_slice))),
            ("nodes", ((NODE, self._on_node),)),
        )
        for what, kinds in on_demand:
            filled = asyncio.Event()
            group.create_task(self._when_used(group, self._used[what], kinds, filled), name=f"watch {what}")
            if self._used[what].is_set():  # such a policy opens less until they are read; no pod waits longer for them
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDENTITY_WAIT_S):
                        await filled.wait()
        state.look_at_all()

    async def _when_used(
        self,
        group: asyncio.TaskGroup,
        used: asyncio.Event,
        kinds: tuple[tuple[Kind, OnChange[Fact]], ...],
        filled: asyncio.Event,
    ) -> None:
        await used.wait()
        for kind, on_change in kinds:
            mirror = self._mirror(kind, fact_decoder(kind), on_change)
            group.create_task(mirror.run(), name=f"watch {kind.kind}")
            await mirror.synced.wait()
        filled.set()

    async def _flushes(self) -> None:
        while True:
            self._write()
            timeout_s = self._timeout_s()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await asyncio.sleep(0)  # what was read in one piece is one flush

    def _timeout_s(self) -> float | None:
        now = self._loop.time()
        due = [at for at in (self.state.due_at, self._relevance.due_at) if at is not None]
        if not self.state.synced:
            due.append(now + _AGAIN_S)
        return max(0.01, min(due) - now) if due else None

    def _write(self) -> None:
        state = self.state
        relevance = self._relevance.current(self._loop.time())
        if relevance != state.own.relevance:
            state.own.set_relevance(relevance)
            state.look_at_all()
        try:
            if state.synced:
                state.flush()
            else:
                state.sync()
                gc.freeze()  # what was read stays: no collection has to walk it again in the middle of an event
                _log.info("policy in force", identities=len(state.identities.labels), endpoints=len(state.remote))
        except EnitideError as error:
            self.failures += 1
            state.synced = False  # all of it again: what the kernel has taken of this is not known
            self._waits.put_error("policy", error)
            return
        self._tell_closed()
        self._tell_held()
        self._tell_host()
        self._tell_news()

    def _tell_held(self) -> None:
        held = sorted(map(str, self.state.policies.held))
        if held:
            text = f"the operator has not given pods identities by the label keys of {len(held)} policies yet"
            text = f"{text}; until then they stay as they were, or closed where they are new: {', '.join(held[:5])}"
            self._waits.put("label keys", Reason.IDENTITY_PENDING, text)
        else:
            self._waits.clear("label keys")

    def _tell_host(self) -> None:
        why = self.state.host.why_not
        if why:
            self._waits.put("node policy", Reason.HOST_POLICY_PENDING, why)
        else:
            self._waits.clear("node policy")
        if self.state.host.told != self._host:
            self._host = self.state.host.told
            words = {None: "none", True: "enforced", False: "tracked"}
            _log.info("policy of the node", state=words[None if self._host is None else self._host.enforce])

    def _tell_closed(self) -> None:
        closed = self.kernel.closed
        if closed:
            owners = sorted(owner for owner, local in self.state.locals.items() if local.ruleset in closed)
            text = f"the policy of {len(owners)} pods does not fit into the kernel's map: {', '.join(owners[:5])}"
            self._waits.put("policy", Reason.POLICY_MAP_FULL, text)
        else:
            self._waits.clear("policy")

    def _tell_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # --- news --------------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._wake.set()

    def _on_namespace(self, name: str, _old: SlimNamespace | None, new: SlimNamespace | None) -> None:
        self.state.own.set_namespace(name, (new.metadata.labels or {}) if new is not None else None)
        self.state.look_at_all()
        self._changed()

    def _on_policy(self, key: str, old: PolicyObject | None, new: PolicyObject | None) -> None:
        found = new or old
        assert found is not None
        now = self._loop.time()
        name = str(found.ref)
        if new is None:
            self.policies.pop(name, None)
            self.state.policies.put(found.ref, ())
            self._relevance.put(name, None, now)
            self._service_keys.policy(name, (), now)
        else:
            self.policies[name] = new
            self.state.policies.put(new.ref, new.policies)
            self._relevance.put(name, new.relevance, now)
            self._service_keys.policy(name, new.services, now)
            for what, needed in (("services", new.services), ("nodes", new.nodes)):
                if needed:
                    self._used[what].set()
        _log.debug("policy heard", policy=key)
        self._changed()

    def _on_identity(self, name: str, old: SlimIdentity | None, new: SlimIdentity | None) -> None:
        self.state.identities.on_object(name, old, new)
        self._changed()

    def _on_batch(self, name: str, old: SlimBatch | None, new: SlimBatch | None) -> None:
        self.state.remote.on_batch(name, old, new)
        self._changed()

    def _on_service(self, _key: str, old: Fact | None, new: Fact | None) -> None:
        found = new or old
        assert found is not None
        key, service = (found.metadata.namespace, found.metadata.name), new.service if new else None
        self.state.engine.service(key, service)
        self._service_keys.service(key, service, self._loop.time())
        self._changed()

    def _on_slice(self, _key: str, old: Fact | None, new: Fact | None) -> None:
        found = new or old
        assert found is not None
        self.state.engine.backends((found.metadata.namespace, found.metadata.name), new.backends if new else ())
        self._changed()

    def _on_node(self, name: str, _old: Fact | None, new: Fact | None) -> None:
        self.state.engine.node(name, new.node if new else None)
        self._changed()

    def _on_own_node(self, _name: str, _old: Fact | None, new: Fact | None) -> None:
        if new is not None and new.node is not None:
            self.state.host.set_labels(new.node.labels)
        self._changed()

    def _mirror(
        self,
        kind: Kind,
        decoder: Callable[[bytes], T],
        on_change: OnChange[T],
        *,
        optional: bool = False,
        fields: str = "",
    ) -> Reflector[T]:
        subject = f"watch {kind.kind}"

        def on_state(reason: Reason | None, detail: str) -> None:
            if reason is None:
                self._waits.clear(subject)
            else:
                self._waits.put(subject, reason, detail)

        return Reflector(
            self._kube,
            kind,
            decoder,
            field_selector=fields,
            rng=self._rng,
            on_change=on_change,
            on_state=on_state,
            optional=optional,
        )
