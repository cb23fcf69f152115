"""The operator's directory (identities, endpoint batches) on the API store under virtual time, without any EC2.

Nodes, their ENIs and what agents report are written as plain objects; everything between them and the batches is the
operator's own code. Mirrors of pods, Nodes and ENINodes are those that the engine has.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from enitide_api.crds import definitions
from enitide_api.resources import KEYS_BATCH, EndpointBatch, ENINode, IdentityKeys, SecurityIdentity, decode
from enitide_api.settings import OperatorSettings
from enitide_kube.events import EventRecorder
from enitide_kube.objects import decode_node
from enitide_kube.port import (
    CRD,
    ENDPOINTBATCH,
    ENINODE,
    NAMESPACE,
    NETWORKPOLICY,
    NODE,
    POD,
    SECURITYIDENTITY,
)
from enitide_kube.reflector import Reflector
from enitide_lab.apistore.port import StoreKube
from enitide_lab.apistore.store import Store
from enitide_operator.directory import Directory
from enitide_operator.metrics import Metrics
from enitide_operator.pods import decode_slim
from enitide_operator.term import Term
from support.virtual_loop import virtual_loop

API = "enitide.io/v1alpha1"


class World:
    """The API store, and short words to write to it."""

    def __init__(self) -> None:
        loop = virtual_loop()
        self.loop = loop
        self._uids = 0
        self.store = Store(clock=loop.wall, monotonic=loop.time, uid_source=self._uid, rng=Random(1))
        self.kube = StoreKube(self.store, "test")

    def unix(self) -> float:
        """Unix seconds of virtual time."""
        return self.loop.wall().timestamp()

    def _uid(self) -> str:
        self._uids += 1
        return f"00000000-0000-0000-0000-{self._uids:012d}"

    async def install(self) -> None:
        """Our CRDs."""
        for crd in definitions().values():
            await self.kube.create(CRD, crd)

    async def namespace(self, name: str, **labels: str) -> None:
        await self.kube.create(
            NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )

    async def node(
        self, name: str, *, own: str, addresses: tuple[str, ...] = (), prefixes: tuple[str, ...] = ()
    ) -> None:
        """A Node with its ENINode, whose one ENI the operator has published."""
        await self.kube.create(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        body = {
            "apiVersion": API,
            "kind": "ENINode",
            "metadata": {"name": name},
            "spec": {"instance": {"id": f"i-{name}"}},
        }
        await self.kube.create(ENINODE, body)
        eni = {"id": f"eni-{name}", "card": 0, "index": 0, "primary": own, "addresses": list(addresses)}
        status = {"instanceID": f"i-{name}", "interfaces": [eni | {"prefixes": list(prefixes)}]}
        await self.kube.patch(ENINODE, name, {"status": status}, subresource="status")

    async def pod(
        self, name: str, node: str = "", *, namespace: str = "d", labels: dict[str, str] | None = None, **spec: Any
    ) -> str:
        """A pod; its uid."""
        meta = {"name": name, "namespace": namespace, "labels": labels or {}}
        body = {"containers": [{"name": "c", "image": "none"}], **({"nodeName": node} if node else {}), **spec}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body}
        return decode_slim(await self.kube.create(POD, pod, namespace=namespace)).metadata.uid

    async def report(self, node: str, **pods: str) -> None:
        """The agent's spec.endpoints: uid (with _ for -) -> address."""
        await self.claim(node, {uid.removeprefix("u").replace("_", "-"): (address,) for uid, address in pods.items()})

    async def claim(self, node: str, said: dict[str, tuple[str, ...]]) -> None:
        """The agent's spec.endpoints."""
        endpoints = [{"addresses": list(addresses), "podUID": uid} for uid, addresses in said.items()]
        await self.kube.patch(ENINODE, node, {"spec": {"endpoints": endpoints}})

    async def policy(self, name: str, *keys: str, namespace: str = "d") -> None:
        """A NetworkPolicy that names these label keys."""
        labels = dict.fromkeys(keys, "x")
        spec = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"]}
        meta = {"name": name, "namespace": namespace}
        body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
        await self.kube.create(NETWORKPOLICY, body, namespace=namespace)

    def _all(self, kind: Any, struct: Any) -> list[Any]:
        rtype = self.store.type_of(kind)
        page = self.store.list(rtype, self.store.selector(rtype, "", "", ""), limit=0, token="")
        return [decode(stored.raw(rtype), struct) for stored in page.items]

    def identities(self) -> dict[int, SecurityIdentity]:
        """By number; numbers are unique."""
        found = self._all(SECURITYIDENTITY, SecurityIdentity)
        assert len({each.spec.id for each in found}) == len(found)
        return {each.spec.id: each for each in found}

    def store_objects(self, kind: Any) -> list[Any]:
        """SecurityIdentities as they stand, forged ones included."""
        return self._all(kind, SecurityIdentity)

    def batches(self) -> list[EndpointBatch]:
        """Those that hold records."""
        return [each for each in self._all(ENDPOINTBATCH, EndpointBatch) if each.metadata.name != KEYS_BATCH]

    def keys(self) -> IdentityKeys | None:
        """What the operator announces."""
        found = [each for each in self._all(ENDPOINTBATCH, EndpointBatch) if each.metadata.name == KEYS_BATCH]
        return found[0].spec.keys if found else None

    def view(self) -> dict[str, tuple[int, str]]:
        """What every agent believes: address -> (identity, pod uid or node)."""
        best: dict[str, Any] = {}
        for batch in self.batches():
            for each in batch.spec.endpoints:
                for address in each.addresses:
                    if address not in best or best[address].revision < each.revision:
                        best[address] = each
        return {a: (r.identity, r.pod_uid or r.node) for a, r in best.items() if r.identity}

    def writes(self, client: str) -> int:
        """Successful writes of one operator."""
        verbs = ("create", "patch", "delete")
        return sum(
            n
            for (who, verb, _, outcome), n in self.store.requests.items()
            if who == client and verb in verbs and outcome == "ok"
        )


