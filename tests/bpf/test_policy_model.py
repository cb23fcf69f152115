"""The real programs against the model, packet by packet, while policies, identities and time change under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.datapath import policyframes
from support.datapath import policymodel as pm
from support.datapath.namespaces import Namespace, mac
from support.datapath.policymodel import Ends, Model, Said
from support.datapath.world import World, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import EndpointPolicy, Routing, bpffs, clock, codec, connections, counters, loader, syscalls
from enitide_enidp.datapath.types import Endpoint, Hook, Onward
from enitide_policy.mapstate import (
    Action,
    Direction,
    Peer,
    RuleKey,
    RuleSet,
    RuleSetDelta,
    RuleValue,
    pack_key,
    pack_value,
)
from enitide_policy.numbers import local_number

pytestmark = pytest.mark.bpf

REMOTES = {4: ("10.9.0.7", "10.9.1.7", "10.0.7.7"), 6: ("2001:db8:9::7", "2001:db8:9:1::7", "2001:db8:1::77")}
NETWORKS = [
    ip_network(text)
    for text in ("10.0.0.0/8", "10.9.0.0/16", "10.9.0.7/32", "2001:db8::/32", "2001:db8:9::/64", "0.0.0.0/0", "::/0")
]
CLUSTER = [ip_network(text) for text in ("10.0.0.0/16", "10.9.1.0/24", "2001:db8:1::/64", "2001:db8:9:1::/64")]
CIDRS = {network: local_number(i + 1) for i, network in enumerate(NETWORKS)}
IDENTITIES = (256, 256, 257, 1, 6)
PORTS = (80, 80, 81, 1000)
SHOT = 2


KEY_PORTS = (80, 80, 81, 443, 1000, 0x0800, 0x8000, 0x0300, 0x0100)
TCP_FLAGS = ("A", "A", "A", "SA", "S", "FA", "FA", "R")
KINDS = {
    4: ((8, 0), (8, 0), (8, 1), (0, 0), (3, 3), (13, 0)),
    6: ((128, 0), (128, 0), (128, 1), (129, 0), (1, 4), (130, 0)),
}


class Walk:
    """A random walk: policies, identities and time change, packets of new and old flows come."""

    def __init__(self, node: World, routing: Routing, seed: int) -> None:
        self.node, self.routing, self.random = node, routing, Random(seed)
        self.policy = node.datapath.policy
        self.sent: list[Said] = []
        self.verdicts: Counter[object] = Counter()
        self.policy.flush_connections()
        _age(node, everything=True)
        self.model = Model(node=frozenset(node.node_addresses))
        self.pods = (node.pod1, node.pod2)
        for pod in self.pods:
            self.policy.set_endpoint(pod.ifindex, EndpointPolicy())
        for number in (1, 2, 3):
            self.policy.retire(number)
            self.apply(number)
        for pod in self.pods:
            self.switch(pod, EndpointPolicy(self.random.choice((1, 2)), 300))
        self.policy.sync_identities({})
        self.policy.sync_cidrs({})
        self.own(())

    def addresses(self, family: int) -> list:
        pods = [a for pod in self.pods for a in pod.addresses if a.version == family]
        node = [a for a in self.node.node_addresses if a.version == family]
        return pods + node + [ip_address(text) for text in REMOTES[family]]

    def step(self) -> None:
        action = self.random.choices(
            (
                self.new,
                self.again,
                self.complain,
                self.reapply,
                self.reswitch,
                self.identify,
                self.name,
                self.reown,
                self.wait,
                self.policy.collect,
            ),
            (20, 50, 8, 5, 3, 9, 3, 1, 2, 1),
        )[0]
        action()

    # --- what the agent does ---------------------------------------------------------------------------------------

    def _rule_key(self) -> RuleKey:
        choice = self.random.choice
        peer = choice((Peer.ANY, Peer.IDENTITY, Peer.IDENTITY, Peer.CIDR_ANY, Peer.CIDR_WORLD))
        identity = {Peer.ANY: 0, Peer.IDENTITY: choice((*IDENTITIES, 0))}.get(peer, choice(list(CIDRS.values())))
        protocol, bits = choice((0, 0, 6, 6, 17, 132, 1, 58, 50)), choice((0, 1, 8, 10, 15, 16, 16))
        if not protocol or protocol == 50:
            return RuleKey(choice(list(Direction)), peer, identity, protocol)
        port = choice(KEY_PORTS) >> (16 - bits) << (16 - bits) if bits else 0
        return RuleKey(choice(list(Direction)), peer, identity, protocol, port, bits)

    def rules(self) -> dict[int, int]:
        """Mostly allows; now and then a deny or a tier. Precedences are unique in a tier, as the engine makes them."""
        found: dict[int, int] = {}
        for rank in range(1, self.random.choice((1, 3, 8, 14))):
            actions = (Action.ALLOW, Action.DENY, Action.PASS)
            what = self.random.choice(("allow", "allow", "allow", "deny", "admin", "baseline", "both"))
            value = RuleValue(
                admin=self.random.choice(actions) if what in ("admin", "both") else Action.NONE,
                admin_precedence=rank if what in ("admin", "both") else 0,
                deny=what == "deny",
                allow=what in ("allow", "both"),
                baseline=self.random.choice(actions) if what in ("baseline", "both") else Action.NONE,
                baseline_precedence=rank if what in ("baseline", "both") else 0,
            )
            found[pack_key(self._rule_key())] = pack_value(value)
        return found

    def apply(self, number: int) -> None:
        flip = lambda: self.random.random() < 0.5
        whole = RuleSet(number, flip(), flip(), self.rules())
        known = self.model.rulesets.get(number)
        if known is None or flip():
            self.policy.apply(whole)
        else:
            puts = {key: value for key, value in whole.entries.items() if known.entries.get(key) != value}
            gone = tuple(key for key in known.entries if key not in whole.entries)
            self.policy.apply(RuleSetDelta(number, whole.isolated_ingress, whole.isolated_egress, puts, gone))
        self.model.rulesets[number] = whole

    def reapply(self) -> None:
        self.apply(self.random.choice((1, 2, 3)))

    def switch(self, pod: Endpoint, policy: EndpointPolicy) -> None:
        assert self.policy.set_endpoint(pod.ifindex, policy)
        assert self.policy.endpoint(pod.ifindex) == policy
        for address in pod.addresses:
            self.model.endpoints[address] = policy

    def reswitch(self) -> None:
        number = self.random.choice((0, 1, 1, 2, 2, 3, 3))
        enforce, audit = self.random.random() > 0.15, self.random.random() < 0.15
        self.switch(self.random.choice(self.pods), EndpointPolicy(number, 300, enforce, audit))

    def identify(self) -> None:
        address = self.random.choice(self.addresses(self.random.choice((4, 6))))
        if self.sent and self.random.random() < 0.7:
            address = self.random.choice((self.sent[-1].source, self.sent[-1].destination))
        identity = self.random.choice((*IDENTITIES, None))
        if identity is None:
            self.policy.delete_identities([address])
            self.model.identities.pop(address, None)
        else:
            self.policy.put_identities({address: identity})
            self.model.identities[address] = identity

    def name(self) -> None:
        network = self.random.choice(NETWORKS)
        if self.random.random() < 0.7:
            self.policy.put_cidrs({network: CIDRS[network]})
            self.model.cidrs[network] = CIDRS[network]
        else:
            self.policy.delete_cidrs([network])
            self.model.cidrs.pop(network, None)

    def reown(self) -> None:
        self.own(self.random.sample(CLUSTER, self.random.randint(0, 3)))

    def own(self, networks: Iterable) -> None:
        self.policy.set_cluster_networks(networks)
        self.model.cluster = set(networks)

    def wait(self) -> None:
        """Time goes by: what is remembered grows old."""
        span = clock.units(self.random.choice((1, 1, 11, 31, 61, 3600, 8100)))
        self.model.now += span
        _age(self.node, units=span)

    # --- packets ---------------------------------------------------------------------------------------------------

    def new(self) -> None:
        choice = self.random.choice
        family = choice((4, 4, 6))
        source, destination = self.random.sample(self.addresses(family), 2)
        protocol = choice((6, 6, 6, 17, 17, 132, 50, "icmp"))
        fragment = choice(("none", "none", "none", "none", "first", "later"))
        if protocol == "icmp":
            kind = choice(KINDS[family])
            said = Said(source, destination, 1 if family == 4 else 58, choice(PORTS), 0, "", kind, fragment)
        elif protocol == 50:
            said = Said(source, destination, 50, fragment=fragment)
        else:
            flags = choice(("S", "S", "S", "A", "R", "FA")) if protocol == 6 else ""
            said = Said(source, destination, protocol, choice(PORTS), choice(PORTS), flags, fragment=fragment)
        self.send(said)

    def again(self) -> None:
        """More of a flow that has been seen, one way or the other; mostly of one seen lately."""
        if not self.sent:
            return
        said = self.sent[-1 - min(int(self.random.expovariate(0.5)), len(self.sent) - 1)]
        if self.random.random() < 0.5:
            said = pm.turned(said)
        kind = said.kind
        if said.is_icmp and said.kind[0] == pm.ECHO_REQUEST[said.family] and self.random.random() < 0.5:
            kind = (pm.ECHO_REPLY[said.family], 0)
        flags = self.random.choice(TCP_FLAGS) if said.protocol == pm.TCP else ""
        fragment = self.random.choice(("none", "none", "none", "first", "later"))
        self.send(replace(said, flags=flags, kind=kind, fragment=fragment, quotes=None))

    def complain(self) -> None:
        """An ICMP error about a packet that has been seen, by its destination or by anybody."""
        whole = [said for said in self.sent if said.quotes is None and said.fragment == "none"]
        if not whole:
            return
        about = whole[-1 - min(int(self.random.expovariate(0.3)), len(whole) - 1)]
        source = about.destination if self.random.random() < 0.5 else self.random.choice(self.addresses(about.family))
        kind = (self.random.choice(pm.ERRORS[about.family]), 0)
        if source != about.source:
            protocol = 1 if about.family == 4 else 58
            self.send(Said(source, about.source, protocol, kind=kind, quotes=about))

    def send(self, said: Said) -> None:
        """At a hook where such a packet is seen."""
        by_address = {a: pod for pod in self.pods for a in pod.addresses}
        sender, receiver = by_address.get(said.source), by_address.get(said.destination)
        by_stack = self.random.random() < 0.3
        if receiver is not None and (said.source in self.node.node_addresses or by_stack):
            from_host = said.source in self.node.node_addresses and self.random.random() < 0.8
            if said.source in self.node.node_addresses and not from_host:
                self._from_wire(said, receiver)
            else:
                self._to_pod(said, receiver, from_host=from_host)
        elif sender is not None:
            self._from_pod(said, sender, receiver)
        elif receiver is not None:
            self._from_wire(said, receiver)
        if said.fragment != "later":
            self.sent = [*self.sent[-30:], said]

    def _to_pod(self, said: Said, receiver: Endpoint, *, from_host: bool) -> None:
        data = policyframes.frame(said, receiver.host_mac, receiver.pod_mac)
        came_in_by = 0 if from_host else self.node.eni1.ifindex
        ends = Ends(None, said.destination, from_host=from_host)
        self._compare((Hook.TO_POD, receiver.ifindex, came_in_by), data, said, ends, Onward.STACK)

    def _from_wire(self, said: Said, receiver: Endpoint) -> None:
        data = policyframes.frame(said, bytes(6), mac("eni1"))
        if self.routing is Routing.STACK:
            self._compare((Hook.FROM_WIRE, self.node.eni1.ifindex, 0), data, said, None, Onward.STACK)
            return
        ends = Ends(None, said.destination, from_wire=True)
        self._compare((Hook.FROM_WIRE, self.node.eni1.ifindex, 0), data, said, ends, Onward.PEER)

    def _from_pod(self, said: Said, sender: Endpoint, receiver: Endpoint | None) -> None:
        data = policyframes.frame(said, sender.pod_mac, sender.host_mac)
        direct = self.routing is Routing.DIRECT
        ends = Ends(said.source, said.destination if receiver and direct else None, by_a_pod=True)
        onward = Onward.PEER if receiver else Onward.WIRE
        if not direct or said.destination in self.node.node_addresses:
            onward = Onward.STACK
        self._compare((Hook.FROM_POD, sender.ifindex, 0), data, said, ends, onward)

    def _compare(self, at: tuple[Hook, int, int], data: bytes, said: Said, ends: Ends | None, onward: Onward) -> None:
        """`at`: hook, device, and that by which it came. `ends` None: nobody is asked here."""
        hook, device, came_in_by = at
        before = counters.drops(self.node.loaded.maps["audits"])
        seen = self.node.run(hook, data, ifindex=device, came_in_by=came_in_by)
        after = counters.drops(self.node.loaded.maps["audits"])
        audited = [r for (r, h), count in after.items() for _ in range(count.packets - before[r, h].packets)]
        expected = pm.Result() if ends is None else self.model.admit(said, ends)
        assert (seen.drop, seen.onward) == (expected.drop, None if expected.drop else onward), (said, ends)
        assert sorted(audited) == sorted(expected.audited)
        assert (seen.action == SHOT) == (expected.drop is not None)
        self.verdicts[expected.drop or ("audited" if audited else "passed")] += 1

    def check_memory(self) -> None:
        """What the kernel remembers is what the model does, but for what is just expiring."""
        doubtful = {_names(f) for f in self.model.flows.values() if abs(f.expires - self.model.now) <= 3}
        table = connections.Connections(self.node.loaded.maps["connections"])
        alive = {_names(c) for _, c in table.all() if c.expires_in_s > 0}
        expected = {_names(f) for f in self.model.flows.values() if f.expires > self.model.now}
        assert alive - doubtful == expected - doubtful


def _names(flow: connections.Connection | pm.Flow) -> tuple:
    ports = (flow.initiator_port, flow.responder_port)
    return (flow.initiator, flow.responder, flow.protocol, *ports, flow.from_host)


def _age(node: World, *, units: int = 0, everything: bool = False) -> None:
    """Make what is remembered older, as if time had passed: the kernel's clock cannot be moved."""
    for name, key_layout, layout, at in (
        ("connections", codec.CONNECTION_KEY, codec.CONNECTION, connections.EXPIRES_AT),
        ("fragments", codec.FRAGMENT_KEY, codec.FRAGMENT, 4),
    ):
        fd, key_bytes, value_bytes = node.loaded.maps[name], key_layout.codec.size, layout.codec.size
        for key, value in syscalls.dump(fd, key_bytes, value_bytes, 4096):
            expires = codec.U32.unpack_from(value, at)[0]
            left = 0 if everything else max(0, expires - units)
            syscalls.update(fd, key, value[:at] + codec.U32.pack(left) + value[at + 4 :])


