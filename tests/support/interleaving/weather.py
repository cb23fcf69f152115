"""Watches whose events are lost, doubled, told again or late, by client: what a network and an API server may do."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from enitide_kube.port import Kind, WatchEvent
from enitide_lab.apistore.port import StoreKube
from enitide_lab.apistore.store import Store


@dataclass(slots=True)
class Sky:
    """For one client and kind: how many of its next events are lost, doubled or told again; how late they are."""

    lose: int = 0
    double: int = 0
    again: int = 0
    late_s: float = 0.0
    told: list[WatchEvent] = field(default_factory=list)

    def err(self, what: str, times: int) -> None:
        """So many more events: `lose`, `double`, or `again` (tell the one before once more, after it)."""
        setattr(self, what, getattr(self, what) + times)


class Weather:
    """The skies of all clients."""

    def __init__(self, tally: Counter[str]) -> None:
        self.tally = tally
        self._skies: dict[tuple[str, str], Sky] = defaultdict(Sky)

    def over(self, client: str, kind: str) -> Sky:
        """One client's watch of that kind; made when first asked for."""
        return self._skies[client, kind]

    def clear(self) -> None:
        """All watches are as they should be."""
        for sky in self._skies.values():
            sky.lose = sky.double = sky.again = 0
            sky.late_s = 0.0


class WeatherKube(StoreKube):
    """`StoreKube` under a sky. Lost is lost: only a newer event or a new list tells."""

    def __init__(self, store: Store, client: str, weather: Weather) -> None:
        super().__init__(store, client, latency_s=0.005)
        self._weather = weather

    async def watch(self, kind: Kind, **options: Any) -> AsyncIterator[WatchEvent]:
        """See `KubePort.watch`."""
        sky, tally = self._weather.over(self.client, kind.kind), self._weather.tally
        async for event in super().watch(kind, **options):
            if event.type == "BOOKMARK":
                yield event
                continue
            if sky.late_s:
                tally["watch event late"] += 1
                await asyncio.sleep(sky.late_s)
            if sky.lose:
                sky.lose -= 1
                tally["watch event lost"] += 1
                continue
            yield event
            if sky.double:
                sky.double -= 1
                tally["watch event doubled"] += 1
                yield event
            if sky.again and sky.told:
                sky.again -= 1
                tally["watch event told again"] += 1
                yield sky.told[-1]
            sky.told = [event]
