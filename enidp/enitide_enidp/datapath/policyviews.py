"""Policy, connections and identities of this node as rows for people and programs. Reads the pins; needs no agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from enitide_enidp.datapath import codec, syscalls
from enitide_enidp.datapath import policycodec as pc
from enitide_enidp.datapath.addresses import Addresses, Epochs
from enitide_enidp.datapath.connections import Connection, Connections, Outcome, TcpState
from enitide_enidp.datapath.maps import Maps
from enitide_enidp.datapath.words import ICMP_NUMBERS, PROTOCOLS, identity_word, port_word, protocol_word, says
from enitide_policy.mapstate import Network, Peer, RuleKey, RuleValue, unpack_key, unpack_value
from enitide_policy.numbers import Reserved

Row = dict[str, Any]


def peer_word(key: RuleKey) -> str:
    if key.peer is Peer.ANY:
        return "any"
    suffix = {Peer.IDENTITY: "", Peer.CIDR_ANY: "", Peer.CIDR_WORLD: " (outside only)"}[key.peer]
    return identity_word(key.identity) + suffix


def rule_row(key: RuleKey, value: RuleValue | None) -> Row:
    """One entry."""
    return {
        "direction": key.direction.name.lower(),
        "peer": peer_word(key),
        "identity": key.identity,
        "protocol": protocol_word(key.protocol),
        "port": port_word(key.protocol, key.port, key.port_bits),
        "says": says(value) if value is not None else None,
    }


def head_at(fds: dict[str, int], place: int) -> pc.Head | None:
    value = syscalls.lookup(fds["rulesets"], codec.U32.pack(place), pc.RULESET_BYTES) if place else None
    return pc.decode_head(value) if value else None


def _state(word: pc.Word, head: pc.Head | None) -> str:
    if word.flags & pc.POLICY_OPEN:
        return "not enforced"
    if head is None or head.flags & pc.RULESET_CLOSED:
        state = "closed: no policy yet" if head is None else "closed: map full"
    else:
        state = "enforced"
    return f"audit ({state})" if word.flags & pc.POLICY_AUDIT else state


def _isolated(head: pc.Head | None) -> list[str]:
    if head is None:
        return []
    found = ["ingress"] if head.flags & pc.RULESET_ISOLATED_INGRESS else []
    return found + (["egress"] if head.flags & pc.RULESET_ISOLATED_EGRESS else [])


def endpoint_rows(fds: dict[str, int], names: dict[int, str]) -> list[Row]:
    """What holds for each pod of the node, and for the node itself where policy does."""
    rows = []
    places = [(0, "node", 0, list[str]())]
    for ifindex, each in sorted(Maps.of(fds).endpoints.dump().items()):
        places.append((each.place, names.get(ifindex, ""), ifindex, [str(a) for a in each.addresses]))
    for place, name, ifindex, addresses in places:
        word = pc.decode_word(syscalls.lookup(fds["policies"], codec.U32.pack(place), pc.POLICY_BYTES) or bytes(8))
        if not place and not word.flags & pc.POLICY_HOST:
            continue
        head = head_at(fds, word.place)
        rows.append(
            {
                "endpoint": name or None,
                "ifindex": ifindex or None,
                "addresses": addresses,
                "identity": word.identity,
                "ruleset": word.place,
                "state": _state(word, head),
                "isolated": _isolated(head),
                "entries": head.entries if head else 0,
                "generation": head.generation if head else None,
            }
        )
    return rows


def rules_at(fds: dict[str, int], place: int) -> list[Row]:
    """The entries of the rule set at `place`."""
    found = []
    for key, value in syscalls.dump(fds["rules"], pc.KEY_BYTES, pc.RULE_BYTES, pc.MAX_RULES):
        at, packed = pc.decode_key(key)
        if at == place:
            found.append((unpack_key(packed), unpack_value(pc.decode_value(value))))
    return [rule_row(key, value) for key, value in sorted(found, key=lambda pair: pair[0])]


def ask_again(fds: dict[str, int]) -> int:
    """Count every epoch up: each connection asks its policy again. Returns how many rule sets can be asked.

    Not the generations: those are counted by the agent alone.
    """
    Epochs(fds).bump_all()
    heads = syscalls.dump(fds["rulesets"], 4, pc.RULESET_BYTES, pc.MAX_RULESETS)
    return sum(pc.decode_head(value).id != 0 for _, value in heads)


# --- connections -----------------------------------------------------------------------------------------------------


def _end(address: codec.Address, port: int, protocol: int, *, responds: bool) -> str:
    if protocol in ICMP_NUMBERS:
        return f"{address} type {port >> 8}" if responds else f"{address} id {port}"
    if protocol not in PROTOCOLS:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _tcp(connection: Connection) -> str | None:
    if connection.protocol != 6:
        return None
    state = connection.tcp
    if state & TcpState.RESET or (state & TcpState.FIN_INITIATOR and state & TcpState.FIN_RESPONDER):
        return "closing"
    return "established" if state & TcpState.SEEN_REPLY and state & TcpState.SEEN_DATA else "opening"


def connection_row(connection: Connection) -> Row:
    """One connection."""
    left_s = connection.expires_in_s
    return {
        "protocol": protocol_word(connection.protocol),
        "initiator": _end(connection.initiator, connection.initiator_port, connection.protocol, responds=False),
        "responder": _end(connection.responder, connection.responder_port, connection.protocol, responds=True),
        "state": _tcp(connection),
        "egress": outcome_word(connection.egress.outcome),
        "ingress": outcome_word(connection.ingress.outcome),
        "identity": identity_word(connection.identity),
        "expires": f"{left_s:.0f}s" if left_s > 0 else "expired",
        "inIfindex": connection.ingress_ifindex or None,
        "fromHost": connection.from_host,
    }


def outcome_word(outcome: Outcome) -> str | None:
    """None: that end is not on this node, or its policy is not enforced."""
    return {
        Outcome.NOT_ASKED: None,
        Outcome.ALLOWED: "allowed",
        Outcome.DENIED: "denied",
        Outcome.DEFAULT: "denied by default",
        Outcome.UNKNOWN: "denied, peer unknown",
        Outcome.CLOSED: "closed",
    }[outcome]


def connection_rows(
    fds: dict[str, int], address: codec.Address | None = None, *, expired: bool = False
) -> Iterator[Row]:
    """Every live connection, of one address if given; expired ones too if asked."""
    for _, each in Connections(fds["connections"]).all():
        if address is not None and address not in (each.initiator, each.responder):
            continue
        if expired or each.expires_in_s > 0:
            yield connection_row(each)


# --- addresses -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What the node knows of an address."""

    record: int | None
    cidr: str | None
    cidr_identity: int
    identity: int


