"""The scheduler beside the embedded API server: binds each pod to the ready node that has the fewest.

It knows node selectors, taints and how many pods a node takes; nothing else. Beside a real control plane it is not
run. `choose` is pure.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random

from enitide_api.errors import KubeConflict, KubeError, KubeNotFound
from enitide_api.logging import get_logger
from enitide_kube.port import NODE, POD, KubePort
from enitide_kube.queue import WorkQueue
from enitide_kube.reflector import Reflector
from enitide_lab.kubelet.objects import KubeletPod, ScheduledNode, Toleration, decode_node, decode_pod

log = get_logger(__name__)


def choose(pod: KubeletPod, nodes: Iterable[ScheduledNode], pods_on: Mapping[str, int]) -> str | None:
    """The name of the fitting node with the fewest pods (the first by name among equals), or None."""
    fitting = [node for node in nodes if _fits(pod, node, pods_on.get(node.metadata.name, 0))]
    best = min(fitting, key=lambda node: (pods_on.get(node.metadata.name, 0), node.metadata.name), default=None)
    return None if best is None else best.metadata.name


def _fits(pod: KubeletPod, node: ScheduledNode, pods: int) -> bool:
    labels = node.metadata.labels or {}
    wanted = pod.spec.node_selector or {}
    barred = [taint for taint in node.spec.taints or () if taint.effect in ("NoSchedule", "NoExecute")]
    return (
        node.ready
        and not node.spec.unschedulable
        and pods < node.max_pods
        and all(labels.get(key) == value for key, value in wanted.items())
        and all(any(_tolerates(t, b.key, b.value, b.effect) for t in pod.spec.tolerations or ()) for b in barred)
    )


def _tolerates(toleration: Toleration, key: str, value: str, effect: str) -> bool:
    if toleration.effect not in ("", effect) or toleration.key not in ("", key):
        return False
    return toleration.operator == "Exists" or (toleration.key == key and toleration.value == value)


class Scheduler:
    """`run()` as a task."""

    def __init__(self, kube: KubePort, *, rng: Random) -> None:
        self._kube = kube
        self._queue: WorkQueue[str] = WorkQueue(rng)
        self._bound: dict[str, str] = {}  # by us, until the watch shows it
        self._pods = Reflector(kube, POD, decode_pod, rng=rng, on_change=self._pod_changed)
        self._nodes = Reflector(kube, NODE, decode_node, rng=rng, on_change=self._node_changed)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nodes.run())
            tasks.create_task(self._pods.run())
            await self._nodes.synced.wait()
            await self._pods.synced.wait()
            while True:
                key = await self._queue.get()
                try:
                    await self._bind(key)
                except KubeError as error:
                    delay_s = self._queue.failed(key)
                    log.warning("not bound", pod=key, reason=error.reason, error=str(error), delay_s=delay_s)
                else:
                    self._queue.forget(key)
                    self._queue.done(key)

    def _pod_changed(self, key: str, old: KubeletPod | None, new: KubeletPod | None) -> None:
        if new is None or new.spec.node_name:
            self._bound.pop(key, None)
        if new is None or (new.ended and not (old and old.ended)):
            self._try_all()  # room may have come free
        elif not new.spec.node_name and not new.leaving:
            self._queue.add(key)

    def _node_changed(self, _key: str, _old: ScheduledNode | None, _new: ScheduledNode | None) -> None:
        self._try_all()

    def _try_all(self) -> None:
        for key, pod in self._pods.store.items():
            if not pod.spec.node_name and not pod.leaving and key not in self._bound:
                self._queue.add(key)

    async def _bind(self, key: str) -> None:
        pod = self._pods.store.get(key)
        if pod is None or pod.spec.node_name or pod.leaving or key in self._bound:
            return
        name = choose(pod, self._nodes.store.values(), self._load())
        if name is None:
            return  # a change of a node or a pod brings it back
        target = {"apiVersion": "v1", "kind": "Node", "name": name}
        meta = pod.metadata
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta.name}, "target": target}
        self._bound[key] = name
        try:
            await self._kube.create(POD, binding, namespace=meta.namespace, name=meta.name, subresource="binding")
        except (KubeConflict, KubeNotFound):  # somebody else bound it, or it is gone: the watch will tell
            self._bound.pop(key, None)
        except KubeError:
            self._bound.pop(key, None)
            raise

    def _load(self) -> Counter[str]:
        load = Counter(pod.spec.node_name for pod in self._pods.store.values() if pod.spec.node_name and not pod.ended)
        load.update(name for key, name in self._bound.items() if key in self._pods.store)
        return load
