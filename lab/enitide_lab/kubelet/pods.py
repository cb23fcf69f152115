"""Brings each pod of one node from bound to running and from deleted to gone, as kubelet does. Level-triggered.

One pass over one pod compares what the API server says with the pod's sandbox and does what is missing; whatever fails
is tried again after a back-off. As real runtimes do, every attempt is a new container id, a failed ADD gets its DEL at
once, and a pod that ends gets DEL twice: on stop, and on removal with an empty namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from enitide_api.errors import CniError, KubeError, KubeNotFound, LabFailed
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_kube.events import EventRecorder, ObjectRef
from enitide_kube.port import POD, KubePort
from enitide_lab.house.record import NodeRecord
from enitide_lab.kubelet import status
from enitide_lab.kubelet.cni import NetworkConfig, Runtime, addresses_of
from enitide_lab.kubelet.objects import KubeletPod
from enitide_lab.kubelet.sandbox import Sandbox, Sandboxes

GRACE_S = 2.0  # pods of a lab have nothing to save: long grace periods are cut to this
FIELD_MANAGER = "kubelet"

log = get_logger(__name__)


@dataclass(slots=True)
class _History:
    """How a pod's start has gone so far. `seen_at`: on the loop's clock."""

    uid: str
    seen_at: float
    attempts: int = 0


class PodWorker:
    """All pods of one node."""

    def __init__(
        self,
        kube: KubePort,
        *,
        node: NodeRecord,
        runtime: Runtime,
        sandboxes: Sandboxes,
        events: EventRecorder,
        wall: Callable[[], str],
    ) -> None:
        self._kube = kube
        self._node = node
        self._runtime = runtime
        self._events = events
        self._wall = wall
        self.sandboxes = sandboxes
        self._histories: dict[str, _History] = {}
        self._adding: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def sync(self, key: str, pod: KubeletPod | None) -> None:
        """One pass. `CniError`, `KubeError` or `LabFailed`: try again."""
        uid = pod.metadata.uid if pod else ""
        for old in [each for each in self.sandboxes.all() if each.key == key and each.uid != uid]:
            await self._take_down(old)
        if pod is None:
            self._histories.pop(key, None)
            return
        if key not in self._histories or self._histories[key].uid != uid:
            self._histories[key] = _History(uid, asyncio.get_running_loop().time())
        sandbox = self.sandboxes.of(uid)
        if pod.leaving or pod.ended:
            await self._leave(pod, sandbox)
        elif sandbox is None or sandbox.state != "ready":
            await self._begin(pod, sandbox)
        elif pod.status.phase != "Running":
            await self._report(pod, sandbox)

    def give_up(self, key: str) -> None:
        """Nobody wants the pod any more: as kubelet does, do not wait for the end of its ADD."""
        adding = self._adding.get(key)
        if adding is not None:
            adding.cancel()

    async def _begin(self, pod: KubeletPod, left_over: Sandbox | None) -> None:
        if left_over is not None:  # of a kubelet that was killed in the middle
            await self._take_down(left_over)
        meta = pod.metadata
        history = self._histories[f"{meta.namespace}/{meta.name}"]
        history.attempts += 1
        sandbox = self.sandboxes.make(
            meta.uid, meta.namespace, meta.name, attempt=history.attempts, host_network=pod.spec.host_network
        )
        if not pod.spec.host_network:
            try:
                sandbox = await self._connect(sandbox)
            except CniError as error:
                self._tell(pod, error)
                await self._take_down(sandbox)
                raise
        commands = {container.name: (*container.command, *container.args) for container in pod.spec.containers}
        sandbox = await asyncio.to_thread(self.sandboxes.start, sandbox, commands)
        waited_ms = (asyncio.get_running_loop().time() - history.seen_at) * 1000
        ready = msgspec.structs.replace(sandbox, state="ready", wait_ms=waited_ms, started=self._wall())
        await self._report(pod, self.sandboxes.put(ready))

    async def _connect(self, sandbox: Sandbox) -> Sandbox:
        config = self._config()
        began = asyncio.get_running_loop().time()
        adding = asyncio.ensure_future(self._runtime.add(config, sandbox.call()))
        self._adding[sandbox.key] = adding
        try:
            await asyncio.wait([adding])
        finally:
            del self._adding[sandbox.key]
            adding.cancel()
        if adding.cancelled():
            raise CniError("the pod was deleted before ADD had ended", cni_code=11, reason=Reason.POD_DELETED)
        result = adding.result()
        took_ms = (asyncio.get_running_loop().time() - began) * 1000
        addresses = addresses_of(result)
        sandbox = self.sandboxes.put(
            msgspec.structs.replace(sandbox, result=result, addresses=addresses, add_ms=took_ms)
        )
        if not addresses:
            raise CniError("the result of ADD has no address", cni_code=999, reason=Reason.CNI_BAD_REQUEST)
        return sandbox

    async def _report(self, pod: KubeletPod, sandbox: Sandbox) -> None:
        patch = status.running(pod, sandbox, self._node.address, self._wall())
        patch["metadata"] = {"uid": pod.metadata.uid}
        await self._kube.patch(
            POD,
            pod.metadata.name,
            patch,
            namespace=pod.metadata.namespace,
            subresource="status",
            field_manager=FIELD_MANAGER,
        )

    async def _leave(self, pod: KubeletPod, sandbox: Sandbox | None) -> None:
        if sandbox is not None:
            await self._take_down(sandbox)
        if not pod.leaving:
            return
        meta = pod.metadata
        try:
            await self._kube.delete(POD, meta.name, namespace=meta.namespace, uid=meta.uid, grace_period_s=0)
        except KubeNotFound:
            return  # it is gone, as it should be

    async def _take_down(self, sandbox: Sandbox) -> None:
        """Stop it and remove it. Every step can be repeated."""
        sandbox = await asyncio.to_thread(self.sandboxes.stop, sandbox, GRACE_S)
        if sandbox.host_network:
            self.sandboxes.forget(sandbox)
            return
        config = self._config()
        await self._runtime.delete(config, sandbox.call(), sandbox.result)
        self.sandboxes.remove_namespace(sandbox)
        await self._runtime.delete(config, sandbox.call(netns=""), sandbox.result)
        self.sandboxes.forget(sandbox)

    def _config(self) -> NetworkConfig:
        config = self._runtime.config()
        if config is None:
            message = f"there is no conflist in {self._runtime.conf_dir}: the agent has not installed it"
            raise CniError(message, cni_code=11, reason=Reason.NOT_RECONCILED)
        return config

    def _tell(self, pod: KubeletPod, error: CniError) -> None:
        meta = pod.metadata
        log.warning("sandbox not made", pod=f"{meta.namespace}/{meta.name}", node=self._node.name, error=str(error))
        reference = ObjectRef(POD, meta.name, meta.namespace, meta.uid)
        note = f"{error}{': ' if error.details else ''}{error.details}"
        self._events.record(reference, "FailedCreatePodSandBox", note, action="CreateSandbox", event_type="Warning")


RETRIED: tuple[type[Exception], ...] = (CniError, KubeError, LabFailed, OSError)