def look_up(addresses: Addresses, address: codec.Address) -> Known:
    """As the programs do: the exact record, else world or unknown; and the longest CIDR."""
    record = addresses.get(address)
    holding = [net for net in addresses.cidrs() if net.version == address.version and address in net]
    longest = max(holding, key=lambda net: net.prefixlen, default=None)
    number, klass = addresses.cidrs()[longest] if longest is not None else (0, int(Reserved.WORLD))
    return Known(record, str(longest) if longest is not None else None, number, klass if record is None else record)


def _network_order(network: Network) -> tuple[int, bytes, int]:
    return network.version, network.network_address.packed, network.prefixlen


def identity_rows(addresses: Addresses) -> list[Row]:
    """Both tiers, CIDRs last."""
    exact = sorted(addresses.all().items(), key=lambda item: (item[0].version, item[0].packed))
    rows: list[Row] = [
        {"address": str(address), "identity": number, "name": identity_word(number)} for address, number in exact
    ]
    cidrs = sorted(
        addresses.cidrs().items(), key=lambda item: (item[0].version, item[0].network_address.packed, item[0].prefixlen)
    )
    for network, (number, klass) in cidrs:
        name = identity_word(number) if number else None
        row = {"address": str(ip_network(network)), "identity": number or None, "name": name}
        rows.append(row | {"without a record": identity_word(klass)})
    return rows
