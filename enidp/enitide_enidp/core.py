"""The node's network once its identity is known: pool, datapath, routes and pods, held together by passes.

`start` adopts what an earlier process left, without touching a packet in flight; each `reconcile` compares published
ENIs and live pods with the kernel, tells pool and datapath what is ready, and sweeps what nobody owns. It needs no API
server: what is published comes from the pool.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from enitide_api.errors import EnitideError
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.settings import AgentSettings
from enitide_enidp.datapath import Datapath, Eni, NodeConfig, Routing
from enitide_enidp.endpoints import adoption
from enitide_enidp.endpoints.life import Endpoints
from enitide_enidp.memory import Memory
from enitide_enidp.netlink.facts import SCOPE_UNIVERSE, IPAddress, Route
from enitide_enidp.netlink.numbers import HOST_PREFIX, PODS_TABLE
from enitide_enidp.netlink.reconciler import Outcome, Reconciler, read_actual
from enitide_enidp.netlink.sock import RouteSocket
from enitide_enidp.netlink.wanted import Device
from enitide_enidp.numbering import Numbering
from enitide_enidp.waits import Waits
from enitide_ipam.records import PodRef

PERIOD_S = 30.0
_DEBOUNCE_S = 0.05
_SPACING_S = 0.25  # two passes are at least this far apart, so that a storm of changes costs little
_ATTACHMENT_PASSES = 10  # every so many passes, what hangs on the devices and stands in policy maps is compared too
_COLLECT_S, _COLLECT_ENTRIES = 1.0, 1024  # a full table of connections is gone through in about four minutes

_log = get_logger("core")


def node_config(settings: AgentSettings) -> NodeConfig:
    """The datapath's constants from the agent's settings."""
    routing = Routing.DIRECT if settings.forwarding == "redirect" else Routing.STACK
    return NodeConfig(routing=routing, policy=settings.policy != "off")


class Core:
    """Make it, `start` it, then `run` it as a task.

    `on_pass` is called after every pass, `on_undone` for each foreign configuration that was removed.
    """

    def __init__(
        self, settings: AgentSettings, memory: Memory, waits: Waits, resolve: Callable[[PodRef], PodRef]
    ) -> None:
        self.memory = memory
        self.outcome = Outcome()
        self.last_pass = 0.0
        self.undone: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.on_pass: Callable[[], None] = lambda: None
        self.on_undone: Callable[[str], None] = lambda _what: None
        self.route = RouteSocket()
        self.datapath = Datapath.open(settings.pin_dir, node_config(settings))
        self.endpoints = Endpoints(
            memory, self.datapath, self.route, add_wait_s=settings.add_wait, mtu=settings.mtu, resolve=resolve
        )
        for text in self.datapath.lost:
            _log.warning("connections not carried over", reason=Reason.CONNECTIONS_NOT_CARRIED, what=text)
        self._waits = waits
        self._reconciler = Reconciler(self.route, self._pod_addresses)
        self._numbering = Numbering(Path(settings.run_dir) / "interfaces.json")
        self._attached: dict[int, Eni] = {}
        self._wake = asyncio.Event()
        self._passes = 0

    async def start(self) -> None:
        """Adopt, repair, sweep; afterwards calls can be served."""
        links = (await asyncio.to_thread(read_actual)).links
        adoption.adopt(self.endpoints, self.memory, links)
        await self.reconcile(first=True)
        adoption.sync(self.endpoints, self.datapath)
        enis = self._attached.values()
        self._count_repairs(self.datapath.reconcile_attachments(self._pod_devices(), enis))

    def wake(self) -> None:
        """Something may differ: a pass soon."""
        self._wake.set()

    def is_managed(self, ifindex: int) -> bool:
        """Whether this is the device of a published ENI."""
        return any(device.link.ifindex == ifindex for device in self.endpoints.devices.values())

    def is_wanted(self, route: Route) -> bool:
        """Whether a route of ours that has just gone is missed: that of a pod only while the pod lives."""
        return route.table != PODS_TABLE or any(address == route.destination for address, _ in self._pod_addresses())

    async def run(self) -> None:
        """Passes until cancelled: when woken, and every 30 s."""
        while True:
            try:
                async with asyncio.timeout(PERIOD_S):
                    await self._wake.wait()
                # What comes in a burst (a device with its addresses and routes) is one pass.
                since_s = asyncio.get_running_loop().time() - self.last_pass
                await asyncio.sleep(max(_DEBOUNCE_S, _SPACING_S - since_s))
            except TimeoutError:
                self._passes += 1
            self._wake.clear()
            try:
                await self.reconcile()
            except EnitideError as error:
                self._waits.put_error("netlink", error)
            else:
                self._waits.clear("netlink")

    async def reconcile(self, *, first: bool = False) -> None:
        """One pass."""
        interfaces = self.memory.pool.interfaces()
        numbers = dict(self._numbering.numbers(each.id for each in interfaces))
        outcome = await self._reconciler.reconcile(interfaces, numbers)
        before, self.outcome = self.outcome, outcome
        self.endpoints.devices = {device.interface.id: device for device in outcome.devices}
        unattached = self._attach(self.endpoints.devices)
        self._sync_node_addresses(outcome)
        adoption.sweep(self.endpoints, self.memory, outcome.actual.links, first=first)
        if before.devices != outcome.devices and not first:
            adoption.sync(self.endpoints, self.datapath)
        if self._passes >= _ATTACHMENT_PASSES:
            self._passes = 0
            self._count_repairs(self.datapath.reconcile_attachments(self._pod_devices(), self._attached.values()))
            self._count_repairs(self.datapath.policy.repair())
        self._tell(outcome, unattached)
        ready = outcome.ready - unattached.keys()
        self.memory.pool.set_ready(ready)
        if ready != before.ready or before.devices != outcome.devices:
            self.memory.changed()
        if outcome.changed and not first:
            self.wake()  # what was read is older than what was done: look once more
        self.last_pass = asyncio.get_running_loop().time()
        self.on_pass()

    async def collect(self) -> None:
        """Take away connections that have long expired, a slice a second, until cancelled."""
        while True:
            await asyncio.sleep(_COLLECT_S)
            try:
                self.datapath.policy.collect(_COLLECT_ENTRIES)
            except EnitideError as error:
                self._waits.put_error("connections", error)
            else:
                self._waits.clear("connections")

    async def close(self) -> None:
        """Let go; the kernel keeps everything."""
        await self.endpoints.reaper.close()
        self.datapath.close()
        self.route.close()

    def _pod_addresses(self) -> list[tuple[IPAddress, int]]:
        return [(address, live.ifindex) for live in self.endpoints.live.values() for address in live.addresses]

    def _pod_devices(self) -> set[int]:
        return {live.ifindex for live in self.endpoints.live.values()}

    def _attach(self, devices: Mapping[str, Device]) -> dict[str, str]:
        """ENI programs where they should be and nowhere else; what failed, by ENI id."""
        wanted = {device.link.ifindex: Eni(device.link.ifindex, device.number) for device in devices.values()}
        failed: dict[str, str] = {}
        for device in devices.values():
            eni = wanted[device.link.ifindex]
            if self._attached.get(eni.ifindex) == eni:
                continue
            try:
                self.datapath.attach_eni(eni)
            except EnitideError as error:
                failed[device.interface.id] = str(error)
            else:
                self._attached[eni.ifindex] = eni
        for ifindex in self._attached.keys() - wanted.keys():
            self.datapath.detach_eni(ifindex)
            del self._attached[ifindex]
        return failed

    def _sync_node_addresses(self, outcome: Outcome) -> None:
        pods = {link.ifindex for link in outcome.actual.links if link.name.startswith(HOST_PREFIX)}
        self.datapath.set_node_addresses(
            {
                each.address: each.ifindex
                for each in outcome.actual.addresses
                if each.scope == SCOPE_UNIVERSE and each.ifindex not in pods and not each.address.is_loopback
            }
        )

    def _tell(self, outcome: Outcome, unattached: Mapping[str, str]) -> None:
        published = {each.id for each in self.memory.pool.interfaces()}
        failed = {**outcome.failed, **unattached}
        for eni in sorted(published):
            if eni in outcome.absent:
                text = f"{eni} is published, but no device has its MAC yet"
                self._waits.put(f"interface {eni}", Reason.INTERFACE_ABSENT, text)
            elif eni in failed:
                self._waits.put(f"interface {eni}", Reason.NOT_RECONCILED, f"{eni}: {failed[eni]}")
            else:
                self._waits.clear(f"interface {eni}")
        for wait in self._waits.all():
            if wait.subject.startswith("interface ") and wait.subject.removeprefix("interface ") not in published:
                self._waits.clear(wait.subject)
        for text in outcome.undone:
            self.undone[text] += 1
            self.on_undone(text)
            _log.warning("foreign configuration undone", reason=Reason.FOREIGN_CONFIGURATION, what=text)

    def _count_repairs(self, repairs: list[str]) -> None:
        for text in repairs:
            self.repairs[text] += 1
            _log.warning("datapath repaired", what=text)
