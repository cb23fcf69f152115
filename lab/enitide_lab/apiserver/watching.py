"""One watch over HTTP: lines of JSON in chunks, written straight to the transport.

Nothing is queued per watcher: the operating system's and asyncio's write buffers are the queue, and a client that lets
more than a few megabytes stand unread loses its connection instead of holding the server's memory.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from enitide_lab.apiserver.printing import table
from enitide_lab.apistore.table import EventType, Stored, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from enitide_kube.status import Status
    from enitide_lab.apistore.selectors import Selector
    from enitide_lab.apistore.store import Store
    from enitide_lab.apistore.types import ResourceType

UNREAD_LIMIT_BYTES = 8 * 1024 * 1024
BOOKMARK_EVERY_S = 60.0


class HttpWatch:
    """Made for one request; `serve` runs it to its end."""

    def __init__(
        self, store: Store, rtype: ResourceType, selector: Selector, *, as_table: bool, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._rtype = rtype
        self._as_table = as_table
        self._now = now
        self._early: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self._ended = asyncio.Event()
        self.watcher = Watcher(rtype, selector, self._on_event, self._on_end)

    async def serve(self, request: web.BaseRequest, query: Mapping[str, str], rng: Random) -> web.StreamResponse:
        """Begins the watch (a Refusal raised here is a plain reply), then streams until the end."""
        since = self._store.parse_version(query.get("resourceVersion", ""))
        initial = since == 0 or query.get("sendInitialEvents") in ("true", "1")
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._store.watch(self.watcher, since, initial=initial)
        try:
            response = web.StreamResponse()
            response.content_type = "application/json"
            response.enable_chunked_encoding()
            await response.prepare(request)
            transport = request.transport
            if transport is None or transport.is_closing():
                return response
            self._transport = transport
            for line in self._early:
                self._send(line)
            if query.get("sendInitialEvents") in ("true", "1") and bookmarks:
                self._bookmark(initial_end=True)
            timeout_s = float(query.get("timeoutSeconds") or 0) or rng.uniform(1800, 3600)
            await self._until_end(timeout_s, bookmarks=bookmarks)
            self._transport = None
            await response.write_eof()
            return response
        finally:
            self._transport = None
            self._store.unwatch(self.watcher)

    async def _until_end(self, timeout_s: float, *, bookmarks: bool) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        while loop.time() < end_s:
            try:
                async with asyncio.timeout_at(min(end_s, loop.time() + BOOKMARK_EVERY_S)):
                    await self._ended.wait()
            except TimeoutError:
                if bookmarks:
                    self._bookmark()
            else:
                return

    def _on_event(self, event: EventType, stored: Stored) -> None:
        if self._as_table:
            body = {"type": event, "object": table(self._rtype, [stored], {}, self._now())}
            self._send(msgspec.json.encode(body) + b"\n")
        else:
            self._send(stored.line(self._rtype, event))

    def _on_end(self, status: Status | None) -> None:
        if status is not None:
            self._send(msgspec.json.encode({"type": "ERROR", "object": status.to_json()}) + b"\n")
        self._ended.set()

    def _bookmark(self, *, initial_end: bool = False) -> None:
        metadata: dict[str, object] = {"resourceVersion": str(self._store.version)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        kind = self._rtype.kind
        obj: dict[str, object] = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        if self._as_table:
            obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "rows": []}
        self._send(msgspec.json.encode({"type": "BOOKMARK", "object": obj}) + b"\n")

    def _send(self, line: bytes) -> None:
        transport = self._transport
        if transport is None:
            self._early.append(line)
        elif not transport.is_closing():
            if transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
                transport.abort()
                self._ended.set()
                return
            transport.write(b"%x\r\n%b\r\n" % (len(line), line))
