"""How long pods waited for an address: from the ADD's question to an address, or to the reason why there was none."""

from __future__ import annotations

from prometheus_client import Histogram

NAME = "enitide_address_wait_seconds"
TEXT = "How long an ADD waited for an address; outcome is ok or the reason for which it got none."
_BUCKETS_S = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)


def address_wait() -> Histogram:
    """One per agent, by `outcome`. It stands in no registry: the agent's collector shows it."""
    return Histogram(NAME, TEXT, ["outcome"], buckets=_BUCKETS_S, registry=None)
