"""Signs that another program manages the ENIs of this node. Pure but for reading the folder of CNI configurations.

Two managers would take each other's addresses, rules and routes away in turns, so one sure sign is enough not to start.
Only what no other software makes counts: the plugin types of conflists, and rules and devices of known shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from enitide_api.errors import ForeignManager
from enitide_enidp.netlink.facts import Link, Rule

_PLUGINS = {"aws-cni": "the Amazon VPC CNI", "cilium-cni": "Cilium"}
_AWS_MARK = 0x80
_AWS_SOURCE, _AWS_MARKED, _CILIUM_SOURCE, _CILIUM_MARKED = 1536, 1024, 111, 109
_AWS_VETH = re.compile(r"eni[0-9a-f]{11}")
_CILIUM_DEVICES = frozenset({"cilium_host", "cilium_net"})


class _Plugin(msgspec.Struct, frozen=True):
    type: str = ""


class _Conflist(msgspec.Struct, frozen=True):
    type: str = ""
    plugins: tuple[_Plugin, ...] = ()


def conflist_signs(folder: Path) -> list[str]:
    """One sentence for each configuration of another manager in the folder."""
    signs: list[str] = []
    for path in sorted(folder.glob("*.conf*")) if folder.is_dir() else ():
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Conflist)
        except (OSError, msgspec.DecodeError):
            continue  # no runtime could use it either
        kinds = (found.type, *(plugin.type for plugin in found.plugins))
        signs += [f"{path} is the configuration of {_PLUGINS[kind]}" for kind in kinds if kind in _PLUGINS]
    return signs


def kernel_signs(links: Iterable[Link], rules: Iterable[Rule]) -> list[str]:
    """One sentence for each kind of foreign rule or device."""
    signs: set[str] = set()
    for rule in rules:
        marked = rule.mark == _AWS_MARK and rule.mask == _AWS_MARK
        if (rule.priority == _AWS_SOURCE and rule.source_length) or (rule.priority == _AWS_MARKED and marked):
            signs.add(f"policy rules of the Amazon VPC CNI (priority {rule.priority})")
        if (rule.priority == _CILIUM_SOURCE and rule.source_length) or (rule.priority == _CILIUM_MARKED and marked):
            signs.add(f"policy rules of Cilium (priority {rule.priority})")
    for link in links:
        if link.kind == "veth" and _AWS_VETH.fullmatch(link.name):
            signs.add("pod devices of the Amazon VPC CNI (eni…)")
        if link.name in _CILIUM_DEVICES:
            signs.add(f"the device {link.name} of Cilium")
    return sorted(signs)


def refuse(signs: Iterable[str]) -> None:
    """`ForeignManager` if there is any sign."""
    found = list(signs)
    if found:
        raise ForeignManager("another program manages the ENIs of this node: " + "; ".join(found))
