"""A mirror of one resource: lists it in pages, follows it by watch, and tells each difference exactly once.

What stands in `store` is what the API server said last. Callbacks come only for real differences, so a repeated or
missed event, a lost watch or a relist changes nothing for whoever is called. It decides nothing about the objects and
never gives up: each failure is told to `on_state` with its reason and waits its back-off. A resource version that has
expired (410) costs one relist; what vanished meanwhile comes out as deletions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from enitide_api.errors import KubeError, KubeGone, KubeNotFound, KubeThrottled
from enitide_api.reasons import Reason
from enitide_kube.backoff import Backoff
from enitide_kube.objects import HasMeta, decode_meta, key_of
from enitide_kube.port import CRD, Kind, KubePort, WatchEvent

T = TypeVar("T", bound=HasMeta)

OnChange = Callable[[str, T | None, T | None], None]
OnState = Callable[[Reason | None, str], None]

WATCH_TIMEOUT_S = 300.0
# A server that answers but refuses to watch from our version this often in a row (etcd restored from an older backup
# is ahead of no one) gets a fresh list. Failures without any answer never count: a relist would not fare better.
REFUSALS_BEFORE_RELIST = 5
# Only a watch that told something or lasted this long ends a row of failures. A list that succeeds does not: a server
# that answers every watch with 410 would be listed without pause.
STEADY_S = 5.0


def _nothing(_reason: Reason | None, _detail: str) -> None:
    return None


class Reflector(Generic[T]):
    """`run()` it as a task; wait for `synced`; read `store`; get differences through `on_change(key, old, new)`.

    `key` is `namespace/name`, or `name` for what has no namespace; `old` is None for a new object, `new` for a deleted
    one. Callbacks run in the loop, must not block, and one that raises ends `run()`: that is a bug, not the weather.
    `on_state(reason, detail)` has reason None when list or watch works again. `page` is the list's page size.
    """

    def __init__(
        self,
        kube: KubePort,
        kind: Kind,
        decode: Callable[[bytes], T],
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        page: int = 500,
        rng: Random,
        on_change: OnChange[T] | None = None,
        on_state: OnState = _nothing,
        backoff: Backoff | None = None,
        optional: bool = False,
    ) -> None:
        """`optional`: the kind may have no definition. Then there are none, and the definition is waited for."""
        self.kind = kind
        self.synced = asyncio.Event()
        self.resource_version = ""
        self.relists = 0
        self.heard_at = 0.0
        self.refused = 0
        self._kube = kube
        self._decode = decode
        self._namespace = namespace
        self._field_selector = field_selector
        self._label_selector = label_selector
        self._page = page
        self._rng = rng
        self._callbacks: list[OnChange[T]] = [on_change] if on_change is not None else []
        self._on_state = on_state
        self._backoff = backoff or Backoff()
        self._store: dict[str, T] = {}
        self._failures = 0
        self._troubled = False
        self._optional = optional

    @property
    def store(self) -> Mapping[str, T]:
        """The objects by key, read-only, always the present ones."""
        return MappingProxyType(self._store)

    def is_fresh(self, within_s: float) -> bool:
        """Whether the mirror is whole, its watch works, and the server said something (a bookmark at least) lately.

        Whoever takes something away because it is not in `store` asks this first.
        """
        heard_s = asyncio.get_running_loop().time() - self.heard_at
        return self.synced.is_set() and not self._troubled and heard_s <= within_s

    def add_callback(self, on_change: OnChange[T]) -> None:
        """One more listener; it is told of what is here already as new objects."""
        self._callbacks.append(on_change)
        for key, obj in tuple(self._store.items()):
            on_change(key, None, obj)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not self.resource_version:
                    await self._relist()
                await self._follow()
            except KubeNotFound as error:
                if not self._optional:
                    await self._failed(error)
                    continue
                try:
                    await self._absent()
                except KubeError as cause:
                    await self._failed(cause)
            except KubeGone as error:
                self.resource_version = ""
                self._report(error.reason, str(error))
                # the first relist comes at once; a server that expires everything at once is not hammered
                if self._failures:
                    await self._wait(error)
                self._failures += 1
            except KubeError as error:
                await self._failed(error)

    async def _failed(self, error: KubeError) -> None:
        self._failures += 1
        if error.status and self._failures >= REFUSALS_BEFORE_RELIST:
            self.resource_version = ""
        self._report(error.reason, str(error))
        await self._wait(error)

    async def _absent(self) -> None:
        """The kind is not served: there are none of it. Wait for its definition, which costs a silent watch."""
        self.resource_version = ""
        for key in tuple(self._store):
            self._put(key, None)
        self._works()
        self.synced.set()
        name = f"metadata.name={self.kind.plural}.{self.kind.group}"
        page = await self._kube.list(CRD, limit=1, field_selector=name)
        if not page.items:
            timeout_s = WATCH_TIMEOUT_S * self._rng.uniform(1.0, 2.0)
            async for event in self._kube.watch(
                CRD, resource_version=page.resource_version, field_selector=name, timeout_s=timeout_s
            ):
                if event.type == "ADDED":
                    break
        # defined, perhaps not yet served
        await asyncio.sleep(self._rng.uniform(0.5, 1.0))

    async def _wait(self, error: KubeError) -> None:
        delay_s = self._backoff.delay_s(max(1, self._failures), self._rng)
        if isinstance(error, KubeThrottled):
            delay_s = max(delay_s, error.retry_after_s)
        await asyncio.sleep(delay_s)

    async def _relist(self) -> None:
        """Takes the pages of one snapshot; only a complete one replaces anything."""
        fresh: dict[str, T] = {}
        token = ""
        unreadable: set[str] = set()
        while True:
            page = await self._kube.list(
                self.kind,
                namespace=self._namespace,
                limit=self._page,
                continue_token=token,
                field_selector=self._field_selector,
                label_selector=self._label_selector,
            )
            for raw in page.items:
                obj = self._read(raw, unreadable)
                if obj is not None:
                    fresh[key_of(obj)] = obj
            token = page.continue_token
            if not token:
                break
        self.relists += 1
        gone = [key for key in self._store if key not in fresh and key not in unreadable]
        # what came before what went: a thing that moved from one object to another is never missing in between
        for key, obj in fresh.items():
            self._put(key, obj)
        for key in gone:
            self._put(key, None)
        self.resource_version = page.resource_version
        self._works()
        self.synced.set()

    async def _follow(self) -> None:
        """One watch, until it ends. A watch that ends by itself is continued where it stood."""
        # Jitter: watches that began together (after an outage, say) must not all end together for ever.
        timeout_s = WATCH_TIMEOUT_S * self._rng.uniform(1.0, 2.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async for event in self._kube.watch(
                self.kind,
                resource_version=self.resource_version,
                namespace=self._namespace,
                field_selector=self._field_selector,
                label_selector=self._label_selector,
                timeout_s=timeout_s,
                on_open=self._works,
            ):
                self._failures = 0
                self._apply(event)
        finally:
            if loop.time() - began >= STEADY_S:
                self._failures = 0
        if loop.time() - began < STEADY_S:
            # A server that ends each watch as it begins would have us spin.
            self._failures += 1
            await asyncio.sleep(self._backoff.delay_s(self._failures, self._rng))

    def _apply(self, event: WatchEvent) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        if event.type == "BOOKMARK":
            self.resource_version = decode_meta(event.object).resource_version
            return
        obj = self._read(event.object, set())
        if obj is None:
            # its version still counts: else the next watch would begin before it and meet it for ever
            self.resource_version = decode_meta(event.object).resource_version or self.resource_version
            return
        self._put(key_of(obj), None if event.type == "DELETED" else obj)
        self.resource_version = obj.metadata.resource_version

    def _read(self, raw: bytes, unreadable: set[str]) -> T | None:
        """The object, or None for one that does not fit its type: it alone is left as last known, and is told of."""
        try:
            return self._decode(raw)
        except msgspec.DecodeError as error:
            meta = decode_meta(raw)
            key = f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
            unreadable.add(key)
            self.refused += 1
            self._troubled = True
            self._on_state(Reason.API_INVALID, f"{self.kind.kind} {key} cannot be read: {error}")
            return None

    def _put(self, key: str, new: T | None) -> None:
        old = self._store.get(key)
        if new is None:
            if old is None:
                return
            del self._store[key]
        else:
            if old is not None and _version(old) == _version(new):
                return
            self._store[key] = new
        for callback in self._callbacks:
            callback(key, old, new)

    def _report(self, reason: Reason, detail: str) -> None:
        self._troubled = True
        self._on_state(reason, detail)

    def _works(self) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        if self._troubled:
            self._troubled = False
            self._on_state(None, "")


def _version(obj: HasMeta) -> tuple[str, str]:
    return obj.metadata.uid, obj.metadata.resource_version
