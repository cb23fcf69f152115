"""Scenarios are written for a world of made-up addresses and nodes: here they are moved to those that a lab gives out.

Pure: objects and lines in, the same with the lab's names, addresses and ranges out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from support.policy_cases import queries_of

from .prober import Probe

_CLUSTER = [ip_network("10.0.0.0/15"), ip_network("172.16.0.0/24")]
_WHOLE = "10.0.0.0/16"  # all pods of the world, and the whole VPC of the lab


@dataclass(frozen=True, slots=True)
class Atlas:
    """`addresses`: of pods and nodes, written to given; `nodes`: names, written to given."""

    addresses: Mapping[str, str]
    nodes: Mapping[str, str]

    def end(self, written: str) -> str:
        """An end of a query."""
        if written.startswith("node/"):
            return f"node/{self.nodes[written.removeprefix('node/')]}"
        return self.addresses.get(written, written)

    def networks(self, written: str) -> list[str]:
        """A range: one of the world's own addresses becomes the addresses of those who are in it there."""
        network = ip_network(written)
        if written == _WHOLE or not any(network.overlaps(each) for each in _CLUSTER) or network.prefixlen == 0:
            return [written]
        inside = [given for address, given in self.addresses.items() if ip_address(address) in network]
        assert inside, f"nobody is in {written}"
        return [f"{given}/32" for given in sorted(inside, key=ip_address)]

    def moved(self, value: Any) -> Any:
        """An object, or a part of one, with addresses and ranges of the lab."""
        if isinstance(value, dict):
            return {key: self._moved_key(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [part for item in value for part in self._moved_item(item)]
        return self.addresses.get(value, value) if isinstance(value, str) else value

    def _moved_key(self, key: str, value: Any) -> Any:
        if key in ("networks", "except", "toCIDR", "fromCIDR"):
            return [given for written in value for given in self.networks(written)]
        return self.moved(value)

    def _moved_item(self, item: Any) -> Iterator[Any]:
        """A peer by range becomes as many as its range does."""
        block = item.get("ipBlock", item) if isinstance(item, dict) else {}
        if "cidr" not in block:
            yield self.moved(item)
            return
        for given in self.networks(block["cidr"]):
            found = self.moved({key: value for key, value in block.items() if key != "cidr"}) | {"cidr": given}
            yield {**item, "ipBlock": found} if "ipBlock" in item else found

    def lines(self, text: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """A scenario's queries for the lab, and the verdict that each must have. Ends that no lab has are left out."""
        queries, wanted = queries_of(text)
        there = [query for query in queries if not {query["from"], query["to"]} & {"x/done", "10.0.1.9"}]
        moved = [{**query, "from": self.end(query["from"]), "to": self.end(query["to"])} for query in there]
        return moved, {query["id"]: wanted[query["id"]][0] for query in moved}


def probe_of(query: Mapping[str, Any], names: Mapping[str, str]) -> Probe | None:
    """The packet that asks the same; `names`: other names of places. None: a Service's address is no packet's yet."""
    ends = query["from"], query["to"]
    if any(end.startswith(("service/", "172.20.")) for end in ends):
        return None
    source, target = (names.get(end, end) for end in ends)
    return Probe(source, target, query["protocol"], query.get("port", query.get("icmpType")))


def query_of(probe: Probe) -> dict[str, Any]:
    """The question that the probe asks, for `policy verdict`."""
    key = "icmpType" if probe.protocol == "ICMP" else "port"
    return {"id": str(probe), "from": probe.source, "to": probe.target, "protocol": probe.protocol, key: probe.port}
