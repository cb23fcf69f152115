"""`/_lab/`: faults on command over HTTP, for tests and for the lab's command line. Answers during an outage too.

`POST /_lab/faults` takes one JSON object with one of these keys; unknown ones are refused:

- `fail`: `{kind, verbs, code, times, delay_s, lost, client, name, retry_after_s}`, see `apistore.faults.Fault`
- `clear`: true
- `drop_watches`, `expire_watches`, `compact`: a kind's name or `*`
- `outage`: `{mode: hang|refuse, for_s}`; without `for_s` it lasts until `clear`

`GET /_lab/requests` gives how many requests of each client, verb, kind and outcome there were.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from aiohttp import web

from enitide_lab.apistore.faults import Fault, verbs

if TYPE_CHECKING:
    from enitide_lab.apistore.store import Store


class FailCommand(msgspec.Struct, forbid_unknown_fields=True):
    """A fault as it is asked for."""

    kind: str = "*"
    verbs: list[str] = msgspec.field(default_factory=lambda: ["write"])
    code: int = 0
    times: int | None = 1
    delay_s: float = 0.0
    lost: bool = False
    client: str = ""
    name: str = ""
    retry_after_s: int = 0


class OutageCommand(msgspec.Struct, forbid_unknown_fields=True):
    """An outage as it is asked for."""

    mode: Literal["hang", "refuse"] = "refuse"
    for_s: float | None = None


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """One of its fields."""

    fail: FailCommand | None = None
    clear: bool = False
    drop_watches: str = ""
    expire_watches: str = ""
    compact: str = ""
    outage: OutageCommand | None = None


async def handle(store: Store, request: web.BaseRequest) -> web.Response:
    """Answers 200 with what was done, 400 with why not, 404 for another path."""
    match request.method, request.path:
        case "POST", "/_lab/faults":
            try:
                command = msgspec.json.decode(await request.read(), type=Command)
                done = obey(store, command)
            except (msgspec.DecodeError, ValueError) as error:
                return _json({"error": str(error)}, 400)
            return _json(done, 200)
        case "GET", "/_lab/requests":
            return _json(
                [
                    {"client": client, "verb": verb, "kind": kind, "outcome": outcome, "count": count}
                    for (client, verb, kind, outcome), count in sorted(store.requests.items())
                ],
                200,
            )
    return _json({"error": f"{request.method} {request.path}: only POST /_lab/faults and GET /_lab/requests"}, 404)


def obey(store: Store, command: Command) -> dict[str, Any]:
    """Does what the command says. `ValueError` for an unknown verb or kind."""
    ended = 0
    if command.clear:
        store.faults.clear()
    if command.fail is not None:
        wanted = msgspec.structs.asdict(command.fail)
        store.faults.add(Fault(**{**wanted, "verbs": verbs(command.fail.verbs)}))
    if command.compact:
        store.compact(command.compact)
    if command.drop_watches:
        ended += store.drop_watches(command.drop_watches)
    if command.expire_watches:
        ended += store.expire_watches(command.expire_watches)
    if command.outage is not None:
        store.faults.begin_outage(command.outage.mode)
        if command.outage.mode == "refuse":
            ended += store.drop_watches()
        if command.outage.for_s is not None:
            asyncio.get_running_loop().call_later(command.outage.for_s, store.faults.end_outage)
    return {"faults": len(store.faults.active), "outage": store.faults.outage, "watches_ended": ended}


def _json(body: Any, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