@pytest.fixture(scope="module", params=list(Routing), ids=lambda routing: routing.value)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[World, Routing]]:
    with ExitStack() as undo:
        folder = Path(undo.enter_context(TemporaryDirectory(prefix="enitide-policy-")))
        namespace = Namespace()
        undo.callback(namespace.close)
        undo.callback(bpffs.unmount, folder / "bpf")
        undo.enter_context(namespace.entered())
        node = undo.enter_context(world(folder / "bpf", namespace, request.param, policy=True))
        undo.callback(loader.unload, folder / "bpf")
        yield node, request.param


REACHED = Counter[object]()


@settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_programs_and_model_agree_on_every_packet(place: tuple[World, Routing], seed: int) -> None:
    walk = Walk(*place, seed)
    for _ in range(400):
        walk.step()
    walk.check_memory()
    REACHED.update(walk.verdicts)


def test_the_walks_reach_every_verdict() -> None:
    """A model whose walks never reach a branch would agree with anything."""
    wanted = {"passed", "audited", Drop.POLICY_PENDING, Drop.POLICY_DENIED, Drop.POLICY_DEFAULT_DENY}
    wanted |= {Drop.IDENTITY_UNKNOWN, Drop.ORPHAN_FRAGMENT, Drop.SPOOFED_SOURCE}
    assert all(REACHED[each] >= 20 for each in wanted), REACHED
