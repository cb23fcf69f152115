"""Bytes of every structure that Python and the eBPF programs share (bpf/include/structs.h).

One `Layout` per C structure: its fields in order, each with its `struct` code, padding included. A test reads the
compiled objects' BTF and compares names, offsets and sizes with these. Integers are in the host's order; addresses and
MACs are plain bytes in network order. Any change here or in bpf/include/maps.h needs a new `SCHEMA`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

from enitide_enidp.datapath import clock
from enitide_enidp.datapath.types import ENI_MARK_SHIFT, Endpoint, Eni, LocalPod, NodeConfig, Routing, eni_mark

SCHEMA = 3
"""Version of all pinned layouts: the folder under the pin directory that holds them is `v<SCHEMA>`."""

HOOKS = 8
HALVES = 2
PATHS = 4
MAX_DROP_REASONS = 256
CONFIG_DIRECT = 1
CONFIG_POLICY = 2

_NO_ADDRESS6 = bytes(16)
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Layout:
    """A C structure: its name and `(field, struct code)` in order, every byte accounted for."""

    name: str
    fields: tuple[tuple[str, str], ...]

    @property
    def codec(self) -> struct.Struct:
        return struct.Struct("=" + "".join(code for _, code in self.fields))

    def offsets(self) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of each field."""
        ends = [0]
        for _, code in self.fields:
            ends.append(ends[-1] + struct.calcsize("=" + code))
        return {name: (start, end - start) for (name, _), (start, end) in zip(self.fields, pairwise(ends), strict=True)}


NODE_CONFIG = Layout(
    "node_config",
    (
        ("flags", "I"),
        ("event_rate", "I"),
        ("life_tcp", "I"),
        ("life_tcp_opening", "I"),
        ("life_tcp_closing", "I"),
        ("life_other", "I"),
        ("life_fragment", "I"),
    ),
)
ADDRESS = Layout("address", (("family", "I"), ("bytes", "16s")))
ENDPOINT = Layout(
    "endpoint",
    (
        ("id", "I"),
        ("mark", "I"),
        ("eni_ifindex", "I"),
        ("ipv4", "4s"),
        ("gateway4", "4s"),
        ("ipv6", "16s"),
        ("gateway6", "16s"),
        ("pod_mac", "6s"),
        ("host_mac", "6s"),
        ("policy", "I"),
    ),
)
LOCAL_POD = Layout(
    "local_pod", (("ifindex", "I"), ("endpoint_id", "I"), ("policy", "I"), ("pod_mac", "6s"), ("host_mac", "6s"))
)
ENI = Layout("eni", (("mark", "I"),))
COUNTER = Layout("counter", (("packets", "Q"), ("bytes", "Q")))
EVENT_BUDGET = Layout("event_budget", (("window_start_ns", "Q"), ("sent", "I"), ("suppressed", "I")))
SET_INFO = Layout("set_info", (("fingerprint", "Q"),))
DROP_EVENT = Layout(
    "drop_event",
    (
        ("time_ns", "Q"),
        ("ifindex", "I"),
        ("endpoint_id", "I"),
        ("length", "I"),
        ("suppressed", "I"),
        ("reason", "B"),
        ("hook", "B"),
        ("family", "B"),
        ("protocol", "B"),
        ("ethertype", "H"),
        ("source_port", "H"),
        ("destination_port", "H"),
        ("direction", "B"),
        ("audit", "B"),
        ("source", "16s"),
        ("destination", "16s"),
        ("ruleset", "I"),
        ("identity", "I"),
        ("peer", "I"),
    ),
)
POLICY = Layout("policy", (("identity", "I"), ("ruleset", "H"), ("flags", "H")))
RULESET = Layout("ruleset", (("id", "I"), ("generation", "I"), ("flags", "I"), ("entries", "I"), ("shapes", "32s")))
RULE_KEY = Layout(
    "rule_key",
    (
        ("ruleset", "H"),
        ("port", "H"),
        ("identity", "I"),
        ("direction", "B"),
        ("peer", "B"),
        ("protocol", "B"),
        ("port_bits", "B"),
    ),
)
RULE = Layout(
    "rule",
    (
        ("admin_precedence", "I"),
        ("baseline_precedence", "I"),
        ("admin", "B"),
        ("baseline", "B"),
        ("middle", "B"),
        ("pad", "1s"),
    ),
)
CIDR_KEY = Layout("cidr_key", (("prefix_bits", "I"), ("family", "I"), ("words", "16s")))
CIDR = Layout("cidr", (("identity", "I"), ("class", "I")))
CONNECTION_KEY = Layout(
    "connection_key",
    (
        ("low", "16s"),
        ("high", "16s"),
        ("low_port", "H"),
        ("high_port", "H"),
        ("family", "B"),
        ("protocol", "B"),
        ("asker", "B"),
        ("pad", "1s"),
    ),
)
CONNECTION = Layout(
    "connection",
    (
        ("verdicts", "16s"),
        ("checked", "16s"),
        ("expires", "I"),
        ("identity", "I"),
        ("ingress_ifindex", "I"),
        ("flags", "B"),
        ("tcp", "B"),
        ("pad", "2s"),
    ),
)
FRAGMENT_KEY = Layout(
    "fragment_key",
    (
        ("source", "16s"),
        ("destination", "16s"),
        ("id", "I"),
        ("family", "B"),
        ("protocol", "B"),
        ("pad", "2s"),
    ),
)
FRAGMENT = Layout(
    "fragment",
    (("source_port", "H"), ("destination_port", "H"), ("expires", "I"), ("protocol", "B"), ("pad", "3s")),
)
ASKED = Layout(
    "asked",
    (
        ("ruleset", "I"),
        ("identity", "I"),
        ("peer", "I"),
        ("cidr", "I"),
        ("rule", "12s"),
        ("direction", "B"),
        ("outcome", "B"),
        ("fresh", "B"),
        ("tier", "B"),
        ("flags", "H"),
        ("pad", "2s"),
    ),
)
DRY_RUN = Layout(
    "dry_run",
    (
        ("number", "8s"),
        ("reason", "I"),
        ("path", "I"),
        ("key", "40s"),
        ("connection", "48s"),
        ("sender", "36s"),
        ("receiver", "36s"),
    ),
)
LAYOUTS = (
    NODE_CONFIG,
    ADDRESS,
    ENDPOINT,
    LOCAL_POD,
    ENI,
    COUNTER,
    EVENT_BUDGET,
    SET_INFO,
    DROP_EVENT,
    POLICY,
    RULESET,
    RULE_KEY,
    RULE,
    CIDR_KEY,
    CIDR,
    CONNECTION_KEY,
    CONNECTION,
    FRAGMENT_KEY,
    FRAGMENT,
    ASKED,
    DRY_RUN,
)

