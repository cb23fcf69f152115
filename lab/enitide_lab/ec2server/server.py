"""The whole EC2 of a lab in one process: model, physics, moto, the lab's paths and the metadata service.

`EC2Server` is what tests and the command line start; it puts the parts together and owns the listening sockets.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

# Read by moto when it is imported: 1,299 images would make RunInstances slow, and IAM's policies cost memory.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "false")

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from enitide_lab.ec2model import EC2Model, ModelError, Physics
from enitide_lab.ec2model.addresses import Policy
from enitide_lab.ec2server.app import Endpoint, Reply
from enitide_lab.ec2server.http import DroppedError, Serving
from enitide_lab.ec2server.labpaths import PREFIX, LabPaths
from enitide_lab.ec2server.wire import render_error
from enitide_lab.metadata import MetadataService

DEFAULT_TTL = 64


class EC2Server:
    """Model and server together. `model` and `physics` may be used directly, under `locked`, by the same process."""

    def __init__(
        self,
        *,
        region: str = "us-west-2",
        choice: Policy = "worst",
        seed: int = 0,
        instance_types: Mapping[str, Mapping[str, Any]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = EC2Model(clock, seed=seed, choice=choice, instance_types=instance_types, region=region)
        self.physics = Physics(clock)
        self.endpoint = Endpoint(self.model, self.physics, DomainDispatcherApplication(create_backend_app))
        self.metadata = MetadataService(self.model, self.endpoint.changed, clock)
        self._lab = LabPaths(self.endpoint, self.metadata.faults)
        self._serving: list[Serving] = []

    @property
    def locked(self) -> Any:
        """The lock to hold while touching `model` or `physics` beside the server."""
        return self.endpoint.changed

    def listen(self, listener: socket.socket) -> tuple[str, int]:
        """Serve the EC2 API (and every other AWS API that moto has) on a socket."""
        served = Serving(self._wsgi, listener)
        self._serving.append(served)
        return served.address

    def listen_metadata(self, listener: socket.socket) -> tuple[str, int]:
        """Serve instance metadata on a socket."""
        served = Serving(self._metadata_wsgi, listener)
        self._serving.append(served)
        return served.address

    def stop(self) -> None:
        """Close all sockets and let moto go."""
        while self._serving:
            self._serving.pop().stop()
        self.endpoint.moto.close()

    def _wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        stream, length = environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0)
        body = stream.read() if environ.get("wsgi.input_terminated") else stream.read(length)
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path.startswith(PREFIX):
            reply = self._lab.handle(method, path, environ.get("QUERY_STRING", ""), body)
        elif path == "/moto-api/reset":
            self.endpoint.reset()
            reply = Reply(200, b'{"status": "ok"}', "application/json")
        else:
            reply = self._handle(environ, body)
        return _send(reply, start_response)

    def _handle(self, environ: dict[str, Any], body: bytes) -> Reply:
        try:
            return self.endpoint.handle(environ, body)
        except Exception as exc:  # noqa: BLE001 - a bug here must be seen on both sides: the caller's 500 and our stderr
            traceback.print_exc()
            return Reply(500, render_error(ModelError("InternalError", f"the lab's EC2 failed: {exc!r}", 500)))

    def _metadata_wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # EC2 limits the hops of a token's way back, so that what sits behind a router in the node cannot get one.
        hops = self.metadata.hop_limit if environ["REQUEST_METHOD"] == "PUT" else DEFAULT_TTL
        environ["werkzeug.socket"].setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        headers = {
            key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")
        }
        answer = self.metadata.answer(
            environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), headers, environ["REMOTE_ADDR"]
        )
        return _send(Reply(answer.status, answer.body, answer.content_type, drop=answer.drop), start_response)


def _send(reply: Reply, start_response: Callable[..., Any]) -> list[bytes]:
    if reply.drop:
        raise DroppedError("no answer, on command")
    headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))), *reply.headers]
    start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers)
    return [reply.body]
