"""One node: the real agent's pool, journal, reporting and pod calls, and a kubelet that starts and ends pods.

The agent is made anew from its journal after each crash, as the program does it. Devices of ENIs appear as soon as EC2
has attached them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, cast

from enitide_api.errors import CniError
from enitide_api.resources import ENINode, InstanceFacts
from enitide_enidp.cni.request import Call, NetworkConfig
from enitide_enidp.endpoints import adoption
from enitide_enidp.endpoints.life import Endpoints
from enitide_enidp.memory import Memory
from enitide_enidp.netlink.facts import Link
from enitide_enidp.netlink.wanted import Device
from enitide_enidp.pods import BoundPods
from enitide_enidp.report import Reporter, decode
from enitide_enidp.waits import Waits
from enitide_ipam.pool import Pool
from enitide_ipam.records import PodRef
from enitide_kube.objects import Pod, decode_pod
from enitide_kube.port import ENINODE, POD
from enitide_kube.reflector import Reflector
from enitide_lab.apistore.port import StoreKube
from support.interleaving.kernel import FragileJournal, Handle, Kernel

ADD_WAIT_S = 3.0
BACKOFF_S, BACKOFF_MOST_S = 4.0, 32.0  # as a kubelet: ever longer while its pod finds no address
LOOK_S = 2.0  # how soon the agent sees a device of which no event of its kernel told


class AgentDown(Exception):
    """Nobody listens on the agent's socket."""


