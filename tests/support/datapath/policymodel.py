"""What policy and connections should do, said a second time: from the meaning of packets and rules.

The C programs hash keys, remember verdicts and stamp them with generations. The model does none of that: it matches
every rule against every packet, and asks the policy that holds now for each packet of a connection. That the two agree
shows that what the programs remember is never old.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from enitide_api.reasons import Drop
from enitide_enidp.datapath import clock
from enitide_enidp.datapath.types import EndpointPolicy
from enitide_policy.mapstate import Action, Direction, Network, Peer, RuleKey, RuleSet, RuleValue

Address = IPv4Address | IPv6Address
TCP, UDP, SCTP, ICMP, ICMPV6, ESP = 6, 17, 132, 1, 58, 50
ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
UNKNOWN, WORLD = 0, 2


@dataclass(frozen=True, slots=True)
class Said:
    """A packet in words. ICMP: `kind` is type and code, `sport` the identifier. `quotes`: an ICMP error about it."""

    source: Address
    destination: Address
    protocol: int
    sport: int = 0
    dport: int = 0
    flags: str = ""
    kind: tuple[int, int] = (0, 0)
    fragment: str = "none"
    datagram: int = 7
    quotes: Said | None = None

    @property
    def family(self) -> int:
        return self.source.version

    @property
    def is_icmp(self) -> bool:
        return self.protocol == (ICMP if self.family == 4 else ICMPV6)


@dataclass(slots=True)
class Flow:
    """A connection: who began it, with which ports, and how TCP stands."""

    initiator: Address
    responder: Address
    protocol: int
    initiator_port: int
    responder_port: int
    from_host: bool
    expires: int
    replied: bool = False
    data: bool = False
    fins: set[Address] = field(default_factory=set)
    reset: bool = False

    @property
    def closing(self) -> bool:
        return self.reset or len(self.fins) == 2

    def life_s(self) -> int:
        if self.protocol != TCP:
            return clock.OTHER_S
        if self.closing:
            return clock.TCP_CLOSING_S
        return clock.TCP_S if self.data and self.replied else clock.TCP_OPENING_S

    def see(self, packet: Said, now: int) -> None:
        """One more packet of it was let through."""
        if self.protocol == TCP:
            syn = "S" in packet.flags
            if "R" in packet.flags:
                self.reset = True
            elif not syn:
                self.reset = False
            if "F" in packet.flags:
                self.fins.add(packet.source)
            self.data = self.data or not syn
            self.replied = self.replied or packet.source == self.responder
        self.expires = now + clock.units(self.life_s())


@dataclass(frozen=True, slots=True)
class Result:
    """`drop` None: it passes. `audited`: what would have been dropped, and was not."""

    drop: Drop | None = None
    audited: tuple[Drop, ...] = ()


@dataclass(frozen=True, slots=True)
class Ends:
    """The pods of this node at a packet's ends, as the hook knows them, and whether the node itself made it."""

    sender: Address | None = None
    receiver: Address | None = None
    from_host: bool = False
    from_wire: bool = False
    by_a_pod: bool = False


def hits(key: RuleKey, identity: int, cidr: int, *, exact: bool, protocol: int, port: int) -> bool:
    """Whether this rule speaks of this peer and port."""
    who = {
        Peer.ANY: True,
        Peer.IDENTITY: key.identity == identity,
        Peer.CIDR_ANY: cidr != 0 and key.identity == cidr,
        Peer.CIDR_WORLD: cidr != 0 and not exact and key.identity == cidr,
    }[key.peer]
    if not who or key.protocol not in (0, protocol):
        return False
    free = 16 - key.port_bits
    return key.port_bits == 0 or port >> free == key.port >> free


def judge(rules: Iterable[tuple[RuleKey, RuleValue]], *, isolated: bool, unknown: bool) -> Drop | None:
    """The tiers over all rules that speak of the packet; None: allowed."""
    values = [value for _, value in rules]
    refusal = Drop.IDENTITY_UNKNOWN if unknown else Drop.POLICY_DEFAULT_DENY
    admin = max(((v.admin_precedence, v.admin) for v in values if v.admin), default=(0, Action.NONE))[1]
    if admin in (Action.ALLOW, Action.DENY):
        return None if admin is Action.ALLOW else Drop.POLICY_DENIED
    if any(v.deny for v in values):
        return Drop.POLICY_DENIED
    if isolated:
        return None if any(v.allow for v in values) else refusal
    baseline = max(((v.baseline_precedence, v.baseline) for v in values if v.baseline), default=(0, Action.NONE))[1]
    return Drop.POLICY_DENIED if baseline is Action.DENY else None


