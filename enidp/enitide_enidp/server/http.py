"""HTTP/1.1 as far as plugin, command line and Prometheus need it: one request per connection, bounded throughout.

A whole web framework would cost more per call than the pod's wiring does. It parses requests and writes replies; what a
path means is the table's. Chunked bodies, upgrades and pipelining are refused, not half understood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from enitide_api.logging import get_logger

MAX_HEAD = 64 << 10
MAX_BODY = 1 << 20
_READ_TIMEOUT_S = 15.0
_log = get_logger("server")


class BadRequest(Exception):
    """A request that is no HTTP or too large; `status` is the answer."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """`is_gone()`: whether the client has hung up."""

    head: Head
    body: bytes
    is_gone: Callable[[], bool] = field(default=lambda: False)


@dataclass(frozen=True, slots=True)
class Response:
    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"


Handler = Callable[[Request], Awaitable[Response]]


def json_response(value: object, status: int = 200) -> Response:
    """Any msgspec-encodable value, with a final newline for people who use curl."""
    return Response(msgspec.json.encode(value) + b"\n", status)


def parse_head(raw: bytes) -> Head:
    """The request line and headers, without the empty line. `BadRequest` for anything else."""
    try:
        lines = raw.decode("utf-8", errors="surrogateescape").split("\r\n")
        method, target, version = lines[0].split(" ")
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "no HTTP request line") from error
    if not version.startswith("HTTP/1."):
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, version)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"no header: {line[:80]!r}")
        headers[name.lower()] = value.strip()
    path, _, query = target.partition("?")
    return Head(method, path, query, headers)


def body_length(headers: Mapping[str, str]) -> int:
    """The announced length. `BadRequest` if it is no number, too large, or the body is chunked."""
    if "transfer-encoding" in headers:
        raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "chunked bodies are not accepted: send Content-Length")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(HTTPStatus.BAD_REQUEST, f"Content-Length {text[:20]!r} is no number")
    if int(text) > MAX_BODY:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY} bytes")
    return int(text)


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The one request of a connection; None if the client hung up before sending one."""
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            raw = await reader.readuntil(b"\r\n\r\n")
            head = parse_head(raw[:-4])
            body = await reader.readexactly(body_length(head.headers))
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the request ends in the middle") from error
    except asyncio.LimitOverrunError as error:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers are too long") from error
    except TimeoutError as error:
        raise BadRequest(HTTPStatus.REQUEST_TIMEOUT, "the request did not come to its end") from error
    return Request(head, body, reader.at_eof)


def encode_response(response: Response) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    head = (
        f"HTTP/1.1 {response.status} {phrase}\r\nContent-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + response.body


class Server:
    """Answers connections with `handler`. A handler that raises is a bug: the client sees 500, the log the rest."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `asyncio.start_unix_server` and `asyncio.start_server`, with `limit=MAX_HEAD`."""
        try:
            response = await self._respond(reader)
            if response is not None:
                writer.write(encode_response(response))
                await writer.drain()
        except (ConnectionError, TimeoutError):
            _log.debug("client hung up")
        finally:
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader) -> Response | None:
        try:
            request = await read_request(reader)
            return None if request is None else await self._handler(request)
        except BadRequest as error:
            return json_response({"error": str(error)}, error.status)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - one bad call must not take the others' agent away
            _log.exception("a handler failed")
            return json_response({"error": "Internal: see the agent's log"}, 500)
