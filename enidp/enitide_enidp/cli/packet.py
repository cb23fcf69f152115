"""`enitide packet`: what would become of this packet here and now? Asked of the live programs; nothing is sent."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import click

from enitide_api.errors import UsageError
from enitide_api.output import emit
from enitide_enidp.cli.agent import endpoints, run_dir_option
from enitide_enidp.cli.bpfpolicy import parse_address, pin_dir_option
from enitide_enidp.datapath import dryrun, events, loader, packets, policyviews, syscalls, views
from enitide_enidp.datapath import policycodec as pc
from enitide_enidp.datapath.maps import Maps
from enitide_enidp.datapath.types import Endpoint, Hook, Onward
from enitide_enidp.datapath.words import identity_word
from enitide_policy.mapstate import pack_key, unpack_value

Address = IPv4Address | IPv6Address
_WORDS = {Onward.STACK: "to the node's stack", Onward.PEER: "into a pod of this node", Onward.WIRE: "out of the ENI"}


@dataclass(frozen=True, slots=True)
class _Ends:
    source: Address
    destination: Address
    sender: Endpoint | None
    receiver: Endpoint | None


def _source_addresses(text: str, run_dir: Path) -> list[Address]:
    """Of `namespace/pod`, asked of the agent, or the address itself."""
    if "/" not in text:
        return [parse_address(text)]
    rows = endpoints(run_dir)
    found = [row for row in rows if row["owner"] == text]
    if not found:
        here = ", ".join(sorted(row["owner"] for row in rows if row["owner"])) or "none"
        raise UsageError(f"pod {text} has no network on this node; here are: {here}")
    return [parse_address(address) for address in found[0]["addresses"]]


def _ends(fds: dict[str, int], source: str, to: str, run_dir: Path) -> _Ends:
    destination = parse_address(to)
    candidates = _source_addresses(source, run_dir)
    same = [address for address in candidates if address.version == destination.version]
    if not same:
        raise UsageError(f"{source} has no address of the family of {to}")
    by_address = {a: each for each in Maps.of(fds).endpoints.dump().values() for a in each.addresses}
    ends = _Ends(same[0], destination, by_address.get(same[0]), by_address.get(destination))
    if ends.sender is None and ends.receiver is None:
        raise UsageError(f"neither {same[0]} nor {destination} is a pod of this node: ask on the node of one of them")
    return ends


def _runs(schema_dir: Path, ends: _Ends, packet: packets.Description) -> list[dryrun.Answer]:
    """Through the hooks such a packet meets on this node, as long as it goes on."""
    answers = []
    receiver, came_in_by = ends.receiver, 0
    if ends.sender is not None:
        data = packets.frame(packet, ends.sender.pod_mac, ends.sender.host_mac)
        came_in_by = ends.sender.ifindex
        answers.append(dryrun.run(schema_dir, Hook.FROM_POD, data, ifindex=came_in_by))
    elif receiver is not None:
        came_in_by = receiver.eni_ifindex
        data = packets.frame(packet, bytes(6), bytes(6))
        answers.append(dryrun.run(schema_dir, Hook.FROM_WIRE, data, ifindex=came_in_by))
    last = answers[-1]
    if receiver is not None and not last.reason and last.onward is Onward.STACK:
        data = packets.frame(packet, receiver.host_mac, receiver.pod_mac)
        answers.append(dryrun.run(schema_dir, Hook.TO_POD, data, ifindex=receiver.ifindex, came_in_by=came_in_by))
    return answers


def _entry(fds: dict[str, int], asked: dryrun.Asked) -> dict[str, Any] | None:
    """The map entry that decided, and what it says."""
    if asked.rule is None:
        return None
    key = pc.encode_key(asked.ruleset, pack_key(asked.rule))
    value = syscalls.lookup(fds["rules"], key, pc.RULE_BYTES)
    says = unpack_value(pc.decode_value(value)) if value is not None else None
    return {"map": "rules", "ruleset": asked.ruleset, **policyviews.rule_row(asked.rule, says)}


def _say(fds: dict[str, int], asked: dryrun.Asked | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    return {
        "policy": asked.direction.name.lower(),
        "verdict": policyviews.outcome_word(asked.outcome) or "no policy yet",
        "by": "rules" if asked.fresh else "the connection",
        "tier": asked.tier if asked.rule is not None else None,
        "rule": _entry(fds, asked),
        "identity": asked.identity,
        "peer": identity_word(asked.peer),
        "peerCIDR": identity_word(asked.cidr) if asked.cidr else None,
        "audit": bool(asked.flags & pc.POLICY_AUDIT),
    }


def _rewritten(answer: dryrun.Answer) -> dict[str, Any]:
    packet = answer.packet
    hop_limit = packet[22] if packet[12:14] == b"\x08\x00" else packet[21]
    return {
        "destinationMAC": packet[:6].hex(":"),
        "sourceMAC": packet[6:12].hex(":"),
        "hopLimit": hop_limit,
        "mark": f"{answer.mark:#x}",
        "hex": packet.hex(),
    }


def _row(fds: dict[str, int], answer: dryrun.Answer) -> dict[str, Any]:
    return {
        "hook": events.hook_word(answer.hook),
        "verdict": "drop" if answer.reason else "pass",
        "reason": events.reason_word(answer.reason) if answer.reason else None,
        "onward": None if answer.reason else answer.onward.name.lower(),
        "sender": _say(fds, answer.sender),
        "receiver": _say(fds, answer.receiver),
        "connection": policyviews.connection_row(answer.connection) if answer.connection else None,
        "packet": None if answer.reason else _rewritten(answer),
    }


def _human(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        head = f"{row['hook']}: {row['verdict']}"
        head += f" {row['reason']}" if row["reason"] else f", {_WORDS[Onward[row['onward'].upper()]]}"
        lines.append(head)
        for end in ("sender", "receiver"):
            say = row[end]
            if say is None:
                continue
            lines.append(f"  {say['policy']} policy of the {end} (identity {say['identity']}): {say['verdict']}")
            lines.append(
                f"    peer {say['peer']}" + (f", {say['peerCIDR']}" if say["peerCIDR"] else "") + f"; by {say['by']}"
            )
            if say["rule"]:
                rule = say["rule"]
                text = f"{rule['direction']} {rule['peer']} {rule['protocol']} {rule['port']}: {rule['says']}"
                lines.append(f"    entry of rule set {rule['ruleset']}, {say['tier']} tier: {text}")
        if row["connection"]:
            found = row["connection"]
            lines.append(f"  connection {found['initiator']} > {found['responder']}, expires in {found['expires']}")
        if row["packet"] and row["onward"] != "stack":
            new = row["packet"]
            lines.append(f"  becomes {new['sourceMAC']} > {new['destinationMAC']}, hop limit {new['hopLimit']}")
    return lines


@click.command()
@click.option("--from", "source", required=True, metavar="NS/POD|IP", help="A pod of this node, or any address.")
@click.option("--to", required=True, metavar="IP", help="Where to.")
@click.option("--proto", type=click.Choice(tuple(packets.NUMBERS)), default="tcp", show_default=True)
@click.option("--dport", type=click.IntRange(1, 65535), default=None, help="Needed but for icmp.")
@click.option("--sport", type=click.IntRange(0, 65535), default=40000, show_default=True, help="icmp: the identifier.")
@click.option("--flags", default="S", show_default=True, help="Of TCP: S, A, F, R, P, U.")
@click.option("--icmp-type", type=click.IntRange(0, 255), default=None, help="Else an echo request.")
@click.option(
    "-o", "--output", "form", type=click.Choice(("human", "json", "yaml")), default="human", show_default=True
)
@pin_dir_option
@run_dir_option
def main(
    *,
    source: str,
    to: str,
    proto: str,
    dport: int | None,
    sport: int,
    flags: str,
    icmp_type: int | None,
    form: str,
    pin_dir: Path,
    run_dir: Path,
) -> None:
    """Run one packet through this node's live programs and maps: verdict, reason, entries that decided. Sends nothing.

    Exit 0 if it passes, 1 if it is dropped.
    """
    if dport is None and proto != "icmp":
        raise UsageError(f"--proto {proto} needs --dport: write the port the connection is for")
    with views.opened(pin_dir) as fds:
        ends = _ends(fds, source, to, run_dir)
        packet = packets.Description(ends.source, ends.destination, proto, sport, dport or 0, flags, icmp_type)
        rows = [_row(fds, answer) for answer in _runs(loader.schema_dir(pin_dir), ends, packet)]
    if form == "human":
        click.echo("\n".join(_human(rows)))
    else:
        emit({"verdict": rows[-1]["verdict"], "reason": rows[-1]["reason"], "hooks": rows}, form)
    if rows[-1]["verdict"] == "drop":
        raise SystemExit(1)
