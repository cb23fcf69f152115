"""`enitide agent` as a whole: what starts in which order, which loops run, how it ends.

Order matters twice. The socket listens before anything can be waited for, so that every wait can be seen and no call is
refused by a restart. And nothing is served before the journal, the kernel and (if it answers) the API server have been
read. At the end everything stays in place: packets flow, the conflist stays, the stamp says that we lived.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any, TypeVar

from enitide_api.errors import EnitideError, SettingsInvalid
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import ENINode, InstanceFacts, builtins
from enitide_api.settings import AgentSettings
from enitide_enidp import foreign, instance, probes, register
from enitide_enidp.boot import Stamp, boot_id, boottime_s, forget_earlier_boot
from enitide_enidp.cni import plugin
from enitide_enidp.cni.conflist import Conflist
from enitide_enidp.cni.request import Call
from enitide_enidp.core import Core
from enitide_enidp.datapath.types import AGENT_MARK
from enitide_enidp.journal import Journal
from enitide_enidp.memory import Memory
from enitide_enidp.netlink.monitor import Monitor
from enitide_enidp.netlink.reconciler import read_actual
from enitide_enidp.pods import BoundPods
from enitide_enidp.policy.agent import PolicyAgent
from enitide_enidp.policy.objects import FactPod, decode_fact_pod
from enitide_enidp.report import Reporter, decode
from enitide_enidp.server import views
from enitide_enidp.server.api import Api
from enitide_enidp.server.http import MAX_HEAD, Request, Server
from enitide_enidp.spool import Spool
from enitide_enidp.waits import Wait, Waits
from enitide_ipam.pool import Pool
from enitide_kube.client import HttpKube
from enitide_kube.events import EventRecorder, ObjectRef
from enitide_kube.objects import HasMeta
from enitide_kube.port import ENINODE, NODE, POD, Kind, KubePort
from enitide_kube.reflector import OnChange, Reflector

_STAMP_S = 5.0
_SPOOL_S = 1.0
_FIRST_READ_S = 3.0
T = TypeVar("T", bound=HasMeta)

_log = get_logger("agent")


class Agent:
    """`run()` it; it ends by cancellation or by an error that a restart may heal."""

    def __init__(self, settings: AgentSettings, node: str) -> None:
        self.settings = settings
        self.node = node
        self.waits = Waits(boottime_s)
        self.core: Core | None = None
        self.restored = asyncio.Event()
        self.instance: InstanceFacts | None = None
        self._started = boottime_s()
        self._rng = Random()  # noqa: S311 - jitter
        self._stamp = Stamp(settings.run_dir / "alive")
        self._spool = Spool(settings.run_dir / "spool")
        self._draining = asyncio.Lock()
        self._conflist = Conflist(
            settings.cni_conf_dir,
            network=settings.network_name,
            version=settings.cni_version,
            boot_id=boot_id(),
        )
        self._reporter: Reporter | None = None
        self._pods: BoundPods | None = None
        self.policy: PolicyAgent | None = None
        self._api = Api(self)

    async def run(self) -> None:
        """Until cancelled."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            # First what may refuse the settings: an agent that cannot start leaves the node as it was.
            kube = await stack.enter_async_context(
                HttpKube.connect(settings.kubeconfig or None, "enitide-agent", mark=AGENT_MARK)
            )
            self._conflist.start()
            if plugin.install(settings.cni_bin_dir):
                _log.info("plugin installed", folder=str(settings.cni_bin_dir))
            await self._listen(stack)
            core = await self._restore(stack, kube)
            assert self._reporter is not None
            assert self._pods is not None
            await self._serve(core, kube, self._reporter, self._pods)

    async def _listen(self, stack: AsyncExitStack) -> None:
        path = self.settings.run_dir / "agent.sock"
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)  # 0600 from the first moment
        try:
            server = await asyncio.start_unix_server(Server(self._api.on_socket), path, limit=MAX_HEAD, backlog=512)
        except OSError as error:  # a path of more than 107 bytes, above all
            raise SettingsInvalid(f"--run-dir: no socket at {path}: {error.strerror or error}") from error
        finally:
            os.umask(mask)
        await stack.enter_async_context(server)
        self._refresh_stamp()
        host, _, port = self.settings.metrics_address.rpartition(":")
        try:
            public = await asyncio.start_server(Server(self._api.on_tcp), host.strip("[]"), int(port), limit=MAX_HEAD)
        except (OSError, ValueError) as error:
            raise SettingsInvalid(f"--metrics-address {self.settings.metrics_address}: {error}") from error
        await stack.enter_async_context(public)
        _log.info("listening", socket=str(path), metrics=self.settings.metrics_address)

    # --- before the first call ---------------------------------------------------------------------------------------

    async def _restore(self, stack: AsyncExitStack, kube: KubePort) -> Core:
        self.instance = await instance.know(self.settings, self.waits, self._rng)
        forget_earlier_boot(self.settings.run_dir)
        journal = Journal(self.settings.run_dir / "journal")
        stack.callback(journal.close)
        memory = Memory(Pool(self.instance.id), journal, boottime_s)
        memory.restore()
        self._pods = BoundPods(memory)
        self._reporter = Reporter(
            kube,
            self.node,
            self.instance,
            memory,
            waits=self.waits,
            rng=self._rng,
            endpoints_now=self.settings.policy != "off",
        )
        if not await self._reporter.start(_FIRST_READ_S):
            self.waits.put("api", Reason.API_UNAVAILABLE, "the API server does not answer; going by the journal")
        core = Core(self.settings, memory, self.waits, self._pods.resolve)
        stack.push_async_callback(core.close)
        core.on_pass = self._on_pass
        self.core = core
        await core.start()
        self._put_gate(kube, core)
        await self.drain_spool()
        self.restored.set()
        _log.info("restored", pods=len(core.endpoints.live), instance=self.instance.id, adopted=core.datapath.adopted)
        return core

    def _put_gate(self, kube: KubePort, core: Core) -> None:
        """Before the first call is served: from now on no pod is wired without its policy."""
        if self.settings.policy == "off":
            return
        self.policy = PolicyAgent(
            kube, core.datapath.policy, self.node, settings=self.settings, waits=self.waits, rng=self._rng
        )
        core.endpoints.gate = self.policy
        for live in core.endpoints.live.values():
            self.policy.adopt(live.owner, live.pod, live.ifindex, live.addresses)

    # --- the loops ---------------------------------------------------------------------------------------------------

    async def _serve(self, core: Core, kube: KubePort, reporter: Reporter, pods: BoundPods) -> None:
        core.memory.on_change(core_waker(core))
        events = EventRecorder(kube, "enitide.io/agent", self.node, rng=self._rng)
        self.waits.listener = self._event_of(events)
        core.on_undone = self._undone_event_of(events)
        for text in core.datapath.lost:
            about = ObjectRef(NODE, self.node)
            events.record(about, Reason.CONNECTIONS_NOT_CARRIED, text, action="Upgrading", event_type="Warning")
        eninodes = self._mirror(kube, ENINODE, decode, f"metadata.name={self.node}", self._on_eninode)
        bound = self._mirror(kube, POD, decode_fact_pod, f"spec.nodeName={self.node}", pods.on_change)
        if self.policy is not None:
            bound.add_callback(self.policy.on_pod)
        monitor = Monitor(core.wake, core)
        monitor.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(core.run(), name="passes")
                group.create_task(core.collect(), name="connections")
                group.create_task(self._stamp_loop(), name="stamp")
                group.create_task(self._spool_loop(), name="spool")
                group.create_task(eninodes.run(), name="eninode")
                group.create_task(bound.run(), name="pods")
                group.create_task(events.run(), name="events")
                group.create_task(self._drop_stale(bound, pods), name="stale")
                group.create_task(self._report(kube, reporter), name="report")
                if self.policy is not None:
                    group.create_task(self.policy.run(), name="policy")
        finally:
            monitor.close()

    def _mirror(
        self, kube: KubePort, kind: Kind, decoder: Callable[[bytes], T], fields: str, on_change: OnChange[T]
    ) -> Reflector[T]:
        return Reflector(
            kube,
            kind,
            decoder,
            field_selector=fields,
            rng=self._rng,
            on_change=on_change,
            on_state=self._on_api_state,
        )

    async def _report(self, kube: KubePort, reporter: Reporter) -> None:
        assert self.instance is not None
        await register.verified_node(kube, self.node, self.instance.id, self.waits, self._rng)
        await reporter.run()

    async def _drop_stale(self, bound: Reflector[FactPod], pods: BoundPods) -> None:
        await bound.synced.wait()
        pods.drop_stale()

    async def _stamp_loop(self) -> None:
        while True:
            self._refresh_stamp()
            await asyncio.sleep(_STAMP_S)

    def _refresh_stamp(self) -> None:
        """It speaks for an agent that is away; that it cannot be written (a full tmpfs) must not take this one away."""
        try:
            self._stamp.refresh()
        except OSError as error:
            self.waits.put("alive", Reason.JOURNAL_FAILED, f"{self.settings.run_dir}: {error.strerror}")
        else:
            self.waits.clear("alive")

    async def _spool_loop(self) -> None:
        while True:
            await self.drain_spool()
            await asyncio.sleep(_SPOOL_S)

    def queue(self, call: Call, request: Request) -> None:
        """Keep a DEL for later: a pod can always be removed, also while the agent waits for its identity."""
        self._spool.put(call, request.head.headers, request.body)

    async def drain_spool(self) -> None:
        """Do the DELs that came while nobody listened. One at a time; a failure leaves the file for the next try."""
        if self.core is None or self._draining.locked():
            return
        async with self._draining:
            for path, call in self._spool.waiting():
                try:
                    await self.core.endpoints.delete(call)
                except EnitideError as error:
                    _log.warning("queued DEL not done yet", owner=call.owner, error=str(error))
                else:
                    self._spool.done(path)
                    _log.info("queued DEL done", owner=call.owner)

    # --- what is heard -----------------------------------------------------------------------------------------------

    def _on_eninode(self, _key: str, _old: ENINode | None, new: ENINode | None) -> None:
        assert self._reporter is not None
        before = self.core.memory.pool.interfaces() if self.core else ()
        self._reporter.observe(new)
        if self.core is not None and self.core.memory.pool.interfaces() != before:
            self.core.wake()

    def _on_api_state(self, reason: Reason | None, detail: str) -> None:
        if reason is None:
            self.waits.clear("api")
        else:
            self.waits.put("api", reason, detail)

    def _on_pass(self) -> None:
        """The conflist makes the node Ready: only once an ENI is configured that has addresses for pods."""
        if self.core is None or not self.core.outcome.ready or not self.core.memory.pool.provisioned():
            return
        try:
            if self._conflist.install():
                _log.info("conflist installed", path=str(self._conflist.path))
            self.waits.clear("conflist")
        except OSError as error:
            text = f"{self._conflist.path} cannot be written: {error.strerror}"
            self.waits.put("conflist", Reason.SETTINGS_INVALID, text)

    def _event_of(self, events: EventRecorder) -> Callable[[Wait], None]:
        about = ObjectRef(NODE, self.node)

        def record(wait: Wait) -> None:
            events.record(about, wait.reason, wait.message, action="Waiting", event_type="Warning")

        return record

    def _undone_event_of(self, events: EventRecorder) -> Callable[[str], None]:
        about = ObjectRef(NODE, self.node)

        def record(what: str) -> None:
            note = f"the system configured an ENI of ours, which was undone: {what}"
            events.record(about, Reason.FOREIGN_CONFIGURATION, note, action="Undoing", event_type="Warning")

        return record

    def status(self, when: views.When) -> dict[str, Any]:
        """What `/v1/status` shows."""
        core = self.core
        return {
            "node": self.node,
            "instance": builtins(self.instance) if self.instance is not None else None,
            "since": when(self._started),
            "restored": self.restored.is_set(),
            "conflist": str(self._conflist.path) if self._conflist.installed else None,
            "pods": len(core.endpoints.live) if core else 0,
            "bound": self._pods.count() if self._pods else 0,
            "demand": builtins(core.memory.pool.demand(boottime_s())) if core else None,
            "provisioned": core.memory.pool.provisioned() if core else 0,
            "yielded": list(core.memory.pool.yielded()) if core else [],
            "interfaces": len(core.memory.pool.interfaces()) if core else 0,
            "ready": len(core.outcome.ready) if core else 0,
            "writes": self._reporter.writes if self._reporter else 0,
            "undone": dict(core.undone) if core else {},
            "repairs": dict(core.repairs) if core else {},
            "waits": views.waits(self.waits, when),
        }


def core_waker(core: Core) -> Callable[[], None]:
    """A pass when what is published has changed; other changes of the pool concern no device."""
    seen = core.memory.pool.interfaces()

    def look() -> None:
        nonlocal seen
        now = core.memory.pool.interfaces()
        if now != seen:
            seen = now
            core.wake()

    return look


def node_name(settings: AgentSettings) -> str:
    """The setting, else NODE_NAME, else the host's name."""
    return settings.node_name or os.environ.get("NODE_NAME", "") or socket.gethostname()


async def run(settings: AgentSettings) -> None:
    """Check the node, then run the agent until cancelled."""
    probes.require_root()
    probes.require_kernel(platform.release())
    actual = read_actual()
    foreign.refuse((*foreign.conflist_signs(settings.cni_conf_dir), *foreign.kernel_signs(actual.links, actual.rules)))
    lock = probes.lock(settings.run_dir)
    try:
        await Agent(settings, node_name(settings)).run()
    finally:
        os.close(lock)