@dataclass
class Model:
    """Everything the kernel is told, and what it must remember of packets."""

    now: int = 0
    rulesets: dict[int, RuleSet] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    endpoints: dict[Address, EndpointPolicy] = field(default_factory=dict)
    identities: dict[Address, int] = field(default_factory=dict)
    cidrs: dict[Network, int] = field(default_factory=dict)
    cluster: set[Network] = field(default_factory=set)
    node: frozenset[Address] = frozenset()
    flows: dict[object, Flow] = field(default_factory=dict)
    datagrams: dict[object, tuple[Said, int]] = field(default_factory=dict)

    # --- policy ----------------------------------------------------------------------------------------------------

    def ask(self, pod: Address, direction: Direction, peer: Address, protocol: int, port: int) -> Drop | None:
        """What the policy of `pod` says now."""
        policy = self.endpoints[pod]
        if policy.ruleset == 0:
            return Drop.POLICY_PENDING
        if policy.ruleset in self.closed:
            return Drop.POLICY_MAP_FULL
        ruleset = self.rulesets[policy.ruleset]
        exact = self.identities.get(peer)
        named = [net for net in self.cidrs if net.version == peer.version and peer in net]
        cidr = self.cidrs[max(named, key=lambda net: net.prefixlen)] if named else 0
        inside = any(net.version == peer.version and peer in net for net in self.cluster)
        identity = exact if exact is not None else UNKNOWN if inside else WORLD
        rules = [
            (key, value)
            for key, value in ruleset.rules()
            if key.direction == direction
            and hits(key, identity, cidr, exact=exact is not None, protocol=protocol, port=port)
        ]
        isolated = ruleset.isolated_ingress if direction is Direction.INGRESS else ruleset.isolated_egress
        return judge(rules, isolated=isolated, unknown=exact is None and identity == UNKNOWN)

    # --- packets ---------------------------------------------------------------------------------------------------

    def admit(self, packet: Said, ends: Ends) -> Result:
        """One packet at one hook."""
        blind, whole = self._whole(packet)
        flow, seen = (None, whole) if blind else self._find(whole, ends)
        if flow is None and ends.from_wire and packet.source in self.node:
            return Result(Drop.SPOOFED_SOURCE)
        audited = list[Drop]()
        for pod, is_source in ((ends.sender, True), (ends.receiver, False)):
            if pod is None:
                continue
            policy = self.endpoints[pod]
            direction, peer, port, exempt = self._question(flow, seen, ends, is_source=is_source)
            if not policy.enforce or exempt:
                continue
            reason = blind or self.ask(pod, direction, peer, seen.protocol, port)
            if reason is not None and policy.audit:
                audited.append(reason)
            elif reason is not None:
                return Result(reason, tuple(audited))
        if not blind:
            self._remember(flow, whole, seen, ends)
        return Result(None, tuple(audited))

    def _question(
        self, flow: Flow | None, packet: Said, ends: Ends, *, is_source: bool
    ) -> tuple[Direction, Address, int, bool]:
        """Whose rules, about whom, on which port; and whether nobody needs to ask."""
        peer = packet.destination if is_source else packet.source
        if flow is None:
            port = packet.kind[0] << 8 | packet.kind[1] if packet.is_icmp else packet.dport
            begins, from_host = True, ends.from_host
        else:
            begins, port, from_host = packet.source == flow.initiator, flow.responder_port, flow.from_host
        direction = Direction.EGRESS if begins == is_source else Direction.INGRESS
        return direction, peer, port, from_host

    def _whole(self, packet: Said) -> tuple[Drop | None, Said]:
        """A later fragment as its datagram's first one showed it."""
        if packet.fragment != "later":
            return None, packet
        first, expires = self.datagrams.get(_datagram(packet), (None, 0))
        if first is None or expires <= self.now:
            return Drop.ORPHAN_FRAGMENT, packet
        kind = first.kind if first.is_icmp else (0, 0)
        return None, Said(
            packet.source, packet.destination, first.protocol, first.sport, first.dport, "", kind, "later"
        )

    def _find(self, packet: Said, ends: Ends) -> tuple[Flow | None, Said]:
        """The live connection a packet belongs to, and the packet as one of it: an error is one the other way."""
        about = packet
        quoted = packet.quotes
        if packet.is_icmp and quoted is not None and packet.kind[0] in ERRORS[packet.family]:
            mine = quoted.source == packet.destination
            honest = not ends.by_a_pod or quoted.destination == packet.source
            if mine and honest:
                about = turned(quoted)
                flow = self._alive(_key(quoted)) if _key(quoted) else None
                return (flow, about) if flow else (None, packet)
            return None, packet
        flow = self._alive(_key(packet)) if _key(packet) else None
        if flow is not None and packet.protocol == TCP and "S" in packet.flags and "A" not in packet.flags:
            anew = flow.closing or packet.source != flow.initiator
            return (None, packet) if anew else (flow, packet)
        return flow, packet

    def _alive(self, key: object) -> Flow | None:
        flow = self.flows.get(key)
        return flow if flow is not None and flow.expires > self.now else None

    def _remember(self, flow: Flow | None, packet: Said, seen: Said, ends: Ends) -> None:
        if flow is not None and seen is packet:
            flow.see(packet, self.now)
        elif flow is None and _begins(packet):
            port = packet.kind[0] << 8 | packet.kind[1] if packet.is_icmp else packet.dport
            made = Flow(
                packet.source, packet.destination, packet.protocol, packet.sport, port, ends.from_host, self.now
            )
            made.see(packet, self.now)
            self.flows[_key(packet)] = made
        if packet.fragment == "first":
            self.datagrams[_datagram(packet)] = (packet, self.now + clock.units(clock.FRAGMENT_S))


def turned(packet: Said) -> Said:
    """The packet that would answer it."""
    return Said(packet.destination, packet.source, packet.protocol, packet.dport, packet.sport, "", packet.kind)


def _begins(packet: Said) -> bool:
    return not packet.is_icmp or packet.kind[0] == ECHO_REQUEST[packet.family]


def _key(packet: Said) -> object:
    """The same for both directions; None for what stands alone."""
    if packet.is_icmp:
        if packet.kind[0] not in (ECHO_REQUEST[packet.family], ECHO_REPLY[packet.family]):
            return None
        asks = packet.kind[0] == ECHO_REQUEST[packet.family]
        asker, other = (packet.source, packet.destination) if asks else (packet.destination, packet.source)
        # the code of the request is part of what policies speak of, a reply has 0
        return (packet.protocol, asker, other, packet.sport, packet.kind[1] if asks else 0)
    ends = {(packet.source, packet.sport), (packet.destination, packet.dport)}
    return (packet.protocol, frozenset(ends))


def _datagram(packet: Said) -> object:
    protocol = packet.protocol if packet.family == 4 else 0
    return (packet.source, packet.destination, packet.datagram, protocol)
