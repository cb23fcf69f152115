"""Answers the paths of the table. A CNI call that comes before the node's state is restored waits for that, bounded.

The core may still be missing (metadata away, say): views then show what is waited for, CNI calls end with its reason.
STATUS alone never depends on it: a runtime that hears no would take the node, and all its pods, for not ready.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry

from enitide_api.errors import CniError, EnitideError
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_enidp.boot import boottime_s, wall_time
from enitide_enidp.cni import result
from enitide_enidp.cni.request import (
    BAD_CONFIG,
    BAD_VARIABLES,
    BAD_VERSION,
    DECODE,
    INTERNAL,
    TRY_LATER,
    Call,
    bad,
    parse_call,
)
from enitide_enidp.metrics import CallMetrics, StateCollector
from enitide_enidp.policy.metrics import PolicyCollector
from enitide_enidp.server import policy_views, views
from enitide_enidp.server.http import Request, Response, json_response
from enitide_enidp.server.paths import PATHS, PUBLIC

if TYPE_CHECKING:
    from enitide_enidp.agent import Agent
    from enitide_enidp.core import Core

_CALLERS_FAULT = frozenset({BAD_VERSION, BAD_VARIABLES, DECODE, BAD_CONFIG})
_STALLED_S = 180.0
_log = get_logger("api")


class Api:
    """One per agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._registry = CollectorRegistry()
        self._metrics = CallMetrics(self._registry)
        self._registry.register(StateCollector(agent.waits, lambda: agent.core))
        self._registry.register(PolicyCollector(lambda: agent.policy))
        self._table = {(row.method, row.path): getattr(self, row.handler) for row in PATHS}

    async def on_socket(self, request: Request) -> Response:
        """Any path of the table."""
        head = request.head
        handler = self._table.get((head.method, head.path))
        if handler is not None:
            response: Response = await handler(request)
            return response
        if any(row.path == head.path for row in PATHS):
            return json_response({"error": f"{head.path} does not know {head.method}"}, HTTPStatus.METHOD_NOT_ALLOWED)
        return json_response({"error": f"no such path: {head.path}"}, HTTPStatus.NOT_FOUND)

    async def on_tcp(self, request: Request) -> Response:
        """The public paths alone."""
        if request.head.path not in PUBLIC:
            return json_response({"error": f"no such path: {request.head.path}"}, HTTPStatus.NOT_FOUND)
        return await self.on_socket(request)

    # --- CNI -------------------------------------------------------------------------------------------------------

    async def cni(self, request: Request) -> Response:
        """A CNI call; whatever is wrong becomes a CNI error object."""
        command = request.head.path.rpartition("/")[2]
        began, code, version = time.perf_counter(), 0, "1.0.0"
        try:
            call = parse_call(command, request.head.headers, request.body)
            version = call.config.cni_version
            return Response(await self._serve(call, request))
        except EnitideError as failed:
            error = failed if isinstance(failed, CniError) else bad(str(failed), TRY_LATER, failed.reason)
            code = error.cni_code
            _log.info("CNI call refused", command=command, code=code, reason=error.cni_reason, error=str(error))
            return Response(result.failure(error, version), _status_of(code))
        except Exception as error:  # noqa: BLE001 - a runtime needs an error object even for a bug of ours
            code = INTERNAL
            _log.exception("CNI call failed", command=command)
            broken = bad(f"{type(error).__name__}: see the agent's log", INTERNAL, Reason.INTERNAL)
            return Response(result.failure(broken, version), HTTPStatus.INTERNAL_SERVER_ERROR)
        finally:
            self._metrics.seconds.labels(command).observe(time.perf_counter() - began)
            self._metrics.calls.labels(command, str(code)).inc()

    async def _serve(self, call: Call, request: Request) -> bytes:
        if call.command == "STATUS":
            return b""
        if call.command == "DEL" and not self._agent.restored.is_set():
            self._agent.queue(call, request)
            return b""
        core = await self._restored()
        await self._agent.drain_spool()
        if call.command == "ADD":
            return await core.endpoints.add(call, request.is_gone)
        if call.command == "DEL":
            return await core.endpoints.delete(call)
        if call.command == "CHECK":
            return await core.endpoints.check(call)
        return await core.endpoints.collect(call)

    async def _restored(self) -> Core:
        """The core, once what an earlier process left is adopted."""
        if not self._agent.restored.is_set():
            try:
                async with asyncio.timeout(self._agent.settings.add_wait):
                    await self._agent.restored.wait()
            except TimeoutError:
                wait = self._agent.waits.first()
                reason, text = (wait.reason, wait.message) if wait else (Reason.NOT_RECONCILED, "the agent is starting")
                raise bad(text, TRY_LATER, reason) from None
        core = self._agent.core
        assert core is not None, "restored is set after the core is made"
        return core

    # --- views -----------------------------------------------------------------------------------------------------

    async def status(self, _request: Request) -> Response:
        """Of the whole node."""
        return json_response(self._agent.status(_when()))

    async def addresses(self, _request: Request) -> Response:
        core = self._agent.core
        return json_response({"addresses": views.addresses(core, _when()) if core else []})

    async def history(self, _request: Request) -> Response:
        core = self._agent.core
        return json_response({"history": views.history(core, _when()) if core else []})

    async def endpoints(self, _request: Request) -> Response:
        core = self._agent.core
        rows = views.endpoints(core) if core else []
        policy = self._agent.policy
        return json_response(
            {
                "endpoints": [
                    row | policy_views.endpoint(policy, f"{row['containerID']}/{row['ifname']}") for row in rows
                ]
            }
        )

    async def identities(self, _request: Request) -> Response:
        return json_response({"identities": policy_views.identities(self._agent.policy)})

    async def policies(self, _request: Request) -> Response:
        return json_response({"policies": policy_views.policies(self._agent.policy)})

    async def selectors(self, _request: Request) -> Response:
        return json_response({"selectors": policy_views.selectors(self._agent.policy)})

    async def interfaces(self, _request: Request) -> Response:
        core = self._agent.core
        return json_response({"interfaces": views.interfaces(core) if core else []})

    async def drops(self, _request: Request) -> Response:
        core = self._agent.core
        return json_response({"drops": views.drops(core) if core else []})

    async def metrics(self, _request: Request) -> Response:
        body = prometheus_client.generate_latest(self._registry)
        return Response(body, HTTPStatus.OK, prometheus_client.CONTENT_TYPE_LATEST)

    async def healthz(self, _request: Request) -> Response:
        core = self._agent.core
        silent_s = asyncio.get_running_loop().time() - core.last_pass if core and core.last_pass else 0.0
        if silent_s > _STALLED_S:
            text = f"no pass for {silent_s:.0f} s\n"
            return Response(text.encode(), HTTPStatus.SERVICE_UNAVAILABLE, "text/plain")
        return Response(b"ok\n", HTTPStatus.OK, "text/plain")


def _status_of(code: int) -> HTTPStatus:
    return HTTPStatus.BAD_REQUEST if code in _CALLERS_FAULT else HTTPStatus.SERVICE_UNAVAILABLE


def _when() -> views.When:
    now_s, wall_s = boottime_s(), time.time()
    return lambda since_s: wall_time(since_s, now_s, wall_s)
