"""A lab with the worlds of the scenarios in it: objects applied as a user applies them, judged as a user asks."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from enitide_kube.client import HttpKube
from enitide_kube.port import (
    CRD,
    ENDPOINTSLICE,
    NAMESPACE,
    NETWORKPOLICY,
    NODE,
    POD,
    POLICIES,
    SERVICE,
    Kind,
)
from enitide_lab.demo.workload import running
from enitide_lab.house.mounts import in_namespace
from enitide_lab.probe.matrix import Place
from enitide_policy.problems import ObjectRef
from support.lab import LabDriver, until
from support.policy_cases import judged, objects_of

from .atlas import Atlas

NODES = {"n1": "node-1", "n2": "node-2"}
KINDS = {kind.kind: kind for kind in (NAMESPACE, POD, NODE, SERVICE, ENDPOINTSLICE, *POLICIES)}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
Key = tuple[str, str, str]


def definition(kind: Kind) -> dict[str, Any]:
    """A definition that takes any object: the scenarios are about what is done with it."""
    names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower(), "listKind": f"{kind.kind}List"}
    version = {"name": kind.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": _OPEN}}
    scope = "Namespaced" if kind.namespaced else "Cluster"
    spec = {"group": kind.group, "scope": scope, "names": names, "versions": [version]}
    meta = {"name": f"{kind.plural}.{kind.group}"}
    return {"apiVersion": CRD.api_version, "kind": CRD.kind, "metadata": meta, "spec": spec}


def key_of(obj: Mapping[str, Any]) -> Key:
    """Kind, namespace and name."""
    meta = obj["metadata"]
    namespace = meta.get("namespace", "default") if KINDS[obj["kind"]].namespaced else ""
    return obj["kind"], namespace, meta["name"]


class Stage:
    """One lab; `world`: the YAML of what is there in all scenarios. `outside`: addresses beyond the cluster."""

    def __init__(self, lab: LabDriver, world: str, outside: Iterable[str]) -> None:
        self.lab = lab
        self.outside = sorted(outside)
        self._world = [obj for obj in objects_of(world) if obj["metadata"]["name"] != "done"]
        self.atlas = Atlas({}, NODES)
        self._applied: dict[Key, dict[str, Any]] = {}

    # --- building ----------------------------------------------------------------------------------------------------

    async def build(self, kube: HttpKube) -> None:
        """Everything that no scenario changes; returns when all pods run."""
        for kind in POLICIES:
            if kind != NETWORKPOLICY:
                await kube.create(CRD, definition(kind))
        for obj in self._of("Node"):
            await kube.patch(NODE, NODES[obj["metadata"]["name"]], {"metadata": {"labels": obj["metadata"]["labels"]}})
        for obj in self._of("Namespace"):
            await kube.create(NAMESPACE, obj)
        await asyncio.gather(*(self._start(kube, obj) for obj in self._of("Pod")))
        self.atlas = Atlas(await self._addresses(kube), NODES)
        for obj in [*self._of("Service"), *self._of("EndpointSlice")]:
            await self._create(kube, self.atlas.moved(obj))
        in_namespace(self.lab.lab.paths.fabric, self._add_outside)

    def _of(self, kind: str) -> list[dict[str, Any]]:
        return [obj for obj in self._world if obj["kind"] == kind]

    async def _start(self, kube: HttpKube, obj: Mapping[str, Any]) -> None:
        spec = dict(obj["spec"])
        selector = {"kubernetes.io/hostname": NODES[spec.pop("nodeName")]}
        containers = [{"image": "none", **each} for each in spec.get("containers", [{"name": "c"}])]
        body = {key: value for key, value in obj.items() if key != "status"}
        await self._create(kube, {**body, "spec": {**spec, "containers": containers, "nodeSelector": selector}})

    async def _create(self, kube: HttpKube, obj: Mapping[str, Any]) -> None:
        await kube.create(KINDS[obj["kind"]], obj, namespace=key_of(obj)[1])

    async def _addresses(self, kube: HttpKube) -> dict[str, str]:
        found = {}
        for obj in self._of("Pod"):
            _, namespace, name = key_of(obj)
            written = obj["status"]["podIPs"][0]["ip"]

            async def runs(name: str = name, namespace: str = namespace) -> str:
                pod = msgspec.json.decode(await kube.get(POD, name, namespace=namespace))
                return pod.get("status", {}).get("podIP") or ""

            found[written] = await until(runs, 60.0, f"{namespace}/{name} runs")
        for obj in self._of("Node"):
            written = obj["status"]["addresses"][0]["address"]
            found[written] = self.lab.node(NODES[obj["metadata"]["name"]]).address
        return found

    def _add_outside(self) -> None:
        for address in self.outside:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)

    def places(self, *, every_address: bool = False) -> dict[str, Place]:
        """Everywhere packets come from and go to: pods, nodes, outside. With `every_address` of both families."""
        owned = {each.sandbox.key: tuple(each.sandbox.addresses) for each in running(self.lab.lab)}
        found = {}
        for obj in self._of("Pod"):
            if obj["spec"].get("hostNetwork"):
                continue
            _, namespace, name = key_of(obj)
            address = self.atlas.addresses[obj["status"]["podIPs"][0]["ip"]]
            netns = self._netns(namespace, name)
            addresses = owned[f"{namespace}/{name}"] if every_address else (address,)
            found[f"{namespace}/{name}"] = Place(f"{namespace}/{name}", netns, addresses)
        for name in NODES.values():
            place = self.lab.node_place(name)
            found[f"node/{name}"] = Place(f"node/{name}", place.netns, place.addresses)
        for address in self.outside:
            found[address] = Place(address, self.lab.lab.paths.fabric, (address,))
        return found

    def names(self) -> dict[str, str]:
        """Other names of places: addresses, and pods on their node's network."""
        found = {place.addresses[0]: name for name, place in self.places().items()}
        for obj in self._of("Pod"):
            if obj["spec"].get("hostNetwork"):
                found["/".join(key_of(obj)[1:])] = f"node/{NODES[obj['spec']['nodeName']]}"
        return found

    def _netns(self, namespace: str, name: str) -> Path:
        return next(
            Path(each.sandbox.netns) for each in running(self.lab.lab) if each.sandbox.key == f"{namespace}/{name}"
        )

    # --- scenarios ---------------------------------------------------------------------------------------------------

    async def apply(self, kube: HttpKube, *texts: str) -> int:
        """Make these the only policies (and further objects) there are; how many writes that took."""
        wanted = {key_of(obj): self.atlas.moved(obj) for obj in objects_of(*texts)}
        writes = 0
        for key, obj in wanted.items():
            before = self._applied.get(key)
            if before == obj:
                continue
            writes += 1
            self._applied[key] = obj
            if before is None:
                await self._create(kube, obj)
            elif before.keys() == obj.keys():
                await self._replace(kube, key, before, obj)
            else:
                await kube.delete(KINDS[key[0]], key[2], namespace=key[1])
                await self._create(kube, obj)
        for key in self._applied.keys() - wanted.keys():
            writes += 1
            del self._applied[key]
            await kube.delete(KINDS[key[0]], key[2], namespace=key[1])
        return writes

    async def _replace(self, kube: HttpKube, key: Key, before: Mapping[str, Any], obj: Mapping[str, Any]) -> None:
        changed = [part for part in obj if part != "metadata" and before[part] != obj[part]]
        patch = [{"op": "replace", "path": f"/{part}", "value": obj[part]} for part in changed]
        await kube.patch(KINDS[key[0]], key[2], patch, namespace=key[1])

    async def label(self, kube: HttpKube, key: Key, labels: Mapping[str, str]) -> None:
        """Change labels of a pod or a namespace."""
        await kube.patch(KINDS[key[0]], key[2], {"metadata": {"labels": dict(labels)}}, namespace=key[1])

    async def objects(self, kube: HttpKube) -> list[dict[str, Any]]:
        """What the API server holds, for `policy verdict`."""
        found = []
        for kind in KINDS.values():
            for raw in (await kube.list(kind)).items:
                obj = msgspec.json.decode(raw)
                found.append({"kind": kind.kind, "apiVersion": kind.api_version, **obj})
        return found

    async def read_by_agents(self, kube: HttpKube, objects: Sequence[Mapping[str, Any]]) -> None:
        """Return when every agent has read the policies in just this version."""
        kinds = {kind.kind for kind in POLICIES}
        wanted = {
            str(ObjectRef(*key_of(obj))): obj["metadata"]["resourceVersion"] for obj in objects if obj["kind"] in kinds
        }

        def told() -> bool:
            for node in NODES.values():
                rows = self.lab.agent(node, "/v1/policies")["policies"]
                if {row["policy"]: row["resourceVersion"] for row in rows} != wanted:
                    return False
            return True

        await until(told, 20.0, f"both agents have read {sorted(wanted)}")


def verdicts(objects: list[dict[str, Any]], queries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows of `policy verdict` by id."""
    return judged(objects, [{"family": "IPv4", **query} for query in queries])[0]
