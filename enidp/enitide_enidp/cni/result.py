"""CNI results and error objects as JSON, in the version of the request. Pure.

A result is refused by runtimes when its version is not the request's, so it always repeats it. Up to 0.4.0 every
address names its family; IPv4 comes first, since runtimes take the first address as the pod's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from enitide_api.errors import CniError
from enitide_enidp.netlink.facts import IPAddress
from enitide_enidp.netlink.pod import gateway_of

_OLD = ("0.3.1", "0.4.0")


@dataclass(frozen=True, slots=True)
class Interfaces:
    """Both ends of a pod's veth, MACs as text, and the namespace path of the pod's end."""

    host_name: str
    host_mac: str
    ifname: str
    pod_mac: str
    netns: str
    mtu: int


def success(version: str, interfaces: Interfaces, addresses: Sequence[IPAddress]) -> bytes:
    """The result of ADD."""
    mtu = {"mtu": interfaces.mtu} if version == "1.1.0" else {}
    body = {
        "cniVersion": version,
        "interfaces": [
            {"name": interfaces.host_name, "mac": interfaces.host_mac, **mtu},
            {"name": interfaces.ifname, "mac": interfaces.pod_mac, "sandbox": interfaces.netns, **mtu},
        ],
        "ips": [_address(version, address) for address in addresses],
        "routes": [
            {"dst": "0.0.0.0/0" if address.version == 4 else "::/0", "gw": str(gateway_of(address))}
            for address in addresses
        ],
        "dns": {},
    }
    return msgspec.json.encode(body)


def _address(version: str, address: IPAddress) -> dict[str, Any]:
    entry = {"address": f"{address}/{address.max_prefixlen}", "gateway": str(gateway_of(address)), "interface": 1}
    return {"version": str(address.version), **entry} if version in _OLD else entry


def failure(error: CniError, version: str = "1.0.0") -> bytes:
    """The error object; its message begins with the reason code."""
    body = {
        "cniVersion": version,
        "code": error.cni_code,
        "msg": f"{error.cni_reason}: {error}",
        "details": error.details,
    }
    return msgspec.json.encode(body)


class _Address(msgspec.Struct, frozen=True):
    address: str = ""


class _Result(msgspec.Struct, frozen=True):
    ips: tuple[_Address, ...] = ()


def addresses_of(prev_result: bytes) -> tuple[str, ...] | None:
    """The addresses in a `prevResult`, without their lengths; None where there is none or it cannot be read."""
    if not prev_result:
        return None
    try:
        found = msgspec.json.decode(prev_result, type=_Result)
    except msgspec.DecodeError:
        return None
    return tuple(each.address.partition("/")[0] for each in found.ips)
