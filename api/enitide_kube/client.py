"""The Kubernetes port over HTTP: aiohttp and msgspec, no models, no cache, no retry.

One request per call. Whatever the server or the wire does comes out as a leaf of `KubeError`; a lost connection is
`KubeUnavailable` with status 0, and the caller must then believe neither that the write happened nor that it did not.
The official client takes 300-800 µs per pod to list; this takes about 10, because only a reflector's slim struct is
ever built.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import msgspec

from enitide_api.errors import KubeError, KubeUnavailable
from enitide_kube.credentials import Credentials, load
from enitide_kube.port import Page, WatchEvent
from enitide_kube.status import Status, StatusDetails, error_of

if TYPE_CHECKING:
    from enitide_kube.port import Json, Kind, PatchOperations

REQUEST_TIMEOUT_S = 30.0
# The server ends a watch after timeoutSeconds; a client that still waits this much later has lost it without notice.
WATCH_GRACE_S = 15.0
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_token: str = msgspec.field(name="continue", default="")


class _ListWire(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class _EventWire(msgspec.Struct):
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


_LIST = msgspec.json.Decoder(_ListWire)
_EVENT = msgspec.json.Decoder(_EventWire)
_STATUS = msgspec.json.Decoder(Status)


def path_of(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of a resource: `/apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/SUBRESOURCE`."""
    parts = [f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"]
    if namespace and kind.namespaced:
        parts.append(f"namespaces/{namespace}")
    parts.append(kind.plural)
    parts.extend(part for part in (name, subresource) if part)
    return "/".join(parts)


def _no_answer(what: str, server: str, error: Exception) -> KubeUnavailable:
    """A time-out says nothing of its own; the others say what failed."""
    why = "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
    return KubeUnavailable(f"{what} at {server}: {why}")


class HttpKube:
    """`KubePort` over HTTP. Made by `connect`; one per program; safe for any number of tasks of one loop."""

    def __init__(self, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self._session = session
        self._credentials = credentials

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: str | None, user_agent: str, *, mark: int = 0) -> AsyncIterator[HttpKube]:
        """Opens no connection yet: an API server that is away shows at the first call. `SettingsInvalid` otherwise.

        `mark`: SO_MARK of its sockets, which needs CAP_NET_ADMIN; 0: none.
        """
        credentials = load(kubeconfig)
        connector = aiohttp.TCPConnector(limit=0, socket_factory=partial(_keepalive_socket, mark))
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=10.0)
        headers = {"User-Agent": user_agent, "Accept": "application/json"}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
            yield cls(session, credentials)

    @property
    def server(self) -> str:
        """Base URL of the API server."""
        return self._credentials.server

    @property
    def default_namespace(self) -> str:
        """The namespace that the kubeconfig's context (or the pod) names."""
        return self._credentials.namespace

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Any request, for what the port has no verb for (discovery, health, token review). Errors as everywhere."""
        data = None if body is None else msgspec.json.encode(body)
        headers = await self._headers(content_type if data is not None else "")
        what = f"{method} {path}"
        try:
            async with self._session.request(
                method, self.server + path, params=params, data=data, headers=headers, **self._connection()
            ) as response:
                reply = await response.read()
                if response.status >= 400:
                    raise _refusal(response, reply, what, is_json_patch=content_type == JSON_PATCH)
                return reply
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(what, self.server, error) from error

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
        """One page; see `KubePort.list`. Items of built-in kinds carry no `kind` of their own (the server omits it)."""
        params = _given(
            limit=str(limit), **{"continue": continue_token}, fieldSelector=field_selector, labelSelector=label_selector
        )
        path = path_of(kind, namespace)
        raw = await self.request("GET", path, params=params)
        try:
            wire = _LIST.decode(raw)
        except msgspec.DecodeError as error:
            raise KubeUnavailable(f"GET {path}: the reply is no list: {error}", status=200) from error
        items = tuple(bytes(item) for item in wire.items or ())
        return Page(items, wire.metadata.resource_version, wire.metadata.continue_token)

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
        """The changes after `resource_version`; see `KubePort.watch`."""
        params = _given(
            watch="1",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            fieldSelector=field_selector,
            labelSelector=label_selector,
            timeoutSeconds=str(max(1, round(timeout_s))),
        )
        path = path_of(kind, namespace)
        what = f"WATCH {path}"
        timeout = aiohttp.ClientTimeout(total=timeout_s + WATCH_GRACE_S, sock_connect=10.0)
        try:
            async with self._session.get(
                self.server + path, params=params, headers=await self._headers(), timeout=timeout, **self._connection()
            ) as response:
                if response.status >= 400:
                    raise _refusal(response, await response.read(), what)
                if on_open is not None:
                    on_open()
                async for line in _lines(response.content):
                    yield _event(line, what)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(what, self.server, error) from error

    async def get(self, kind: Kind, name: str, *, namespace: str = "") -> bytes:
        """The object; see `KubePort.get`."""
        return await self.request("GET", path_of(kind, namespace, name))

    async def create(
        self,
        kind: Kind,
        obj: Json,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        field_manager: str = "",
    ) -> bytes:
        """Create, or post to a subresource; see `KubePort.create`."""
        params = _given(fieldValidation="Strict", fieldManager=field_manager)
        return await self.request("POST", path_of(kind, namespace, name, subresource), params=params, body=obj)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Json | PatchOperations,
        *,
        namespace: str = "",
        subresource: str = "",
        field_manager: str = "",
    ) -> bytes:
        """Merge patch for a mapping, JSON patch for a sequence; see `KubePort.patch`."""
        params = _given(fieldValidation="Strict", fieldManager=field_manager)
        content_type = MERGE_PATCH if isinstance(patch, Mapping) else JSON_PATCH
        path = path_of(kind, namespace, name, subresource)
        return await self.request("PATCH", path, params=params, body=patch, content_type=content_type)

    async def delete(
        self, kind: Kind, name: str, *, namespace: str = "", uid: str = "", grace_period_s: int | None = None
    ) -> None:
        """Delete in the background; see `KubePort.delete`."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        await self.request("DELETE", path_of(kind, namespace, name), body=options)

    async def _headers(self, content_type: str = "") -> dict[str, str]:
        try:
            token = await self._credentials.token_source.token()
        except OSError as error:
            raise KubeUnavailable(f"the token of this program cannot be read: {error}") from error
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if content_type:
            headers["Content-Type"] = content_type
        return headers

    def _connection(self) -> dict[str, Any]:
        credentials = self._credentials
        options: dict[str, Any] = {"ssl": credentials.tls} if credentials.tls is not None else {}
        if credentials.tls_server_name:
            options["server_hostname"] = credentials.tls_server_name
        if credentials.proxy:
            options["proxy"] = credentials.proxy
        return options