class Agent:
    """One agent process. `attached()`: ids of the ENIs that the instance has now."""

    def __init__(
        self,
        kube: StoreKube,
        name: str,
        instance: InstanceFacts,
        kernel: Kernel,
        *,
        journal: Path,
        attached: Callable[[], set[str]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._attached = attached
        self._handle = Handle(kernel)
        self.journal = FragileJournal(journal, self.die)
        self.memory = Memory(Pool(instance.id), self.journal, self._loop.time)
        self.memory.restore()
        waits, rng = Waits(self._loop.time), Random(name)
        self.bound = BoundPods(self.memory)
        self.reporter = Reporter(kube, name, instance, self.memory, waits=waits, rng=rng)
        handle = cast("Any", self._handle)
        self.endpoints = Endpoints(
            self.memory, handle, handle, add_wait_s=ADD_WAIT_S, mtu=1500, resolve=self.bound.resolve
        )
        self.endpoints.reaper = handle
        self.serving = False
        self.died = asyncio.Event()
        self.failed: list[asyncio.Task[Any]] = []  # bugs; an ADD that is refused is none
        self._devices: tuple[str, ...] = ()
        self._is_looking = False
        self._eninodes: Reflector[ENINode] = Reflector(
            kube, ENINODE, decode, field_selector=f"metadata.name={name}", rng=rng, on_change=self._on_eninode
        )
        self._pods: Reflector[Pod] = Reflector(
            kube, POD, decode_pod, field_selector=f"spec.nodeName={name}", rng=rng, on_change=self.bound.on_change
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._spawn(self._run())

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if (
            not task.cancelled()
            and isinstance(task.exception(), Exception)
            and not isinstance(task.exception(), CniError)
            and not self.died.is_set()
        ):
            self.failed.append(task)

    async def _run(self) -> None:
        await self.reporter.start(1.0)
        links = tuple(self._handle.alive().links.values())
        adoption.adopt(self.endpoints, self.memory, links)
        self.look()
        adoption.sweep(self.endpoints, self.memory, links, first=True)
        self.memory.on_change(self.look)
        self.serving = True
        work = (self._eninodes.run(), self._pods.run(), self.reporter.run(), self._drop_stale())
        for each in work:
            self._spawn(each)

    async def _drop_stale(self) -> None:
        await self._pods.synced.wait()
        self.bound.drop_stale()

    def _on_eninode(self, _key: str, _old: ENINode | None, new: ENINode | None) -> None:
        self.reporter.observe(new)

    def look(self) -> None:
        """What the reconciler tells pool and endpoints after a pass; again while a published device is missing."""
        if self.died.is_set():
            return  # its kernel tells a process that is no more
        there, published = self._attached(), self.memory.pool.interfaces()
        found = [each for each in published if each.id in there]
        if len(found) < len(published) and not self._is_looking:
            self._is_looking = True
            self._spawn(self._look_again())
        names = tuple(each.id for each in found)
        self.endpoints.devices = {
            each.id: Device(each, Link(each.index + 2, f"eth{each.index}", each.mac, 9001, up=True), each.index + 1)
            for each in found
        }
        if names != self._devices:
            self._devices = names
            self.memory.pool.set_ready(names)
            self.memory.changed()

    async def _look_again(self) -> None:
        await asyncio.sleep(LOOK_S)
        self._is_looking = False
        self.look()

    async def call(self, work: Callable[[Endpoints], Coroutine[Any, Any, bytes]]) -> bytes:
        """A CNI call on the socket. `AgentDown` where nobody answers, or who listened died meanwhile."""
        if not self.serving:
            raise AgentDown
        task = self._spawn(work(self.endpoints))
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
        if task.cancelled():
            raise AgentDown
        return task.result()

    def die(self) -> None:
        """From this moment nothing of it runs or reaches anything."""
        self.serving = False
        self.died.set()
        self._handle.dead = self.journal.dead = True
        for task in tuple(self._tasks):
            task.cancel()


class Kubelet:
    """Starts and ends pods, `most` of them at once, by calls on whichever agent listens.

    `pods`: their tasks, by name; `gone`: of ended ones.
    """

    def __init__(self, kube: StoreKube, node: str, agent: Callable[[], Agent], *, most: int) -> None:
        self._kube = kube
        self._most = most
        self._node = node
        self._agent = agent
        self._containers = itertools.count()
        self._born = itertools.count()
        self.pods: dict[str, asyncio.Task[None]] = {}
        self.gone: list[asyncio.Task[None]] = []
        self._ended: dict[str, asyncio.Event] = {}

    def start(self, count: int = 1) -> list[str]:
        """More pods bound to this node, up to its `most`; their names."""
        names = [f"{self._node}-{next(self._born)}" for _ in range(min(count, self._most - len(self.pods)))]
        for name in names:
            self._ended[name] = asyncio.Event()
            self.pods[name] = asyncio.get_running_loop().create_task(self._life(name))
        return names

    def end(self, name: str, *, object_first: bool) -> None:
        """The pod is to go; `object_first`: it is gone from the API server before its runtime hears of it."""
        self.gone.append(self.pods.pop(name))
        self._remove(name, {"gracePeriodSeconds": 0} if object_first else {})
        self._ended.pop(name).set()

    def _remove(self, name: str, options: dict[str, int]) -> None:
        store = self._kube.store
        rtype = store.type_of(POD)
        if f"default/{name}" in store.catalog.table(rtype).objects:
            store.delete(rtype, "default", name, options)

    async def _life(self, name: str) -> None:
        ended = self._ended[name]
        raw = self._create(name)
        ref = PodRef("default", name, decode_pod(raw).metadata.uid)
        pause_s = BACKOFF_S
        while not ended.is_set():
            call = Call("ADD", NetworkConfig(), f"c{self._node}{next(self._containers)}", "eth0", "/ns", ref)
            if await self._add(call, ended):
                await ended.wait()
            await self._delete(call)
            await _first(ended, pause_s)
            pause_s = min(2 * pause_s, BACKOFF_MOST_S)
        self._remove(name, {"gracePeriodSeconds": 0})

    def _create(self, name: str) -> bytes:
        spec = {"nodeName": self._node, "containers": [{"name": "c", "image": "none"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        store = self._kube.store
        rtype = store.type_of(POD)
        return store.create(rtype, "default", body).raw(rtype)

    async def _add(self, call: Call, ended: asyncio.Event) -> bool:
        try:
            await self._agent().call(lambda endpoints: endpoints.add(call, ended.is_set))
        except AgentDown:
            await _first(ended, 0.5)
            return False
        except CniError:
            return False
        return True

    async def _delete(self, call: Call) -> None:
        while True:
            try:
                await self._agent().call(lambda endpoints: endpoints.delete(call))
            except (AgentDown, CniError):
                await asyncio.sleep(0.5)
            else:
                return


async def _first(ended: asyncio.Event, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await ended.wait()
    except TimeoutError:
        return
