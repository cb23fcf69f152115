"""Durations as Kubernetes writes them, and as seconds."""

from __future__ import annotations

import re
from functools import lru_cache

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@lru_cache(maxsize=256)  # a class says the same few at every pass
def seconds(duration: str) -> float:
    """`30s`, `10m`, `1h30m`, `500ms` as seconds. `ValueError` with what to write instead."""
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", duration):
        raise ValueError(f"{duration!r} is no duration: write a number with a unit, such as 30s, 10m or 1h30m")
    return sum(float(n) * _UNITS_S[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", duration))


def duration(value_s: float) -> str:
    """Seconds as a duration that `seconds` reads back, to the millisecond."""
    return f"{round(value_s * 1000)}ms" if value_s % 1 else f"{int(value_s)}s"
