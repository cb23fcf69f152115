"""A node with policy in the kernel: rule sets for its first pod, packets from and to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from support.datapath import policyframes
from support.datapath.namespaces import Namespace, mac
from support.datapath.policymodel import UDP, Said
from support.datapath.world import World, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import (
    Datapath,
    EndpointPolicy,
    NodeConfig,
    Routing,
    connections,
    policycodec,
    syscalls,
)
from enitide_enidp.datapath.types import Hook
from enitide_policy.mapstate import (
    Direction,
    Peer,
    RuleKey,
    RuleSet,
    RuleValue,
    pack_key,
    pack_value,
)

ALLOW, DENY = pack_value(RuleValue(allow=True)), pack_value(RuleValue(deny=True))


REMOTE, OTHER = ip_address("10.9.0.7"), ip_address("10.9.0.8")


POLICY = NodeConfig(policy=True)


def egress(identity: int = 0, protocol: int = 0, port: int = 0, bits: int = 0) -> int:
    peer = Peer.IDENTITY if identity else Peer.ANY
    return pack_key(RuleKey(Direction.EGRESS, peer, identity, protocol, port, bits))


def only(number: int, *keys: int) -> RuleSet:
    """A rule set that isolates egress and allows these."""
    return RuleSet(number, False, True, dict.fromkeys(keys, ALLOW))


@contextmanager
def policy_node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        yield made


def send(node: World, to: object = REMOTE, sport: int = 1000) -> Drop | None:
    said = Said(node.pod1.ipv4, to, UDP, sport, 80)
    data = policyframes.frame(said, node.pod1.pod_mac, node.pod1.host_mac)
    return node.run(Hook.FROM_POD, data, ifindex=node.pod1.ifindex).drop


def receive(node: World, said: Said) -> Drop | None:
    data = policyframes.frame(said, bytes(6), mac("eni1"))
    return node.run(Hook.FROM_WIRE, data, ifindex=node.eni1.ifindex).drop


def switch(node: World, number: int, identity: int = 300) -> None:
    assert node.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(number, identity))


def rules_in_kernel(node: World) -> int:
    return len(syscalls.dump(node.loaded.maps["rules"], policycodec.KEY_BYTES, policycodec.RULE_BYTES, 1 << 20))


# --- restart ---------------------------------------------------------------------------------------------------------


def again(pins: Path) -> Datapath:
    return Datapath.open(pins, POLICY)


def table(node: World) -> list[connections.Connection]:
    return [each for _, each in connections.Connections(node.loaded.maps["connections"]).all()]