class Operator:
    """One operator's directory with the mirrors that the engine has. `world`: a `store`, and `unix()`."""

    def __init__(self, world: Any, name: str = "op", *, latency_s: float = 0.005, **settings: Any) -> None:
        self.world, self.name = world, name
        self.kube = StoreKube(world.store, name, latency_s=latency_s)
        rng = Random(name)
        self.metrics = Metrics()
        self.events = EventRecorder(self.kube, "enitide.io/operator", name, rng=rng)
        self.directory = Directory(
            self.kube,
            OperatorSettings(**settings),
            metrics=self.metrics,
            events=self.events,
            now=world.unix,
            rng=rng,
            node_count=lambda: len(self.eninodes.store),
            is_fresh=lambda within_s: all(each.is_fresh(within_s) for each in (self.pods, self.eninodes)),
        )
        self.pods: Any = Reflector(self.kube, POD, decode_slim, rng=rng, on_change=self.directory.on_pod)
        self.nodes: Any = Reflector(self.kube, NODE, decode_node, rng=rng, on_change=self.directory.join.on_node)
        self.eninodes: Any = Reflector(
            self.kube, ENINODE, lambda raw: decode(raw, ENINode), rng=rng, on_change=self.directory.on_eninode
        )
        self.term: Term | None = None
        self.tasks = [
            asyncio.get_running_loop().create_task(work)
            for work in (
                self.pods.run(),
                self.nodes.run(),
                self.eninodes.run(),
                self.directory.run(),
                self.events.run(),
            )
        ]

    async def lead(self) -> None:
        """Take office once the mirrors are filled."""
        for mirror in (self.pods, self.nodes, self.eninodes):
            await mirror.synced.wait()
        self.term = Term(lambda: True)
        self.directory.lead(self.term)

    def stop(self) -> None:
        """Dead from now on: nothing of it is sent any more."""
        if self.term is not None:
            self.term.end()
        self.directory.follow()
        for task in self.tasks:
            task.cancel()


async def until(check: Any, within_s: float = 30.0, step_s: float = 0.01) -> float:
    """Virtual seconds until `check()` is true."""
    loop = virtual_loop()
    began = loop.time()
    while loop.time() - began < within_s:
        if check():
            return loop.time() - began
        await asyncio.sleep(step_s)
    raise AssertionError(f"never true within {within_s:g} s")
