"""The operator's gateway on the wire to a strict EC2, with a term that a test ends and calls that it counts."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import aioboto3

from enitide_api.errors import (
    NotLeading,
)
from enitide_ipam.model import TAG_TOKEN, CreateInterface
from enitide_operator.ec2.budget import Budget, Order
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.wire import AwsEc2
from support.ec2 import REGION, Ground

PLACE = Order(1)


class Gate:
    """A leader's term that a test ends; counts how often it was asked."""

    def __init__(self) -> None:
        self.holds = True
        self.asked = 0

    def require(self) -> None:
        self.asked += 1
        if not self.holds:
            raise NotLeading("ended")


class Observer:
    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()

    def called(self, verb: str, outcome: str, took_s: float) -> None:
        self.calls[verb, outcome] += 1

    def waited(self, verb: str, waited_s: float) -> None:
        assert waited_s >= 0


class Way:
    """A gateway on the wire, and what surrounds it."""

    def __init__(self, gateway: Gateway, gate: Gate, observer: Observer, budget: Budget) -> None:
        self.gateway = gateway
        self.gate = gate
        self.observer = observer
        self.budget = budget


@functools.cache
def session() -> aioboto3.Session:
    """One for all tests: each reads EC2's description anew."""
    return aioboto3.Session(aws_access_key_id="AKIAENITIDETEST", aws_secret_access_key="test", region_name=REGION)


@contextlib.asynccontextmanager
async def way(url: str, call_timeout_s: float = 5.0) -> AsyncIterator[Way]:
    gate, observer, budget = Gate(), Observer(), Budget()
    async with AwsEc2.connect(
        region=REGION, endpoint_url=url, call_timeout_s=call_timeout_s, before_send=gate.require, session=session()
    ) as port:
        clock = iter(range(1000, 1_000_000)).__next__
        gateway = Gateway(
            port, budget, gate, observer, now=lambda: float(clock()), rng=Random(1), call_timeout_s=call_timeout_s
        )
        gateway._backoff = type(gateway._backoff)(base_s=0.01, cap_s=0.02)
        yield Way(gateway, gate, observer, budget)


def order(ground: Ground, token: str = "t-1", **changes: object) -> CreateInterface:
    wanted = {
        "token": token,
        "subnet_id": ground.subnet,
        "card": 0,
        "index": 1,
        "groups": (ground.group,),
        "addresses": 3,
        "prefixes": 0,
        "ipv6": True,
        "tags": {TAG_TOKEN: token, "who": "test"},
        "delete_on_termination": True,
        "description": "a test's",
        "reason": "",
    }
    return CreateInterface(**(wanted | changes))
