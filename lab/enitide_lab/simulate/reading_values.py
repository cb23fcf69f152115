"""What stands behind the keys of events: verbs, codes, CIDRs, numbers and durations, each in its bounds."""

from __future__ import annotations

import ipaddress
import re

from enitide_lab.ec2model.faults import AWS_BUCKETS, READS
from enitide_lab.simulate.located import Item, twice
from enitide_operator.ec2.port import Verb

_GROUPS = ("mutations", "reads", "*")
VERBS = tuple(dict.fromkeys([*(verb.value for verb in Verb), *AWS_BUCKETS]))
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]*(\.[A-Za-z0-9]+)*")
_MOST_ADDRESSES = 65_536  # of one node: a whole /16
_MOST_PODS = 10_000  # of one node
_LONGEST_H = 720  # of one event: longer than anything the operator waits for


def verb(item: Item) -> str:
    """A verb of EC2, or one of the words for several."""
    if item.is_null:
        item.refuse('is empty: write a verb, mutations, reads or "*"')
    return item.word((*VERBS, *_GROUPS), "verb")


def listing(item: Item) -> str:
    """What can be answered with nothing: a listing."""
    word = "" if item.is_null else item.text("a verb")
    if word in {"mutations", "*"} or (word in VERBS and not word.startswith(READS)):
        item.refuse(f"{word} is no listing that could be empty: write one such as DescribeNetworkInterfaces, or reads")
    return item.word(("reads", *(each for each in VERBS if each.startswith(READS))), "verb")


def addresses(item: Item) -> int:
    """How many of one node."""
    return item.integer(0, _MOST_ADDRESSES)


def pods(item: Item) -> int:
    """How many of one node."""
    return item.integer(0, _MOST_PODS)


def period(item: Item) -> float:
    """Of one event, in seconds."""
    return item.seconds(_LONGEST_H)


def some(item: Item) -> tuple[int, tuple[str, ...]]:
    """A number of addresses, or a list of them, each once."""
    count, names = item.amount(cidr)
    again = twice(names)
    if again is not None:
        item.refuse(f"{again} stands here twice: write it once")
    return count, names


def code(item: Item) -> str:
    """An error code as EC2 writes them; whether it has this one is not asked."""
    value = item.text("an EC2 error code such as RequestLimitExceeded")
    if not _CODE.fullmatch(value):
        item.refuse(f"{value!r} is no EC2 error code: write one such as RequestLimitExceeded")
    return value


def cidr(item: Item) -> str:
    """An address, or a /28, as ENINodes write them."""
    value = item.text("an address such as 10.0.0.17, or a prefix such as 10.0.0.16/28")
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        item.refuse(f"{value} is neither address nor prefix ({error}): write 10.0.0.17 or 10.0.0.16/28")
    if network.prefixlen == 32:
        return str(network.network_address)
    if network.prefixlen != 28:
        item.refuse(f"{value} is no /28: prefixes on ENIs are /28")
    return str(network)
