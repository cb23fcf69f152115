"""What the read-only commands know: ENINodes, classes, pods and the leader's Lease, read once through the port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import msgspec

from enitide_api.errors import KubeNotFound
from enitide_api.resources import Condition, ENIClass, ENINode, decode
from enitide_kube.objects import Node, Pod
from enitide_kube.port import ENICLASS, ENINODE, LEASE, NODE, POD, Kind, KubePort

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Cluster:
    """One reading. `leader` is the Lease's holder or ''; `renewed` its last renewal (RFC 3339) or ''.

    `conditions`: what the operator says of itself.
    """

    nodes: tuple[ENINode, ...]
    classes: tuple[ENIClass, ...]
    kube_nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    leader: str
    renewed: str
    conditions: tuple[Condition, ...] = ()

    def node(self, name: str) -> ENINode:
        """The ENINode of that name, or a usage error that lists close names."""
        found = {n.metadata.name: n for n in self.nodes}
        if name not in found:
            from difflib import get_close_matches

            close = get_close_matches(name, found, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(found)) or 'none'}"
            raise click.UsageError(f"there is no ENINode {name!r}: {hint}")
        return found[name]


async def list_all(kube: KubePort, kind: Kind, type_: type[T], **how: str) -> tuple[T, ...]:
    """Every object of a kind, page by page. `how`: namespace and selectors, as the port's `list` takes them."""
    found: list[T] = []
    token = ""
    while True:
        page = await kube.list(kind, continue_token=token, **how)  # type: ignore[arg-type]  # all of them are words
        found += (decode(item, type_) for item in page.items)
        token = page.continue_token
        if not token:
            return tuple(found)


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None
    renew_time: str | None = None


class _LeaseMeta(msgspec.Struct, frozen=True):
    annotations: dict[str, str] = {}


class _Lease(msgspec.Struct, frozen=True):
    metadata: _LeaseMeta = _LeaseMeta()
    spec: _LeaseSpec = _LeaseSpec()


async def read_lease(kube: KubePort, namespace: str, name: str) -> _Lease:
    """The leader's Lease; an empty one where there is none."""
    try:
        return decode(await kube.get(LEASE, name, namespace=namespace), _Lease)
    except KubeNotFound:
        return _Lease()


async def read_cluster(kube: KubePort, *, namespace: str, lease: str, pods: bool) -> Cluster:
    """Read everything the commands show; pods only where asked for (they are the most)."""
    from enitide_operator.conditions import read_annotation

    nodes = await list_all(kube, ENINODE, ENINode)
    classes = await list_all(kube, ENICLASS, ENIClass)
    kube_nodes = await list_all(kube, NODE, Node)
    held = await list_all(kube, POD, Pod) if pods else ()
    found = await read_lease(kube, namespace, lease)
    said = read_annotation(found.metadata.annotations)
    return Cluster(
        nodes, classes, kube_nodes, held, found.spec.holder_identity or "", found.spec.renew_time or "", said
    )


def cluster_options(function: F) -> F:
    """`--kubeconfig`, `--lease-namespace`, `--lease-name`: where to read."""
    for option in (
        click.option("--lease-name", default="enitide-operator", show_default=True, help="Name of the Lease."),
        click.option("--lease-namespace", default="kube-system", show_default=True, help="Namespace of the Lease."),
        click.option("--kubeconfig", default=None, help="Cluster to read; default as kubectl."),
    ):
        function = option(function)
    return function


def read(kubeconfig: str | None, lease_namespace: str, lease_name: str, *, pods: bool = False) -> Cluster:
    """The synchronous face for commands."""

    async def reading(kube: KubePort) -> Cluster:
        return await read_cluster(kube, namespace=lease_namespace, lease=lease_name, pods=pods)

    return with_kube(kubeconfig, reading)


def with_kube(kubeconfig: str | None, use: Callable[[KubePort], Awaitable[T]]) -> T:
    """Connect, run, close."""
    from enitide_kube.client import HttpKube  # half a second of imports that `--help` can do without

    async def connected() -> T:
        async with HttpKube.connect(kubeconfig, user_agent="enitide-cli") as kube:
            return await use(kube)

    return asyncio.run(connected())
