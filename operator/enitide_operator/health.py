"""`/metrics`, `/healthz`, `/readyz` and `/debug/plan` on one small HTTP listener, all of them read-only.

`/healthz` says that the loop turns: a process whose tasks have failed has ended already. `/readyz` says that all caches
have been filled; a follower is ready too, or a rolling update would never end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from enitide_api.errors import SettingsInvalid


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:9808`, `[::]:9808` or `:9808` (all addresses). `SettingsInvalid` for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise SettingsInvalid(f"--metrics-address {address!r}: write HOST:PORT, such as 127.0.0.1:9808")
    return host.strip("[]"), int(port)


@asynccontextmanager
async def serve(
    address: str,
    registry: CollectorRegistry,
    ready: Callable[[], bool],
    preview: Callable[[str], Awaitable[dict[str, Any] | None]],
) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port in use. `SettingsInvalid` if the address cannot be had.

    `preview(node)`: what `/debug/plan?node=` answers, None while following.
    """
    host, port = host_and_port(address)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(text="caches are being filled\n", status=503)

    async def plan(request: web.Request) -> web.Response:
        node = request.query.get("node", "")
        found = await preview(node)
        if found is None:
            return web.json_response({"error": "this operator follows: ask the one that leads"}, status=503)
        if node and not found["nodes"]:
            return web.json_response({"error": f"no ENINode {node!r}"}, status=404)
        return web.json_response(found)

    app = web.Application()
    paths = {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz, "/debug/plan": plan}
    app.add_routes([web.get(path, handler) for path, handler in paths.items()])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host or None, port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsInvalid(f"--metrics-address {address}: {error.strerror or error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
