"""Numbers of policy as people read them."""

from __future__ import annotations

from enitide_policy.mapstate import Action, RuleValue
from enitide_policy.numbers import Reserved, is_local

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
ICMP_NUMBERS = (1, 58)
_MAX_PORT_BITS = 16


def identity_word(identity: int) -> str:
    """`host` for the reserved ones, `cidr:5` for node-local ones, else the number."""
    if is_local(identity):
        return f"cidr:{identity & 0x7FFF_FFFF}"
    try:
        return Reserved(identity).word
    except ValueError:
        return str(identity)


def protocol_word(number: int) -> str:
    return PROTOCOLS.get(number, str(number)) if number else "any"


def port_word(protocol: int, port: int, bits: int) -> str:
    """`any`, `80`, `8000-8007`; ICMP: `type 8 code 0`, `type 8`."""
    if not bits:
        return "any"
    if protocol in ICMP_NUMBERS:
        return f"type {port >> 8}" + (f" code {port & 0xFF}" if bits == _MAX_PORT_BITS else "")
    last = port | (1 << (_MAX_PORT_BITS - bits)) - 1
    return str(port) if last == port else f"{port}-{last}"


def says(value: RuleValue) -> str:
    """What all tiers of an entry say: `admin deny (5), allow`."""
    parts = []
    if value.admin is not Action.NONE:
        parts.append(f"admin {value.admin.name.lower()} ({value.admin_precedence})")
    parts += ["deny"] if value.deny else []
    parts += ["allow"] if value.allow else []
    if value.baseline is not Action.NONE:
        parts.append(f"baseline {value.baseline.name.lower()} ({value.baseline_precedence})")
    return ", ".join(parts) or "nothing"
