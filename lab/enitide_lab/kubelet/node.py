"""One lab node's kubelet: registers the node, tells whether its network is ready, and runs its pods.

The node is ready exactly when a runtime would say so: a conflist is there and, at versions that have it, STATUS
succeeds. The state is told when it changes and every ten seconds, as the node controller of a real control plane wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

from enitide_api.errors import CniError, KubeError, KubeNotFound
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_kube.backoff import Backoff
from enitide_kube.events import EventRecorder
from enitide_kube.port import NODE, POD, KubePort
from enitide_kube.queue import WorkQueue
from enitide_kube.reflector import Reflector
from enitide_lab.house.layout import LabPaths
from enitide_lab.house.record import LabRecord, NodeRecord
from enitide_lab.kubelet import status
from enitide_lab.kubelet.cni import Runtime
from enitide_lab.kubelet.objects import KubeletPod, decode_pod
from enitide_lab.kubelet.pods import FIELD_MANAGER, RETRIED, PodWorker
from enitide_lab.kubelet.sandbox import Sandboxes

HEARTBEAT_S = 10.0
STATUS_S = 1.0  # real runtimes are asked every 5 s; nobody likes to wait that long in a lab
PARALLEL_PODS = 8
POD_BACKOFF = Backoff(base_s=1.0, cap_s=10.0)

log = get_logger(__name__)


class NodeKubelet:
    """`run()` as a task, one for each node."""

    def __init__(
        self, kube: KubePort, lab: LabRecord, node: NodeRecord, *, rng: Random, wall: Callable[[], str]
    ) -> None:
        paths = LabPaths(lab.name)
        folders = paths.node(node.name)
        netns = paths.namespaces / node.instance_id
        cgroup = Path(lab.cgroup) / "nodes" / node.name
        self._kube = kube
        self._node = node
        self._region = lab.region
        self._wall = wall
        self._runtime = Runtime(
            folders.cni_conf_dir, folders.cni_bin_dir, netns, {"ENITIDE_SOCKET": str(folders.socket)}
        )
        self._events = EventRecorder(kube, "enitide.io/lab-kubelet", node.name, rng=rng)
        self._worker = PodWorker(
            kube,
            node=node,
            runtime=self._runtime,
            sandboxes=Sandboxes(folders.pods, cgroup, netns),
            events=self._events,
            wall=wall,
        )
        self._queue: WorkQueue[str] = WorkQueue(rng, POD_BACKOFF)
        self._pods = Reflector(
            kube,
            POD,
            decode_pod,
            field_selector=f"spec.nodeName={node.name}",
            rng=rng,
            on_change=self._changed,
            on_state=self._troubled,
        )

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._events.run())
            tasks.create_task(self._keep_registered())
            tasks.create_task(self._pods.run())
            await self._pods.synced.wait()
            for sandbox in self._worker.sandboxes.all():
                self._queue.add(sandbox.key)
            for _ in range(PARALLEL_PODS):
                tasks.create_task(self._work())

    def _changed(self, key: str, _old: KubeletPod | None, new: KubeletPod | None) -> None:
        if new is None or new.leaving:
            self._worker.give_up(key)
        self._queue.add(key)

    def _troubled(self, reason: Reason | None, detail: str) -> None:
        if reason is not None:
            log.warning("pods are not followed", node=self._node.name, reason=reason, detail=detail)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._worker.sync(key, self._pods.store.get(key))
            except RETRIED as error:
                delay_s = self._queue.failed(key)
                log.info("pod tried again", pod=key, node=self._node.name, delay_s=round(delay_s, 1), error=str(error))
            else:
                self._queue.forget(key)
                self._queue.done(key)

    async def _keep_registered(self) -> None:
        told: tuple[str, str] | None = None
        told_at = changed = ""
        next_beat = 0.0
        loop = asyncio.get_running_loop()
        while True:
            reason, message = await self._network()
            if (reason, message) != told or loop.time() >= next_beat:
                told_at = self._wall()
                changed = told_at if told is None or told[0] != reason else changed
                if await self._tell(told_at, changed, reason, message):
                    told, next_beat = (reason, message), loop.time() + HEARTBEAT_S
            await asyncio.sleep(STATUS_S)

    async def _network(self) -> tuple[str, str]:
        """Reason and message of an unready network; two empty texts when it is ready."""
        try:
            config = self._runtime.config()
            if config is None:
                return "NetworkPluginNotReady", "no conflist is installed"
            await self._runtime.status(config)
        except (CniError, OSError) as error:
            return "NetworkPluginNotReady", str(error)
        return "", ""

    async def _tell(self, now: str, changed: str, reason: str, message: str) -> bool:
        patch = status.node_status(self._node, now, changed, reason, message)
        try:
            try:
                await self._patch_status(patch)
            except KubeNotFound:  # the first time, or somebody deleted it
                await self._kube.create(NODE, status.new_node(self._node, self._region), field_manager=FIELD_MANAGER)
                await self._patch_status(patch)
        except KubeError as error:
            log.warning("the node's status is not told", node=self._node.name, reason=error.reason, error=str(error))
            return False
        return True

    async def _patch_status(self, patch: dict[str, object]) -> None:
        await self._kube.patch(NODE, self._node.name, patch, subresource="status", field_manager=FIELD_MANAGER)
