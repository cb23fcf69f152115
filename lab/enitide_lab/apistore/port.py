"""The store's Python face: `KubePort` without HTTP, for the simulator and for tests of decisions under a virtual clock.

It answers with the same bytes and raises the same errors as the HTTP client on the HTTP face. Each client has its own
`StoreKube`, so that requests are counted by client and faults can be aimed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from enitide_api.errors import KubeUnavailable
from enitide_kube.port import POD, Json, Kind, Page, PatchOperations, WatchEvent
from enitide_kube.status import Status, error_of
from enitide_lab.apistore.lifecycle import Request
from enitide_lab.apistore.patches import patch_function
from enitide_lab.apistore.refusal import Refusal, no_such_path
from enitide_lab.apistore.store import Store
from enitide_lab.apistore.table import EventType, Stored, Watcher

if TYPE_CHECKING:
    from enitide_lab.apistore.faults import Fault

R = TypeVar("R")
_MERGE, _JSON = "application/merge-patch+json", "application/json-patch+json"


class StoreKube:
    """`KubePort` on a `Store`. `latency_s` is what each request takes."""

    def __init__(self, store: Store, client: str = "python", *, latency_s: float = 0.0) -> None:
        self.store = store
        self.client = client
        self.latency_s = latency_s

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        limit: int = 500,
        continue_token: str = "",
        field_selector: str = "",
        label_selector: str = "",
    ) -> Page:
        """See `KubePort.list`."""

        def act() -> Page:
            rtype = self.store.type_of(kind)
            selector = self.store.selector(rtype, namespace, label_selector, field_selector)
            page = self.store.list(rtype, selector, limit=limit, token=continue_token)
            return Page(tuple(stored.raw(rtype) for stored in page.items), str(page.rv), page.token)

        return await self._ask("list", kind, "", act)

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        timeout_s: float = 300.0,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """See `KubePort.watch`. A bookmark comes when the time is over, as from a real API server."""
        stream = _Stream()

        def act() -> Watcher:
            rtype = self.store.type_of(kind)
            selector = self.store.selector(rtype, namespace, label_selector, field_selector)
            watcher = Watcher(rtype, selector, stream.put, stream.end)
            stream.watcher = watcher
            since = self.store.parse_version(resource_version)
            self.store.watch(watcher, since, initial=since == 0)
            return watcher

        watcher = await self._ask("watch", kind, "", act)
        timer = asyncio.get_running_loop().call_later(timeout_s, stream.expire)
        try:
            if on_open is not None:
                on_open()
            async for event in stream.events(lambda: _bookmark(kind, self.store.version)):
                yield event
        finally:
            timer.cancel()
            self.store.unwatch(watcher)
        if stream.status is not None:
            raise error_of(stream.status, f"watch {kind.plural}")

    async def get(self, kind: Kind, name: str, *, namespace: str = "") -> bytes:
        """See `KubePort.get`."""

        def act() -> bytes:
            rtype = self.store.type_of(kind)
            return self.store.get(rtype, namespace, name).raw(rtype)

        return await self._ask("get", kind, name, act)

    async def create(
        self,
        kind: Kind,
        obj: Json,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        field_manager: str = "",  # noqa: ARG002  who manages which field is told apart by server-side apply alone
    ) -> bytes:
        """See `KubePort.create`."""
        body = msgspec.json.decode(msgspec.json.encode(obj))

        def act() -> bytes:
            rtype = self.store.type_of(kind)
            if subresource:
                return self._post(rtype.subresources, subresource, namespace, name, body)
            return self.store.create(rtype, namespace, body, Request("Strict")).raw(rtype)

        return await self._ask("create", kind, name or str((obj.get("metadata") or {}).get("name", "")), act)

    def _post(
        self, served: tuple[str, ...], subresource: str, namespace: str, name: str, body: Mapping[str, object]
    ) -> bytes:
        if subresource not in served:
            raise no_such_path()
        if subresource == "binding":
            self.store.bind(namespace, name, body)
        else:
            self.store.delete(self.store.type_of(POD), namespace, name)
        return b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}'

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Json | PatchOperations,
        *,
        namespace: str = "",
        subresource: str = "",
        field_manager: str = "",  # noqa: ARG002  as above
    ) -> bytes:
        """See `KubePort.patch`."""
        is_json = not isinstance(patch, Mapping)
        body = msgspec.json.encode(patch)

        def act() -> bytes:
            rtype = self.store.type_of(kind)
            apply = patch_function(_JSON if is_json else _MERGE, body, with_strategic=False)
            request = Request("Strict", subresource=subresource)
            return self.store.patch(rtype, namespace, name, apply, request).raw(rtype)

        return await self._ask("patch", kind, name, act, is_json_patch=is_json)

    async def delete(
        self, kind: Kind, name: str, *, namespace: str = "", uid: str = "", grace_period_s: int | None = None
    ) -> None:
        """See `KubePort.delete`."""
        options: dict[str, object] = {"preconditions": {"uid": uid}} if uid else {}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s

        def act() -> None:
            self.store.delete(self.store.type_of(kind), namespace, name, options)

        await self._ask("delete", kind, name, act)

    async def _ask(self, verb: str, kind: Kind, name: str, act: Callable[[], R], *, is_json_patch: bool = False) -> R:
        """One request: the faults on command, then the act, counted by its outcome."""
        what = f"{verb} {kind.plural} {name}".rstrip()
        outcome = "ok"
        try:
            faults = await self._faults(verb, kind, name, what)
            refused = next((fault for fault in faults if fault.code), None)
            if refused is not None and not refused.lost:
                raise refused.refusal()
            result = act()
            if refused is not None:
                raise refused.refusal()
        except Refusal as refusal:
            outcome = str(refusal.status.code)
            raise error_of(refusal.status, what, is_json_patch=is_json_patch) from refusal
        except KubeUnavailable:
            outcome = "0"
            raise
        finally:
            self.store.requests[self.client, verb, kind.kind, outcome] += 1
        return result

    async def _faults(self, verb: str, kind: Kind, name: str, what: str) -> Sequence[Fault]:
        # at least one turn of the loop, as any request takes: callers must not come to rely on none
        await asyncio.sleep(self.latency_s)
        if self.store.faults.outage == "refuse":
            raise KubeUnavailable(f"{what}: connection refused (an outage on command)")
        await self.store.faults.wait_out()
        faults = self.store.faults.take(verb, kind.kind, name, self.client)
        delay_s = sum(fault.delay_s for fault in faults)
        if delay_s:
            await asyncio.sleep(delay_s)
        return faults


class _Stream:
    """Events on their way to one watcher's task."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self.status: Status | None = None
        self._events: deque[tuple[EventType, Stored]] = deque()
        self._ended = False
        self._expired = False
        self._wake: asyncio.Future[None] | None = None

    def put(self, event: EventType, stored: Stored) -> None:
        self._events.append((event, stored))
        self._notify()

    def end(self, status: Status | None) -> None:
        self.status = status
        self._ended = True
        self._notify()

    def expire(self) -> None:
        self._expired = True
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def events(self, bookmark: Callable[[], bytes]) -> AsyncIterator[WatchEvent]:
        """Until the end or the time is over; then what has already come and, unless ended, a bookmark."""
        assert self.watcher is not None
        while True:
            while self._events:
                event, stored = self._events.popleft()
                yield WatchEvent(event, stored.raw(self.watcher.rtype))
            if self._ended:
                return
            if self._expired:
                yield WatchEvent("BOOKMARK", bookmark())
                return
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake


def _bookmark(kind: Kind, version: int) -> bytes:
    body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {"resourceVersion": str(version)}}
    return msgspec.json.encode(body)
