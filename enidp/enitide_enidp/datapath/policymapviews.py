"""The policy maps for `enitide bpf map dump`: entry by entry, as they lie."""

from __future__ import annotations

from enitide_enidp.datapath import clock, codec, counters, events, policyviews, syscalls, words
from enitide_enidp.datapath import policycodec as pc
from enitide_enidp.datapath.addresses import Addresses
from enitide_enidp.datapath.mapview import MapView, Row
from enitide_enidp.datapath.stamp import Stamp
from enitide_policy.mapstate import unpack_key, unpack_value

Fds = dict[str, int]
_FRAGMENT_KEY, _FRAGMENT = codec.FRAGMENT_KEY.codec, codec.FRAGMENT.codec
_MAX_FRAGMENTS = 8192


def _policies(fds: Fds) -> list[Row]:
    rows = []
    for key, value in syscalls.dump(fds["policies"], 4, pc.POLICY_BYTES, pc.MAX_PLACES):
        word = pc.decode_word(value)
        if word != pc.Word():
            place = codec.U32.unpack(key)[0]
            rows.append({"place": place, "identity": word.identity, "ruleset": word.place, "flags": word.flags})
    return rows


def _rulesets(fds: Fds) -> list[Row]:
    rows = []
    for key, value in syscalls.dump(fds["rulesets"], 4, pc.RULESET_BYTES, pc.MAX_RULESETS):
        head = pc.decode_head(value)
        if head.id:
            row: Row = {"ruleset": codec.U32.unpack(key)[0], "id": head.id, "generation": head.generation}
            row |= {"flags": head.flags, "entries": head.entries, "shapes": [f"{each:#x}" for each in head.shapes]}
            rows.append(row)
    return rows


def _rules(fds: Fds) -> list[Row]:
    rows = []
    for key, value in syscalls.dump(fds["rules"], pc.KEY_BYTES, pc.RULE_BYTES, pc.MAX_RULES):
        place, packed = pc.decode_key(key)
        rule = policyviews.rule_row(unpack_key(packed), unpack_value(pc.decode_value(value)))
        rows.append({"ruleset": place, **rule})
    return rows


def _identities(fds: Fds) -> list[Row]:
    return [{"address": str(address), "identity": number} for address, number in Addresses(fds).all().items()]


def _cidrs(fds: Fds) -> list[Row]:
    return [
        {"cidr": str(network), "identity": identity, "class": words.identity_word(klass)}
        for network, (identity, klass) in Addresses(fds).cidrs().items()
    ]


def _epochs(fds: Fds) -> list[Row]:
    found = syscalls.dump(fds["epochs"], 4, 4, pc.EPOCHS)
    pairs = ((codec.U32.unpack(key)[0], codec.U32.unpack(value)[0]) for key, value in found)
    return [{"place": place, "epoch": epoch} for place, epoch in pairs if epoch]


def _stamp(fds: Fds) -> list[Row]:
    return [{"stamp": f"{Stamp(fds).read():012x}"}]


def _connections(fds: Fds) -> list[Row]:
    return list(policyviews.connection_rows(fds, expired=True))


def _fragments(fds: Fds) -> list[Row]:
    rows = []
    for key, value in syscalls.dump(fds["fragments"], _FRAGMENT_KEY.size, _FRAGMENT.size, _MAX_FRAGMENTS):
        source, destination, number, family, _, _ = _FRAGMENT_KEY.unpack(key)
        sport, dport, expires, protocol, _ = _FRAGMENT.unpack(value)
        row: Row = {"source": str(codec.address_of(family, source)), "id": number}
        row |= {
            "destination": str(codec.address_of(family, destination)),
            "sourcePort": sport,
            "destinationPort": dport,
        }
        row |= {"protocol": words.protocol_word(protocol)}
        row |= {"expires": f"{clock.seconds(max(0, expires - clock.now())):.0f}s"}
        rows.append(row)
    return rows


def _audits(fds: Fds) -> list[Row]:
    return [
        {"reason": events.reason_word(reason), "hook": events.hook_word(hook), "packets": c.packets, "bytes": c.bytes}
        for (reason, hook), c in counters.drops(fds["audits"]).items()
        if c.packets
    ]


def _dry_runs(fds: Fds) -> list[Row]:
    value = syscalls.lookup(fds["dry_runs"], codec.U32.pack(0), codec.DRY_RUN.codec.size) or bytes(8)
    return [{"underWay": any(value[:8])}]


VIEWS: dict[str, MapView] = {
    "policies": MapView("what holds for each endpoint", ("place", "identity", "ruleset", "flags"), _policies),
    "rulesets": MapView(
        "heads of the rule sets", ("ruleset", "id", "generation", "flags", "entries", "shapes"), _rulesets
    ),
    "rules": MapView("entries of the rule sets", ("ruleset", "direction", "peer", "protocol", "port", "says"), _rules),
    "identities": MapView("identities of single addresses", ("address", "identity"), _identities),
    "cidrs": MapView("identities of CIDRs", ("cidr", "identity", "class"), _cidrs),
    "epochs": MapView("changes of what addresses mean (not 0)", ("place", "epoch"), _epochs),
    "stamp": MapView("another number after each change that verdicts rest on", ("stamp",), _stamp),
    "connections": MapView(
        "one entry for each flow",
        ("protocol", "initiator", "responder", "state", "egress", "ingress", "expires"),
        _connections,
    ),
    "fragments": MapView(
        "ports of fragmented datagrams",
        ("source", "destination", "id", "protocol", "sourcePort", "destinationPort", "expires"),
        _fragments,
    ),
    "audits": MapView("packets policy would have dropped (not 0)", ("reason", "hook", "packets", "bytes"), _audits),
    "dry_runs": MapView("where `enitide packet` asks", ("underWay",), _dry_runs),
}
