"""Reads what `enitide why` judges, and remembers what it was not allowed to read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

from enitide_api.errors import KubeForbidden, KubeNotFound
from enitide_api.resources import ENIClass, ENINode, decode
from enitide_api.subnetreport import SubnetReport
from enitide_kube.objects import Node, Pod
from enitide_kube.port import ENICLASS, ENINODE, EVENT, NODE, POD, SUBNETREPORT, Kind, KubePort
from enitide_operator.cli.chain import Answer, Evidence, Json, why
from enitide_operator.cli.collect import list_all, read_lease
from enitide_operator.taints import is_tainted

T = TypeVar("T")

_AGENT = "app.kubernetes.io/name=enitide,app.kubernetes.io/component=agent"  # labels of charts/enitide


async def answer_for(kube: KubePort, subject: str, namespace: str, lease: tuple[str, str]) -> Answer:
    """The whole answer. `lease`: namespace and name. `UsageError` for a subject that is not there."""
    reader = _Reader(kube)
    pod = await _pod_meant(reader, subject, namespace)
    if pod is None:
        return why(f"node {subject}", await _evidence(reader, None, subject, lease))
    title = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    return why(title, await _evidence(reader, pod, pod.get("spec", {}).get("nodeName", ""), lease))


class _Reader:
    """Reads that are not allowed, or of a kind the server does not know, give nothing and are noted."""

    def __init__(self, kube: KubePort) -> None:
        self.kube = kube
        self.unseen: list[str] = []

    async def raw(self, kind: Kind, name: str, namespace: str = "") -> bytes | None:
        """One object's bytes; None where there is none or it may not be seen."""
        try:
            return await self.kube.get(kind, name, namespace=namespace)
        except KubeNotFound:
            return None
        except KubeForbidden as error:
            self.unseen.append(f"{kind.kind} {name}: {error}")
            return None

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Json | None:
        """The same as a document."""
        raw = await self.raw(kind, name, namespace)
        found: Json | None = json.loads(raw) if raw is not None else None
        return found

    async def list(self, kind: Kind, type_: type[T], **how: str) -> tuple[T, ...]:
        """All of a kind; none where they may not be seen."""
        try:
            return await list_all(self.kube, kind, type_, **how)
        except (KubeForbidden, KubeNotFound) as error:
            self.unseen.append(f"{kind.plural}: {error}")
            return ()


async def _pod_meant(reader: _Reader, subject: str, namespace: str) -> Json | None:
    """The pod that is meant, or None where the subject is a node. A usage error that says what there is."""
    space, slash, name = subject.rpartition("/")
    if slash or namespace:
        pod = await reader.get(POD, name, namespace=space or namespace)
        if pod is None:
            raise click.UsageError(f"there is no pod {name!r} in namespace {space or namespace!r}" + _hint(reader))
        return pod
    if await reader.raw(ENINODE, subject) is not None or await reader.raw(NODE, subject) is not None:
        return None
    pods = [each for each in await reader.list(POD, Pod) if each.metadata.name == subject]
    if len(pods) == 1:
        return await reader.get(POD, subject, namespace=pods[0].metadata.namespace)
    if pods:
        names = ", ".join(f"{each.metadata.namespace}/{subject}" for each in pods)
        raise click.UsageError(f"{subject!r} is a pod in several namespaces: write one of {names}")
    raise click.UsageError(f"there is no node and no pod {subject!r}: write NODE, or NAMESPACE/POD" + _hint(reader))


def _hint(reader: _Reader) -> str:
    return f" (not seen: {'; '.join(reader.unseen)})" if reader.unseen else ""


async def _evidence(reader: _Reader, pod: Json | None, node_name: str, lease: tuple[str, str]) -> Evidence:
    leader, age_s = await _leader(reader, lease)
    seen: dict[str, Any] = {"pod": pod, "node_name": node_name, "leader": leader, "lease_age_s": age_s}
    if pod is not None:
        seen["pod_events"] = await _events_of(reader, pod)
    if node_name:
        seen |= await _of_node(reader, node_name)
    elif pod is not None:
        nodes = await reader.list(NODE, Node)
        seen["tainted"] = tuple(each.metadata.name for each in nodes if is_tainted(each))
    return Evidence(**seen, unseen=tuple(dict.fromkeys(reader.unseen)))


async def _leader(reader: _Reader, lease: tuple[str, str]) -> tuple[str | None, float | None]:
    """Who leads, and seconds since the Lease's renewal."""
    try:
        found = (await read_lease(reader.kube, *lease)).spec
    except KubeForbidden as error:
        reader.unseen.append(f"Lease {lease[1]}: {error}")
        return None, None
    if not found.renew_time:
        return found.holder_identity or "", None
    age_s = (datetime.now(UTC) - datetime.fromisoformat(found.renew_time)).total_seconds()
    return found.holder_identity or "", age_s


async def _of_node(reader: _Reader, name: str) -> dict[str, Any]:
    raw = await reader.raw(ENINODE, name)
    eninode = decode(raw, ENINode) if raw is not None else None
    pods = await reader.list(POD, Pod, field_selector=f"spec.nodeName={name}")
    class_ = None
    if eninode is not None and eninode.status.class_ is not None:
        found = await reader.raw(ENICLASS, eninode.status.class_.name)
        class_ = decode(found, ENIClass) if found is not None else None
    return {
        "node": await reader.get(NODE, name),
        "eninode": eninode,
        "class_": class_,
        "bound": sum(each.needs_address for each in pods),
        "agent_pod": await _agent_pod(reader, name),
        "reports": await reader.list(SUBNETREPORT, SubnetReport) if eninode is not None else (),
    }


async def _agent_pod(reader: _Reader, node: str) -> Json | None:
    found = await reader.list(POD, Pod, field_selector=f"spec.nodeName={node}", label_selector=_AGENT)
    if not found:
        return None
    return await reader.get(POD, found[0].metadata.name, namespace=found[0].metadata.namespace)


async def _events_of(reader: _Reader, pod: Json) -> tuple[Json, ...]:
    """Events about this very pod; there is no field selector on them that every server knows."""
    meta = pod["metadata"]
    found = await reader.list(EVENT, msgspec.Raw, namespace=meta["namespace"])
    events = [json.loads(bytes(each)) for each in found]
    return tuple(each for each in events if (each.get("regarding") or {}).get("uid") == meta["uid"])