def _given(**params: str) -> dict[str, str]:
    return {key: value for key, value in params.items() if value}


def _keepalive_socket(mark: int, info: tuple[Any, ...]) -> socket.socket:
    """A watch is silent for minutes: keepalive finds within about a minute that the other side has vanished."""
    family, kind, protocol = info[0], info[1], info[2]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return sock


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Splits the stream at newlines. An unfinished line waits in pieces, so that a long one is joined only once."""
    pieces: list[bytes] = []
    async for chunk in content.iter_any():
        head, *rest = chunk.split(b"\n")
        pieces.append(head)
        for following in rest:
            line = b"".join(pieces)
            pieces = [following]
            if line:
                yield line
    # what is left without a newline was cut off with the connection: it is no event


def _event(line: bytes, what: str) -> WatchEvent:
    try:
        wire = _EVENT.decode(line)
        if wire.type != "ERROR":
            return WatchEvent(wire.type, bytes(wire.object))
        status = _STATUS.decode(wire.object)
    except msgspec.DecodeError as error:
        raise KubeUnavailable(f"{what}: a line of the stream is no event: {error}", status=200) from error
    raise error_of(status, what)


def _refusal(response: aiohttp.ClientResponse, reply: bytes, what: str, *, is_json_patch: bool = False) -> KubeError:
    try:
        status = _STATUS.decode(reply)
    except msgspec.DecodeError:  # a proxy's page, or nothing: the HTTP status alone speaks
        status = Status(message=reply[:200].decode("utf-8", "replace"))
    details = status.details
    after = response.headers.get("Retry-After", "")
    if after.isdecimal() and not (details and details.retry_after_seconds):
        details = msgspec.structs.replace(details or StatusDetails(), retry_after_seconds=int(after))
    status = msgspec.structs.replace(status, code=response.status, details=details)
    return error_of(status, what, is_json_patch=is_json_patch)