U32 = struct.Struct("=I")
_ADDRESS = ADDRESS.codec
_ENDPOINT = ENDPOINT.codec
_LOCAL_POD = LOCAL_POD.codec
COUNTER_CODEC = COUNTER.codec
SET_INFO_CODEC = SET_INFO.codec
DROP_EVENT_CODEC = DROP_EVENT.codec


def encode_config(config: NodeConfig) -> bytes:
    """`struct node_config`."""
    flags = CONFIG_DIRECT if config.routing is Routing.DIRECT else 0
    if config.policy:
        flags |= CONFIG_POLICY
    return NODE_CONFIG.codec.pack(flags, config.event_rate, *map(clock.units, clock.LIVES_S))


def encode_address(address: Address) -> bytes:
    """`struct address`, a key: 4 or 6, then the address, zero-filled."""
    return _ADDRESS.pack(address.version, address.packed)


def decode_address(data: bytes) -> Address:
    """The reverse of `encode_address`."""
    family, packed = _ADDRESS.unpack(data)
    return address_of(family, packed)


def address_of(family: int, packed: bytes) -> Address:
    """The address in 16 bytes, of which IPv4 uses the first four."""
    return IPv4Address(packed[:4]) if family == 4 else IPv6Address(packed)


def _packed4(address: IPv4Address | None) -> bytes:
    return bytes(4) if address is None else address.packed


def _packed6(address: IPv6Address | None) -> bytes:
    return _NO_ADDRESS6 if address is None else address.packed


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """`struct endpoint`, the value; the key is the ifindex."""
    return _ENDPOINT.pack(
        endpoint.endpoint_id,
        eni_mark(endpoint.eni_number),
        endpoint.eni_ifindex,
        _packed4(endpoint.ipv4),
        _packed4(endpoint.gateway4),
        _packed6(endpoint.ipv6),
        _packed6(endpoint.gateway6),
        endpoint.pod_mac,
        endpoint.host_mac,
        endpoint.place,
    )


def _optional4(packed: bytes) -> IPv4Address | None:
    return IPv4Address(packed) if any(packed) else None


def _optional6(packed: bytes) -> IPv6Address | None:
    return IPv6Address(packed) if any(packed) else None


def decode_endpoint(ifindex: int, data: bytes) -> Endpoint:
    """The reverse of `encode_endpoint`."""
    number, mark, eni_ifindex, ipv4, gateway4, ipv6, gateway6, pod_mac, host_mac, place = _ENDPOINT.unpack(data)
    return Endpoint(
        ifindex=ifindex,
        endpoint_id=number,
        pod_mac=pod_mac,
        host_mac=host_mac,
        eni_number=mark >> ENI_MARK_SHIFT,
        eni_ifindex=eni_ifindex,
        ipv4=_optional4(ipv4),
        ipv6=_optional6(ipv6),
        gateway4=_optional4(gateway4),
        gateway6=_optional6(gateway6),
        place=place,
    )


def encode_local_pod(pod: LocalPod) -> bytes:
    """`struct local_pod`, the value; the key is the address."""
    return _LOCAL_POD.pack(pod.ifindex, pod.endpoint_id, pod.place, pod.pod_mac, pod.host_mac)


def decode_local_pod(data: bytes) -> LocalPod:
    """The reverse of `encode_local_pod`."""
    return LocalPod(*_LOCAL_POD.unpack(data))


def encode_eni(eni: Eni) -> bytes:
    """`struct eni`, the value; the key is the ifindex."""
    return U32.pack(eni_mark(eni.number))


def decode_eni(ifindex: int, data: bytes) -> Eni:
    """The reverse of `encode_eni`."""
    return Eni(ifindex=ifindex, number=U32.unpack(data)[0] >> ENI_MARK_SHIFT)
