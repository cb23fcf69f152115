"""Ports and ICMP types of Cilium rules."""

from __future__ import annotations

import re
from typing import Any

from enitide_policy.languages.icmpnames import IPV4, IPV6
from enitide_policy.languages.reading import Place
from enitide_policy.languages.shared import each
from enitide_policy.model import ICMP, ICMPV6, L4, PROTOCOLS, SCTP, TCP, UDP

MAX_PORTS = 40
_L7 = ("terminatingTLS", "originatingTLS", "serverNames", "listener")
_NUMBER = re.compile(r"[0-9]{1,5}")


def l4_of(place: Place, rule: dict[str, Any]) -> tuple[L4, ...] | None:
    """What of `toPorts` and `icmps` together a rule matches; None where it has neither."""
    found: tuple[L4, ...] = ()
    given = False
    for name, reader in (("toPorts", _port_rule), ("icmps", _icmp)):
        if rule.get(name, []) != []:
            given = True
            found += each(place.at(name), rule[name], reader)
    return found if given else None


def _port_rule(place: Place, item: Any) -> list[L4]:
    found = place.fields(item, f"ports rules {' '.join(_L7)}")
    for name in _L7:
        if found.get(name, []) != []:
            place.at(name).unsupported("there is no proxy for it: leave it out, and the ports are allowed as they are")
    rules = place.at("rules").mapping(found.get("rules", {}))
    for name, value in rules.items():
        if value is not None:
            place.at("rules").at(name).unsupported(
                "there is no proxy for layer 7: leave rules out, and the ports are allowed as they are"
            )
    listed = list(place.at("ports").items(found.get("ports")))
    if len(listed) > MAX_PORTS:
        place.at("ports").refuse(f"{len(listed)} ports: write at most {MAX_PORTS} in one item")
    return list(each(place.at("ports"), found.get("ports"), _port))


def _port(place: Place, item: Any) -> list[L4]:
    found = place.fields(item, "port endPort protocol")
    words = (*PROTOCOLS, "ANY")
    word = found.get("protocol") or "ANY"
    word = place.at("protocol").text(word.upper() if isinstance(word, str) else word, words)
    protocols = (TCP, UDP, SCTP) if word == "ANY" else (PROTOCOLS[word],)
    text = place.at("port").text(found.get("port", ""))
    if not _NUMBER.fullmatch(text):
        name = place.at("port").port_name(text.lower())
        return [L4(protocol, name=name) for protocol in protocols]
    first = place.at("port").number(int(text), 0, 65535)
    last = first
    if found.get("endPort"):
        last = place.at("endPort").number(found["endPort"], 0, 65535)
        if last < first:
            place.at("endPort").refuse(f"endPort {last} is below port {first}: write {first} or more")
    if not first and not last:
        return [L4(protocol) for protocol in protocols]
    return [L4(protocol, first, last) for protocol in protocols]


def _icmp(place: Place, item: Any) -> list[L4]:
    found = place.fields(item, "fields")
    listed = list(place.at("fields").items(found.get("fields")))
    if len(listed) > MAX_PORTS:
        place.at("fields").refuse(f"{len(listed)} types: write at most {MAX_PORTS} in one item")
    return list(each(place.at("fields"), found.get("fields"), _icmp_field))


def _icmp_field(place: Place, item: Any) -> list[L4]:
    found = place.fields(item, "family type")
    family = place.at("family").text(found.get("family", "IPv4"), ("IPv4", "IPv6"))
    names = IPV4 if family == "IPv4" else IPV6
    kind = found.get("type")
    if isinstance(kind, str) and not kind.isdecimal():
        kind = names[place.at("type").text(kind, tuple(names))]
    number = place.at("type").number(int(kind) if isinstance(kind, str) else kind, 0, 255)
    return [L4(ICMP if family == "IPv4" else ICMPV6, number, number)]
