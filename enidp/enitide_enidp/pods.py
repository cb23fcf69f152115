"""Pods bound to this node: each gets its address reserved before its runtime asks, so that the cluster can know it.

Told by a reflector of the node's pods; repeats and losses of events change nothing. It never frees what a container
holds: that is DEL's alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from enitide_api.errors import EnitideError
from enitide_api.logging import get_logger
from enitide_enidp.memory import Memory
from enitide_ipam.pool import Grant
from enitide_ipam.records import PodRef
from enitide_kube.objects import Pod

# What kubelet puts on the API's mirror of a static pod: the uid under which the runtime knows it.
_MIRROR = "kubernetes.io/config.mirror"
_log = get_logger("pods")


def ref_of(pod: Pod) -> PodRef:
    return PodRef(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)


class BoundPods:
    """The pods that want an address here, by uid; those that have none yet are tried again when the pool changes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._by_key: dict[tuple[str, str], Pod] = {}
        self._without: dict[str, PodRef] = {}
        self._is_reserving = False
        self._is_complete = False
        memory.on_change(self.retry)

    def on_change(self, key: str, old: Pod | None, new: Pod | None) -> None:
        """For the reflector."""
        del key
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid or not new.needs_address):
            self._forget(old)
        if new is not None and new.needs_address:
            self._by_key[new.metadata.namespace, new.metadata.name] = new
            if new.metadata.deletion_timestamp is None:
                self._reserve(ref_of(new))
            else:  # its runtime makes no sandbox any more; others may wait for the address
                self._without.pop(new.metadata.uid, None)
                self._unreserve(new.metadata.uid)

    def resolve(self, pod: PodRef) -> PodRef:
        """What the runtime said, completed by what the API server knows: reservation and ADD must name one uid."""
        known = self._by_key.get((pod.namespace, pod.name))
        if known is None:
            return pod
        mirrored = (known.metadata.annotations or {}).get(_MIRROR, "")
        return ref_of(known) if pod.uid in ("", known.metadata.uid, mirrored) else pod

    def retry(self) -> None:
        """Take reservations from pods that are gone, and reserve for those that are still without.

        Those first whose ADD is open: a runtime in a back-off must not keep an address from one that waits for it.
        """
        if self._is_complete:
            self._drop_unbound()
        if self._without and not self._is_reserving:
            pool, now = self._memory.pool, self._memory.now()
            for ref in sorted(self._without.values(), key=lambda each: not pool.is_asking(each, now)):
                if not self._reserve(ref):
                    break

    def drop_stale(self) -> None:
        """After the first whole list: reservations of pods that went while nobody listened.

        From then on at every change too: an ADD that fails after its pod has gone leaves the pod's reservation behind.
        """
        self._is_complete = True
        self._drop_unbound()

    def _drop_unbound(self) -> None:
        bound = {pod.metadata.uid for pod in self._by_key.values() if pod.metadata.deletion_timestamp is None}
        for ref in self._memory.pool.reserved():
            if ref.uid and ref.uid not in bound:
                self._unreserve(ref.uid)

    def count(self) -> int:
        return len(self._by_key)

    def waiting(self) -> Iterable[PodRef]:
        return tuple(self._without.values())

    def _reserve(self, ref: PodRef) -> bool:
        self._is_reserving = True
        try:
            answer = self._memory.pool.reserve(ref, self._memory.now())
            if not isinstance(answer, Grant):
                self._without[ref.uid] = ref
                return False
            self._without.pop(ref.uid, None)
            self._memory.keep(answer.records)
        except EnitideError as error:
            _log.warning("reservation not kept", pod=f"{ref.namespace}/{ref.name}", error=str(error))
        finally:
            self._is_reserving = False
        return True

    def _forget(self, pod: Pod) -> None:
        meta = pod.metadata
        known = self._by_key.get((meta.namespace, meta.name))
        if known is not None and known.metadata.uid == meta.uid:
            del self._by_key[meta.namespace, meta.name]
        self._without.pop(meta.uid, None)
        self._unreserve(meta.uid)

    def _unreserve(self, uid: str) -> None:
        try:
            self._memory.keep(self._memory.pool.unreserve(uid, self._memory.now()))
        except EnitideError as error:
            _log.warning("end of a reservation not kept", uid=uid, error=str(error))
