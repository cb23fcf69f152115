"""Times as Kubernetes writes them (RFC 3339, UTC) and as decisions compute with them (Unix seconds)."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(unix_s: float) -> str:
    """Unix seconds as `2026-01-31T08:00:00Z`, cut to whole seconds."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(text: str) -> float:
    """Unix seconds of such a text; `ValueError` for anything that names no moment in a time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write it as 2026-01-31T08:00:00Z")
    return moment.timestamp()
