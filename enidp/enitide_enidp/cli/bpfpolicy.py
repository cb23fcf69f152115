"""`enitide bpf policy`, `ct`, `ipcache`: what policy has put into this node's kernel. Works with the agent dead."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeVar

import click

from enitide_api.errors import UsageError
from enitide_api.output import Column, emit, output_option
from enitide_api.places import PIN_DIR
from enitide_enidp.cli.agent import names, run_dir_option
from enitide_enidp.datapath import policyviews, views, words
from enitide_enidp.datapath.addresses import Addresses
from enitide_enidp.datapath.connections import Connections

F = TypeVar("F", bound=Callable[..., Any])


def pin_dir_option(function: F) -> F:
    """`--pin-dir`, with the agent's environment name and default."""
    return click.option(
        "--pin-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=PIN_DIR,
        envvar="ENITIDE_PIN_DIR",
        show_default=True,
        help="Where the agent of this node pins its maps. [ENITIDE_PIN_DIR]",
    )(function)


def columns(*keys: str, wide: tuple[str, ...] = ()) -> tuple[Column, ...]:
    return (*(Column(key, key) for key in keys), *(Column(key, key, wide=True) for key in wide))


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """`UsageError` for what is no address."""
    try:
        return ip_address(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no IP address: write one such as 10.0.1.7 or 2001:db8::7") from error


# --- policy ----------------------------------------------------------------------------------------------------------


@click.group("policy")
def policy_group() -> None:
    """What holds for each pod, and the entries of its rule set."""


@policy_group.command("list")
@pin_dir_option
@run_dir_option
@output_option
def policy_list(pin_dir: Path, run_dir: Path, form: str) -> None:
    """Each pod: its identity, rule set, state."""
    shown = columns("endpoint", "ifindex", "addresses", "identity", "ruleset", "state", "isolated", "entries")
    with views.opened(pin_dir) as fds:
        emit(policyviews.endpoint_rows(fds, names(run_dir)), form, (*shown, *columns(wide=("generation",))))


@policy_group.command("get")
@click.argument("ruleset", type=click.IntRange(min=1))
@pin_dir_option
@output_option
def policy_get(ruleset: int, pin_dir: Path, form: str) -> None:
    """The entries of one rule set, by its number in `list`."""
    with views.opened(pin_dir) as fds:
        head = policyviews.head_at(fds, ruleset)
        if head is None or not head.id:
            raise UsageError(f"there is no rule set {ruleset}: `enitide bpf policy list` shows which there are")
        emit(policyviews.rules_at(fds, ruleset), form, columns("direction", "peer", "protocol", "port", "says"))


@policy_group.command("flush")
@pin_dir_option
def policy_flush(pin_dir: Path) -> None:
    """Forget what connections remember of policy: the next packet of each asks again. No entry is removed."""
    with views.opened(pin_dir) as fds:
        click.echo(f"connections ask {policyviews.ask_again(fds)} rule sets again")


# --- connections -----------------------------------------------------------------------------------------------------


@click.group("ct")
def ct_group() -> None:
    """Connections that the datapath remembers."""


_CT = columns("protocol", "initiator", "responder", "state", "egress", "ingress", "expires")
_CT_WIDE = columns(wide=("identity", "inIfindex", "fromHost"))


@ct_group.command("list")
@click.option("--expired", is_flag=True, help="Also what has expired and waits to be collected or written over.")
@pin_dir_option
@output_option
def ct_list(expired: bool, pin_dir: Path, form: str) -> None:
    """Every connection."""
    with views.opened(pin_dir) as fds:
        emit(list(policyviews.connection_rows(fds, expired=expired)), form, (*_CT, *_CT_WIDE))


@ct_group.command("get")
@click.argument("address")
@pin_dir_option
@output_option
def ct_get(address: str, pin_dir: Path, form: str) -> None:
    """The connections of one address, at either end."""
    wanted = parse_address(address)
    with views.opened(pin_dir) as fds:
        emit(list(policyviews.connection_rows(fds, wanted, expired=True)), form, (*_CT, *_CT_WIDE))


@ct_group.command("flush")
@pin_dir_option
def ct_flush(pin_dir: Path) -> None:
    """Forget every connection: the next packet of each is judged as a new flow, whichever way it goes."""
    with views.opened(pin_dir) as fds:
        click.echo(f"{Connections(fds['connections']).flush()} connections forgotten")


# --- addresses -------------------------------------------------------------------------------------------------------


@click.group("ipcache")
def ipcache_group() -> None:
    """Which identity has which address."""


_IPCACHE = columns("address", "identity", "name", "without a record")


@ipcache_group.command("list")
@pin_dir_option
@output_option
def ipcache_list(pin_dir: Path, form: str) -> None:
    """Every record: single addresses, then CIDRs."""
    with views.opened(pin_dir) as fds:
        emit(policyviews.identity_rows(Addresses(fds)), form, _IPCACHE)


@ipcache_group.command("get")
@click.argument("address")
@pin_dir_option
@output_option
def ipcache_get(address: str, pin_dir: Path, form: str) -> None:
    """What the programs make of one address: its record, its CIDR, the identity that follows."""
    wanted = parse_address(address)
    with views.opened(pin_dir) as fds:
        known = policyviews.look_up(Addresses(fds), wanted)
    row = {
        "address": str(wanted),
        "identity": known.identity,
        "name": words.identity_word(known.identity),
        "record": known.record,
        "cidr": known.cidr,
        "cidrIdentity": words.identity_word(known.cidr_identity) if known.cidr_identity else None,
    }
    emit([row], form, columns("address", "identity", "name", "record", "cidr", "cidrIdentity"))


@ipcache_group.command("flush")
@click.option("--yes", is_flag=True, help="Needed: every peer is unknown until the agent has written it anew.")
@pin_dir_option
def ipcache_flush(yes: bool, pin_dir: Path) -> None:
    """Remove the records of all single addresses. Restart the agent afterwards: it writes them anew."""
    if not yes:
        raise UsageError(
            "isolated pods would drop their peers until the agent is restarted: add --yes if that is meant"
        )
    with views.opened(pin_dir) as fds:
        addresses = Addresses(fds)
        click.echo(f"{addresses.delete(addresses.all())} records removed; restart the agent")
