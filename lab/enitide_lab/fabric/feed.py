"""The fabric's view of the lab's EC2 server: its state as facts, its change feed as a bell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enitide_lab.ec2server.control import Control
from enitide_lab.fabric.facts import EniFacts, SubnetFacts, VpcState


class ServerFeed:
    """`LabFailed` when the server does not answer."""

    def __init__(self, endpoint: str) -> None:
        self._control = Control(endpoint)

    def state(self) -> VpcState:
        """All attached ENIs and all subnets now."""
        return facts(self._control.state())

    def wait(self, since: int, timeout_s: float) -> None:
        """Until something changes after `since`, at most `timeout_s`."""
        self._control.events(since, timeout_s)


def facts(state: Mapping[str, Any]) -> VpcState:
    """The server's state, reduced to what a router must know: only what is fully attached has a cable."""
    return VpcState(
        number=int(state["last"]),
        cidrs=tuple(cidr for vpc in state["vpcs"] for cidr in vpc["cidrs"]),
        subnets=tuple(SubnetFacts(s["id"], s["cidr"], s["ipv6_cidr"] or "") for s in state["subnets"]),
        enis=tuple(_eni(eni) for eni in state["interfaces"] if (eni["attachment"] or {}).get("status") == "attached"),
    )


def _eni(eni: Mapping[str, Any]) -> EniFacts:
    attachment = eni["attachment"]
    return EniFacts(
        id=eni["id"],
        mac=eni["mac"],
        instance_id=attachment["instance_id"],
        card=attachment["card"],
        index=attachment["index"],
        subnet_id=eni["subnet_id"],
        addresses=tuple(eni["addresses"]),
        prefixes=tuple(eni["prefixes"]),
        ipv6_addresses=tuple(eni["ipv6_addresses"]),
        ipv6_prefixes=tuple(eni["ipv6_prefixes"]),
    )
