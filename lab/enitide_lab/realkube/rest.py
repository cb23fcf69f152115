"""A small synchronous client for setting a cluster up: any path, any verb, one connection per request.

The programs themselves talk through `enitide_kube`; this one exists because setting up needs what their port leaves
out on purpose (server-side apply, discovery, subresources of built-in kinds) and needs it before any loop runs. It
reaches a server inside another network namespace. It retries nothing: its callers wait for conditions.
"""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import msgspec

from enitide_api.errors import KubeUnavailable
from enitide_kube.status import Status, error_of
from enitide_lab.realkube import netns as _netns

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who calls: a client certificate, a token, or a user that an administrator's certificate stands in for."""

    certificate: Path | None = None
    key: Path | None = None
    token: str = ""
    impersonate_user: str = ""
    impersonate_groups: tuple[str, ...] = ()
    impersonate_extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rest:
    """One server and one caller.

    `authority` is the CA's file, None for the system's list; `netns` where the server is reached; `tls_server_name`
    whom its certificate must name, '' for the host of the URL.
    """

    server: str
    authority: Path | None
    credentials: Credentials
    netns: Path | None = None
    tls_server_name: str = ""
    JSON: ClassVar[str] = "application/json"
    MERGE_PATCH: ClassVar[str] = "application/merge-patch+json"
    APPLY: ClassVar[str] = "application/apply-patch+yaml"
    _context: list[ssl.SSLContext] = field(default_factory=list, init=False, repr=False, compare=False)

    def get(self, path: str) -> dict[str, Any]:
        """The object or list at `path`."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None, content_type: str = JSON) -> dict[str, Any]:
        """The reply's JSON (other text as `message`); each refusal as its leaf of `KubeError`, in its words."""
        code, payload = self.raw(method, path, None if body is None else json.dumps(body), content_type)
        try:
            reply: dict[str, Any] = json.loads(payload)
        except ValueError:
            reply = {"message": payload.strip()}
        if code >= 400:
            status = msgspec.convert(reply | {"code": code}, Status, strict=False)
            raise error_of(status, f"{method} {path}")
        return reply

    def raw(self, method: str, path: str, body: str | None = None, content_type: str = JSON) -> tuple[int, str]:
        """Status and body as they came. `KubeUnavailable` when there was no answer."""
        connection = self._connect()
        try:
            connection.putrequest(method, path)
            for name, value in self._headers():
                connection.putheader(name, value)
            data = None if body is None else body.encode()
            if data is not None:
                connection.putheader("Content-Type", content_type)
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise KubeUnavailable(f"{method} {self.server}{path}: {error}") from error
        finally:
            connection.close()

    def _headers(self) -> list[tuple[str, str]]:
        headers = [("Accept", "application/json"), ("User-Agent", "enitide-lab")]
        if self.credentials.token:
            headers.append(("Authorization", f"Bearer {self.credentials.token}"))
        if self.credentials.impersonate_user:
            headers.append(("Impersonate-User", self.credentials.impersonate_user))
            headers += [("Impersonate-Group", group) for group in self.credentials.impersonate_groups]
            extra = self.credentials.impersonate_extra
            headers += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for key, value in extra]
        return headers

    def _connect(self) -> http.client.HTTPConnection:
        url = urlsplit(self.server)
        host = url.hostname or ""
        port = url.port or (443 if url.scheme == "https" else 80)
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        try:
            plain = _netns.connect(self.netns, (host, port), _TIMEOUT_S)
        except OSError as error:
            raise KubeUnavailable(f"{self.server}: {error}") from error
        try:
            name = self.tls_server_name or host
            connection.sock = self._tls().wrap_socket(plain, server_hostname=name) if url.scheme == "https" else plain
        except OSError as error:
            plain.close()
            raise KubeUnavailable(f"{self.server}: {error}") from error
        return connection

    def _tls(self) -> ssl.SSLContext:
        if not self._context:
            context = ssl.create_default_context(cafile=None if self.authority is None else str(self.authority))
            if self.credentials.certificate is not None:
                context.load_cert_chain(self.credentials.certificate, self.credentials.key)
            self._context.append(context)
        return self._context[0]
