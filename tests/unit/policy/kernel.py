"""The kernel's side of the contract as plain dictionaries: takes `Changes` step by step, as the datapath must."""

from ipaddress import ip_network

from enitide_policy.mapstate import Peer, RuleSet, unpack_key
from enitide_policy.twin import PeerIdentities, look_up


class Kernel:
    """`after` is called after every single write."""

    def __init__(self, after=lambda: None):
        self.sets = {}
        self.flags = {}
        self.cidrs = {}
        self.endpoints = {}
        self.after = after

    def apply(self, changes):
        for delta in changes.early:
            self._delta(delta)
        for network, number in changes.cidrs.items():
            assert network not in self.cidrs
            self.cidrs[network] = number
            self.after()
        for made in changes.created:
            assert made.id > 0
            assert made.id not in self.sets, "an id is never used twice"
            self.sets[made.id] = dict(made.entries)
            self.flags[made.id] = (made.isolated_ingress, made.isolated_egress)
        for delta in changes.deltas:
            self._delta(delta)
        for name, number in changes.endpoints.items():
            assert number == 0 or number in self.sets
            self.endpoints[name] = number
            self.after()
        for network in changes.cidrs_gone:
            del self.cidrs[network]
            self.after()
        for delta in changes.late:
            self._delta(delta)
        for number in changes.dropped:
            assert number not in self.endpoints.values(), "an endpoint still points at it"
            del self.sets[number], self.flags[number]

    def _delta(self, delta):
        entries = self.sets[delta.id]
        for key, value in delta.puts.items():
            assert entries.get(key) != value, "a put that changes nothing"
            entries[key] = value
            self.after()
        self.flags[delta.id] = (delta.isolated_ingress, delta.isolated_egress)
        self.after()
        for key in delta.deletes:
            del entries[key]
            self.after()

    def rule_set(self, name):
        number = self.endpoints.get(name, 0)
        return RuleSet(number, *self.flags[number], self.sets[number]) if number else None

    def number_of(self, address):
        if address is None:
            return 0
        for length in range(address.max_prefixlen, -1, -1):
            number = self.cidrs.get(ip_network((address, length), strict=False))
            if number:
                return number
        return 0

    def allows(self, name, side, peer, packet):
        """`peer`: identity, whether it is exact, address. `packet`: protocol, port."""
        identity, exact, address = peer
        found = self.rule_set(name)
        if found is None:
            return False
        who = PeerIdentities(identity, exact, self.number_of(address))
        return look_up(found, side, who, *packet)[0]

    def view(self, name):
        """What an endpoint has, with ranges by name: comparable between engines."""
        found = self.rule_set(name)
        if found is None:
            return None
        names = {number: str(network) for network, number in self.cidrs.items()}
        entries = {}
        for packed, value in found.entries.items():
            key = unpack_key(packed)
            peer = names[key.identity] if key.peer in (Peer.CIDR_ANY, Peer.CIDR_WORLD) else key.identity
            entries[key.direction, key.peer, peer, key.protocol, key.port, key.port_bits] = value
        return found.isolated_ingress, found.isolated_egress, entries
