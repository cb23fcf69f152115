"""Faults on command: refused or slow requests, answers that are lost, an API server that hangs or is gone.

Pure bookkeeping; the two faces ask it before and after each request and do the waiting. A fault says by whom, for
which kind and verb, and how often; it fires in the order of its making.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from enitide_kube.status import Status, StatusDetails
from enitide_lab.apistore.refusal import Refusal

READS = frozenset({"get", "list", "watch"})
WRITES = frozenset({"create", "update", "patch", "delete"})
_GROUPS = {"read": READS, "reads": READS, "write": WRITES, "writes": WRITES, "*": READS | WRITES}
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def verbs(words: Iterable[str]) -> frozenset[str]:
    """Verbs from words: `read`, `write`, `*`, or single verbs. `ValueError` for an unknown one."""
    found: set[str] = set()
    for word in words:
        if word not in _GROUPS and word not in READS | WRITES:
            raise ValueError(f"{word!r} is no verb: write one of {', '.join(sorted(READS | WRITES | set(_GROUPS)))}")
        found |= _GROUPS.get(word, {word})
    return frozenset(found)


@dataclass(slots=True)
class Fault:
    """`kind` is a Kind's name or `*`; `client` the beginning of a client's name; `times` None is until cleared.

    With `code` the request is refused (or, if `lost`, done and then refused); without, only `delay_s` later.
    """

    kind: str = "*"
    verbs: frozenset[str] = WRITES
    code: int = 0
    times: int | None = 1
    delay_s: float = 0.0
    lost: bool = False
    client: str = ""
    name: str = ""
    retry_after_s: int = 0

    def fits(self, verb: str, kind: str, name: str, client: str) -> bool:
        """Whether it concerns this request."""
        return (
            self.times != 0
            and verb in self.verbs
            and self.kind in ("*", kind)
            and self.name in ("", name)
            and client.startswith(self.client)
        )

    def refusal(self) -> Refusal:
        """The answer."""
        details = StatusDetails(retry_after_seconds=self.retry_after_s) if self.retry_after_s else None
        reason = _REASONS.get(self.code, "InternalError")
        return Refusal(Status(code=self.code, reason=reason, message="a fault on command", details=details))


@dataclass(slots=True)
class Faults:
    """All faults of one store."""

    active: list[Fault] = field(default_factory=list)
    outage: Literal["", "hang", "refuse"] = ""
    _over: asyncio.Event | None = None

    def add(self, fault: Fault) -> Fault:
        """It holds from now on."""
        self.active.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """It holds no more, if it still did."""
        self.active = [each for each in self.active if each is not fault]

    def clear(self) -> None:
        """No fault holds any more, and an outage ends."""
        self.active.clear()
        self.end_outage()

    def take(self, verb: str, kind: str, name: str, client: str) -> list[Fault]:
        """The faults that concern this request, each counted down: all that only delay, and the first with a code."""
        taken: list[Fault] = []
        for fault in self.active:
            if fault.fits(verb, kind, name, client) and not (fault.code and any(t.code for t in taken)):
                taken.append(fault)
                if fault.times is not None:
                    fault.times -= 1
        self.active = [fault for fault in self.active if fault.times != 0]
        return taken

    def begin_outage(self, mode: Literal["hang", "refuse"]) -> None:
        """From now on requests wait for the end (`hang`), or find nobody (`refuse`)."""
        self.outage = mode
        self._over = self._over or asyncio.Event()  # who waits already waits for the end of this one too

    def end_outage(self) -> None:
        """The server answers again."""
        self.outage = ""
        if self._over is not None:
            self._over.set()
            self._over = None

    async def wait_out(self) -> None:
        """Returns when no outage holds."""
        while self._over is not None:
            await self._over.wait()
