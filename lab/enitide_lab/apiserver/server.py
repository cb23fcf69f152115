"""HTTP requests to store operations and back.

It interprets URLs, headers and query parameters as the API server does and decides nothing about objects. Every
refusal is a `Status`; what is not a refusal and still goes wrong is a bug of ours, answered 500 and logged. Faults on
command are applied here, at the edge, so that they look to a client as the real thing does.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
from aiohttp import web

from enitide_kube.port import POD
from enitide_kube.status import Status
from enitide_lab.apiserver import discovery, lab_face, protobuf
from enitide_lab.apiserver.paths import Target, parse
from enitide_lab.apiserver.printing import table
from enitide_lab.apiserver.watching import HttpWatch
from enitide_lab.apistore import refusal
from enitide_lab.apistore.faults import Fault
from enitide_lab.apistore.lifecycle import Request, Validation
from enitide_lab.apistore.patches import patch_function
from enitide_lab.apistore.refusal import Refusal
from enitide_lab.apistore.store import Store
from enitide_lab.apistore.table import Stored
from enitide_lab.apistore.types import ResourceType

_LOG = logging.getLogger("enitide.lab.apiserver")
_VALIDATIONS: dict[str, Validation] = {"": "Warn", "Strict": "Strict", "Warn": "Warn", "Ignore": "Ignore"}
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_HEALTH = ("/healthz", "/readyz", "/livez")


class ApiServer:
    """One store behind HTTP. With a `token`, every request but health checks must carry it."""

    def __init__(self, store: Store | None = None, *, token: str = "") -> None:
        self.store = store or Store()
        self._token = token
        self._rng = Random()  # noqa: S311  spreads the ends of watches

    @asynccontextmanager
    async def serve(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Answers on these listening sockets, which it closes at the end, together with every watch."""
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            for sock in sockets:
                await web.SockSite(runner, sock, backlog=1024).start()
            yield
        finally:
            self.store.faults.end_outage()
            self.store.drop_watches()
            await runner.cleanup()

    # --- one request ---------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/_lab/"):
            return await lab_face.handle(self.store, request)
        faults = self.store.faults
        if faults.outage == "refuse":
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=503)
        await faults.wait_out()
        try:
            self._authenticate(request)
            return await self._route(request)
        except Refusal as refused:
            return _status_response(refused.status)
        except Exception:  # noqa: BLE001  the edge: told with its traceback, and to the client as a 500
            _LOG.exception("bug: %s %s", request.method, request.path_qs)
            return _status_response(Status(code=500, reason="InternalError", message="the lab's API server failed"))

    def _authenticate(self, request: web.BaseRequest) -> None:
        if (
            self._token
            and request.path not in _HEALTH
            and request.headers.get("Authorization") != f"Bearer {self._token}"
        ):
            raise Refusal(Status(code=401, reason="Unauthorized", message="Unauthorized"))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        fixed = self._fixed(request.path.rstrip("/"))
        if fixed is not None:
            return fixed
        target = parse(request.path)
        if target is None:
            raise refusal.no_such_path()
        if not target.plural:
            return _found(discovery.resource_list(self.store.catalog.types, target.group, target.version))
        review = discovery.REVIEWS.get(target.plural)
        if review is not None and review[0] == target.group:
            return await _review(request, review[1])
        rtype = self.store.catalog.type_at(target.group, target.version, target.plural)
        return await self._counted(request, rtype, target)

    def _fixed(self, path: str) -> web.Response | None:
        types = self.store.catalog.types
        if path in _HEALTH:
            return web.Response(text="ok")
        match path.split("/")[1:]:
            case ["version"]:
                return _json(discovery.VERSION)
            case ["api"]:
                return _json(discovery.versions())
            case ["apis"]:
                return _json(discovery.group_list(types))
            case ["apis", group]:
                return _found(discovery.group(types, group))
            case ["openapi", "v3"]:
                return _json(discovery.openapi_index(types))
            case ["openapi", "v3", "api", version]:
                return _json(discovery.openapi(types, "", version))
            case ["openapi", "v3", "apis", group, version]:
                return _json(discovery.openapi(types, group, version))
        return None

    async def _counted(self, request: web.BaseRequest, rtype: ResourceType, target: Target) -> web.StreamResponse:
        """The request under its faults, counted by client, verb, kind and outcome."""
        verb = _VERBS.get(request.method, "")
        if not verb:
            raise refusal.not_allowed(rtype.kind, request.method)
        if verb == "get" and not target.name:
            verb = "watch" if request.query.get("watch") in ("1", "true") else "list"
        client = (request.headers.get("User-Agent") or "unknown").split(" ")[0]
        outcome = "ok"
        try:
            refused = await self._apply_faults(self.store.faults.take(verb, rtype.kind.kind, target.name, client))
            response = await self._act(request, rtype, target, verb)
            if refused is not None:
                raise refused.refusal()
        except Refusal as refused_by:
            outcome = str(refused_by.status.code)
            raise
        finally:
            self.store.requests[client, verb, rtype.kind.kind, outcome] += 1
        return response

    async def _apply_faults(self, faults: Sequence[Fault]) -> Fault | None:
        """Waits and refuses; returns the fault that loses the answer of what is done all the same."""
        delay_s = sum(fault.delay_s for fault in faults)
        if delay_s:
            await asyncio.sleep(delay_s)
        refused = next((fault for fault in faults if fault.code), None)
        if refused is not None and not refused.lost:
            raise refused.refusal()
        return refused

    async def _act(
        self, request: web.BaseRequest, rtype: ResourceType, target: Target, verb: str
    ) -> web.StreamResponse:
        match verb:
            case "watch":
                return await self._watch(request, rtype, target)
            case "list":
                return self._list(request, rtype, target)
            case "get":
                return self._get(request, rtype, target)
            case "create":
                return await self._create(request, rtype, target)
            case "delete":
                return await self._delete(request, rtype, target)
        return await self._write(request, rtype, target, verb)

    # --- reads ---------------------------------------------------------------------------------------------------

    def _get(self, request: web.BaseRequest, rtype: ResourceType, target: Target) -> web.Response:
        if target.subresource not in ("", "status") or (target.subresource and not rtype.has_status):
            raise refusal.no_such_path()
        stored = self.store.get(rtype, target.namespace, target.name)
        if _wants_table(request):
            return _json(table(rtype, [stored], {"resourceVersion": str(stored.rv)}, self.store.now()))
        return _raw(stored.raw(rtype))

    def _list(self, request: web.BaseRequest, rtype: ResourceType, target: Target) -> web.Response:
        query = request.query
        selector = self._selector(request, rtype, target)
        page = self.store.list(
            rtype,
            selector,
            limit=int(query.get("limit") or 0),
            token=query.get("continue", ""),
            resource_version=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
        )
        metadata: dict[str, Any] = {"resourceVersion": str(page.rv)}
        if page.token:
            metadata["continue"] = page.token
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
        if _wants_table(request):
            return _json(table(rtype, page.items, metadata, self.store.now()))
        head = {"kind": f"{rtype.kind.kind}List", "apiVersion": rtype.kind.api_version, "metadata": metadata}
        items = b",".join(stored.raw(rtype) for stored in page.items)
        return _raw(msgspec.json.encode(head)[:-1] + b',"items":[' + items + b"]}")

    async def _watch(self, request: web.BaseRequest, rtype: ResourceType, target: Target) -> web.StreamResponse:
        selector = self._selector(request, rtype, target)
        watch = HttpWatch(self.store, rtype, selector, as_table=_wants_table(request), now=self.store.now)
        return await watch.serve(request, request.query, self._rng)

    def _selector(self, request: web.BaseRequest, rtype: ResourceType, target: Target) -> Any:
        query = request.query
        fields = query.get("fieldSelector", "")
        return self.store.selector(rtype, target.namespace, query.get("labelSelector", ""), fields)

    # --- writes --------------------------------------------------------------------------------------------------

    async def _create(self, request: web.BaseRequest, rtype: ResourceType, target: Target) -> web.Response:
        body = await _body(request)
        if target.name:
            return self._post_to_subresource(rtype, target, body)
        asked = _asked(request)
        stored = self.store.create(rtype, target.namespace, body, asked, dry_run=_dry_run(request.query))
        return _written(stored, rtype, asked, 201)

    def _post_to_subresource(self, rtype: ResourceType, target: Target, body: Mapping[str, Any]) -> web.Response:
        if target.subresource not in rtype.subresources:
            raise refusal.no_such_path() if target.subresource else refusal.not_allowed(rtype.kind, "POST")
        if target.subresource == "binding":
            self.store.bind(target.namespace, target.name, body)
        else:
            options = body.get("deleteOptions") or {}
            self.store.delete(self.store.type_of(POD), target.namespace, target.name, options)
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    async def _write(self, request: web.BaseRequest, rtype: ResourceType, target: Target, verb: str) -> web.Response:
        if not target.name:
            raise refusal.not_allowed(rtype.kind, request.method)
        if target.subresource not in ("", "status"):
            raise refusal.no_such_path()
        asked = _asked(request)
        asked.subresource = target.subresource
        where = (rtype, target.namespace, target.name)
        if verb == "update":
            stored = self.store.update(*where, await _body(request), asked, dry_run=_dry_run(request.query))
        else:
            apply = patch_function(request.content_type, await request.read(), with_strategic=rtype.strategic)
            stored = self.store.patch(*where, apply, asked, dry_run=_dry_run(request.query))
        return _written(stored, rtype, asked, 200)

    async def _delete(self, request: web.BaseRequest, rtype: ResourceType, target: Target) -> web.Response:
        options = await _body(request) if request.can_read_body else {}
        query = request.query
        if "gracePeriodSeconds" in query:
            options["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
        if not target.name:
            selected = self.store.list(rtype, self._selector(request, rtype, target)).items
            for stored in selected:
                metadata = stored.obj["metadata"]
                self.store.delete(rtype, metadata.get("namespace", ""), metadata["name"], options)
            return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        stored = self.store.delete(rtype, target.namespace, target.name, options)
        metadata = stored.obj["metadata"]
        present = self.store.catalog.tables.get(rtype.table)
        if present is not None and stored.key in present.objects:
            return _raw(stored.raw(rtype))
        details = {"name": metadata["name"], "kind": rtype.kind.plural, "uid": metadata["uid"]}
        if rtype.kind.group:
            details["group"] = rtype.kind.group
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return _json(body)


def _asked(request: web.BaseRequest) -> Request:
    word = request.query.get("fieldValidation", "")
    if word not in _VALIDATIONS:
        raise refusal.bad_request(f"fieldValidation: {word!r} must be Strict, Warn or Ignore")
    return Request(_VALIDATIONS[word])


def _dry_run(query: Mapping[str, str]) -> bool:
    return query.get("dryRun") == "All"


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    raw = await request.read()
    if request.content_type == "application/vnd.kubernetes.protobuf":
        try:
            return protobuf.decode(raw)
        except protobuf.Unreadable as error:
            raise refusal.unsupported_media(f"{error}: give a JSON or YAML manifest to `kubectl apply -f`") from error
    if request.content_type not in ("application/json", "application/octet-stream"):
        raise refusal.unsupported_media(f"the body must be application/json, not {request.content_type}")
    try:
        body = msgspec.json.decode(raw) if raw else {}
    except msgspec.DecodeError as error:
        raise refusal.bad_request(f"the object provided is unrecognized: {error}") from error
    if not isinstance(body, dict):
        raise refusal.bad_request("the object provided is no JSON object")
    return body


async def _review(request: web.BaseRequest, kind: str) -> web.Response:
    """Access reviews say yes: this server knows no rights. Who one is, is `lab`."""
    if request.method != "POST":
        raise Refusal(Status(code=405, reason="MethodNotAllowed", message=f"{kind} is only created"))
    user = {"username": "lab", "groups": ["system:masters", "system:authenticated"]}
    status: dict[str, Any] = {"allowed": True}
    if kind == "SelfSubjectRulesReview":
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        status = {"resourceRules": [everything], "nonResourceRules": [], "incomplete": False}
    elif kind == "TokenReview":
        status = {"authenticated": True, "user": user}
    elif kind == "SelfSubjectReview":
        status = {"userInfo": user}
    # kubectl sends these as protobuf, which is not read here: the answer does not depend on what was asked
    asked = {} if request.content_type == "application/vnd.kubernetes.protobuf" else await _body(request)
    group = next(group for group, served in discovery.REVIEWS.values() if served == kind)
    return _json(
        {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {}, "spec": {}, **asked, "status": status}, 201
    )


def _wants_table(request: web.BaseRequest) -> bool:
    return "as=Table" in request.headers.get("Accept", "").split(",")[0]


def _written(stored: Stored, rtype: ResourceType, asked: Request, code: int) -> web.Response:
    response = _raw(stored.raw(rtype), code)
    for warning in asked.warnings:
        escaped = warning.replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def _raw(body: bytes, code: int = 200) -> web.Response:
    return web.Response(body=body, status=code, content_type="application/json")


def _json(body: Any, code: int = 200) -> web.Response:
    return _raw(msgspec.json.encode(body), code)


def _found(body: dict[str, Any] | None) -> web.Response:
    if body is None:
        raise refusal.no_such_path()
    return _json(body)


def _status_response(status: Status) -> web.Response:
    response = _json(status.to_json(), status.code)
    after_s = status.details.retry_after_seconds if status.details else 0
    if status.code == 429 or after_s:
        response.headers["Retry-After"] = str(after_s or 1)
    return response
