"""Writes the lab's kubeconfigs and what every cluster of ours must hold before operator and agents start."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from enitide_api.crds import definitions
from enitide_api.errors import KubeError, KubeExists
from enitide_api.resources import API_VERSION, DEFAULT_CLASS
from enitide_kube.client import HttpKube
from enitide_kube.port import CRD, ENICLASS, NODE
from enitide_lab.house.layout import LabPaths
from enitide_lab.house.record import LabRecord

MANAGER = "lab"


def write_host_kubeconfig(paths: LabPaths, server: str) -> None:
    """The nodes' kubeconfig with the address of this machine's loopback instead."""
    document = yaml.safe_load(paths.node_kubeconfig.read_text())
    for cluster in document["clusters"]:
        cluster["cluster"]["server"] = server
    paths.kubeconfig.touch(mode=0o600)
    paths.kubeconfig.write_text(yaml.safe_dump(document, sort_keys=False))


def share_credentials(paths: LabPaths, lab: LabRecord) -> None:
    """Beside the embedded API server everybody may do everything: each role gets a copy under its own name."""
    roles = [("operator", ""), ("scheduler", "")]
    roles += [(role, node.name) for node in lab.nodes for role in ("agent", "kubelet")]
    for role, node in roles:
        shutil.copy(paths.node_kubeconfig, paths.credentials(role, node))


def default_class(*, prefix_delegation: bool) -> dict[str, Any]:
    """The ENIClass that always exists."""
    spec = {"prefixDelegation": True} if prefix_delegation else {}
    return {"apiVersion": API_VERSION, "kind": "ENIClass", "metadata": {"name": DEFAULT_CLASS}, "spec": spec}


async def install(kube: HttpKube, *, prefix_delegation: bool) -> None:
    """Our kinds and the default class, in an API server that has neither chart nor rights."""
    for definition in definitions().values():
        await _create(kube, CRD, definition)
    await _create(kube, ENICLASS, default_class(prefix_delegation=prefix_delegation))


async def _create(kube: HttpKube, kind: Any, obj: Mapping[str, Any]) -> None:
    # A kind is served a moment after its definition was accepted.
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10.0
    while True:
        try:
            await kube.create(kind, obj, field_manager=MANAGER)
        except KubeExists:
            return
        except KubeError:
            if loop.time() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def unready_nodes(kube: HttpKube, lab: LabRecord) -> dict[str, str]:
    """Nodes that are not ready yet, and what they say."""
    waiting = {node.name: "not registered" for node in lab.nodes}
    for raw in (await kube.list(NODE)).items:
        node = msgspec.json.decode(raw)
        name = node["metadata"]["name"]
        ready = [c for c in node.get("status", {}).get("conditions", ()) if c["type"] == "Ready"]
        if ready and ready[0]["status"] == "True":
            waiting.pop(name, None)
        elif name in waiting:
            waiting[name] = ready[0].get("message", "") if ready else "no status"
    return waiting
