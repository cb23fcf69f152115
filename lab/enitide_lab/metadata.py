"""The instance metadata service, version 2 only, for all instances of one model.

One service answers for every node: it knows the asking instance by the peer's address, which must be an address of
one of its ENIs. A session token is needed for every read, is bound to the instance it was given to and expires; a
request that came through a proxy (`X-Forwarded-For`) gets no token, and a token travels `hop_limit` hops at most. What
the instance is comes from the model at the moment of asking, so an ENI shows up here when EC2 has attached it.

Faults on command, per instance: `absent` (404), `refuse` (connection reset), `empty` (200 and no body), `delay_s`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from enitide_lab.ec2model import EC2Model
from enitide_lab.ec2model.state import InstanceRecord, InterfaceRecord

TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
LONGEST_TTL_S = 21600
VERSIONS = ("1.0", "2021-03-23", "2024-04-11", "latest")
Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MetadataAnswer:
    """One HTTP answer; `drop`: reset the connection instead."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    drop: bool = False


class MetadataService:
    """Answers metadata requests from the model, under `lock`."""

    def __init__(self, model: EC2Model, lock: AbstractContextManager[Any], clock: Callable[[], float]) -> None:
        self._model = model
        self._lock = lock
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}
        self._issued = 0
        self.hop_limit = 2  # of a reply that carries a token; what EKS gives its nodes (plain EC2: 1)
        self.faults: dict[str, dict[str, Any]] = {}

    def answer(self, method: str, path: str, headers: Mapping[str, str], peer: str) -> MetadataAnswer:
        """One request. `headers` by lower-case name; `peer` is the asking address."""
        with self._lock:
            instance = self.instance_at(peer)
        if instance is None:
            return MetadataAnswer(404, b"no instance has this address")
        fault = self.faults.get(instance.id, {})
        time.sleep(float(fault.get("delay_s", 0)))
        if fault.get("refuse"):
            return MetadataAnswer(503, drop=True)
        if fault.get("absent"):
            return MetadataAnswer(404)
        if method == "PUT" and path == TOKEN_PATH:
            return self._issue(headers, instance)
        if method != "GET":
            return MetadataAnswer(405)
        if not self._valid(headers.get("x-aws-ec2-metadata-token", ""), instance):
            return MetadataAnswer(401)
        if fault.get("empty"):
            return MetadataAnswer(200)
        with self._lock:
            return self._read(path, instance)

    def instance_at(self, peer: str) -> InstanceRecord | None:
        """The instance that one of whose ENIs holds `peer` as a single address."""
        for subnet in self._model.subnets.values():
            record = subnet.by_address.get(peer)
            if record is not None:
                return record.attachment.instance if record.attachment is not None else None
        for record in self._model.interfaces.values():
            if peer in record.ipv6 and record.attachment is not None:
                return record.attachment.instance
        return None

    # --- tokens --------------------------------------------------------------------------------------------------

    def _issue(self, headers: Mapping[str, str], instance: InstanceRecord) -> MetadataAnswer:
        if "x-forwarded-for" in headers:
            return MetadataAnswer(403)
        ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL_S:
            return MetadataAnswer(400)
        now_s = self._clock()
        self._tokens = {token: held for token, held in self._tokens.items() if held[1] > now_s}
        self._issued += 1
        token = f"lab-{instance.id}-{self._issued:08x}=="
        self._tokens[token] = (instance.id, now_s + int(ttl))
        return MetadataAnswer(200, token.encode())

    def _valid(self, token: str, instance: InstanceRecord) -> bool:
        held = self._tokens.get(token)
        return held is not None and held[0] == instance.id and held[1] > self._clock()

    # --- the tree ------------------------------------------------------------------------------------------------

    def _read(self, path: str, instance: InstanceRecord) -> MetadataAnswer:
        parts = [part for part in path.split("/") if part]
        if not parts:
            return MetadataAnswer(200, "\n".join(VERSIONS).encode())
        if parts[0] not in VERSIONS:
            return MetadataAnswer(404)
        node: Any = {
            "dynamic": {"instance-identity": {"document": self._document(instance)}},
            "meta-data": self._tree(instance),
        }
        for part in parts[1:]:
            if not isinstance(node, dict) or part not in node:
                return MetadataAnswer(404)
            node = node[part]
        if isinstance(node, dict):
            names = [f"{name}/" if isinstance(value, dict) else name for name, value in node.items()]
            return MetadataAnswer(200, "\n".join(names).encode())
        kind = "application/json" if parts[-1] == "document" else "text/plain"
        return MetadataAnswer(200, str(node).encode(), kind)

    def _document(self, instance: InstanceRecord) -> str:
        first = instance.devices.get((0, 0))
        facts = {
            "accountId": self._model.owner,
            "architecture": "x86_64",
            "availabilityZone": instance.subnet.zone,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.type,
            "privateIp": first.primary if first is not None else None,
            "region": self._model.region,
            "version": "2017-09-30",
        }
        return json.dumps(facts, indent=2)

    def _tree(self, instance: InstanceRecord) -> Tree:
        devices = dict(sorted(instance.devices.items()))
        attached = {
            key: record
            for key, record in devices.items()
            if record.attachment and record.attachment.status == "attached"
        }
        tree: Tree = {
            "ami-id": instance.image_id,
            "instance-id": instance.id,
            "instance-type": instance.type,
            "placement": {
                "availability-zone": instance.subnet.zone,
                "availability-zone-id": instance.subnet.zone_id,
                "region": self._model.region,
            },
            "network": {
                "interfaces": {"macs": {record.mac: self._interface(record, *key) for key, record in attached.items()}}
            },
        }
        if (first := devices.get((0, 0))) is not None:
            tree |= {"mac": first.mac, "local-ipv4": first.primary, "security-groups": self._group_names(first)}
        return tree

    def _interface(self, record: InterfaceRecord, card: int, index: int) -> Tree:
        subnet = record.subnet
        singles = [*filter(None, (record.primary,)), *record.secondaries]
        tree: Tree = {
            "device-number": str(index),
            "interface-id": record.id,
            "mac": record.mac,
            "owner-id": self._model.owner,
            "security-group-ids": "\n".join(record.groups),
            "security-groups": self._group_names(record),
            "subnet-id": subnet.id,
            "subnet-ipv4-cidr-block": subnet.cidr,
            "vpc-id": subnet.vpc.id,
            "vpc-ipv4-cidr-block": subnet.vpc.cidrs[0],
            "vpc-ipv4-cidr-blocks": "\n".join(subnet.vpc.cidrs),
        }
        if len(self._model.limits_of(record.attachment.instance.type).cards) > 1 if record.attachment else False:
            tree["network-card"] = str(card)
        optional = {
            "local-ipv4s": singles,
            "ipv4-prefix": list(record.prefixes),
            "ipv6s": list(record.ipv6),
            "ipv6-prefix": list(record.ipv6_prefixes),
            "subnet-ipv6-cidr-blocks": [subnet.ipv6_cidr] if subnet.ipv6_cidr else [],
            "vpc-ipv6-cidr-blocks": subnet.vpc.ipv6_cidrs,
        }
        return tree | {name: "\n".join(values) for name, values in optional.items() if values}

    def _group_names(self, record: InterfaceRecord) -> str:
        groups = self._model.groups
        return "\n".join(groups[i].name if i in groups else i for i in record.groups)
