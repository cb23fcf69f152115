"""Whole operators on the strict EC2 and the API store, in one process under virtual time: hours in seconds.

An operator is the simulator's, and may be made to die at any of its calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from enitide_api.crds import definitions
from enitide_api.resources import ENINode, decode
from enitide_api.settings import OperatorSettings
from enitide_kube.port import CRD, ENICLASS, ENINODE, NODE, POD
from enitide_lab.apistore.port import StoreKube
from enitide_lab.apistore.store import Store
from enitide_lab.ec2model import EC2Model, Physics
from enitide_lab.ec2model.types import NetworkInterface
from enitide_lab.simulate.operator import OperatorProcess
from enitide_operator.ec2.port import Verb
from support.model_ec2 import ModelEc2
from support.virtual_loop import virtual_loop

ZONE = "us-west-2a"
WRITE = "PATCH"


class NeverHappened(AssertionError):
    """A condition did not come true within its bound of virtual time."""


class SimOperator(OperatorProcess):
    """One operator. `crash_at` counts its mutating calls and status writes: (number, before or after)."""

    def __init__(self, scene: Scene, name: str, settings: OperatorSettings, crash_at: tuple[int, str] | None) -> None:
        self.crash_at = crash_at
        self.events: list[str] = []
        self.crashed = asyncio.Event()
        self._scene = scene
        super().__init__(
            scene.kube_of(name),
            ModelEc2(scene.model, scene.physics, name, self._on_event),
            settings,
            Random(name),
            name=name,
            on_status_write=lambda: self._on_event(WRITE),
        )

    def _on_event(self, verb: Verb | str) -> Callable[[], None]:
        self.events.append(str(verb))
        number = len(self.events)

        def at(moment: str) -> None:
            self._scene.on_event(self.name, str(verb), moment)
            if self.crash_at == (number, moment) and not self.crashed.is_set():
                self.crash()
            if self.crashed.is_set():
                raise asyncio.CancelledError

        at("before")
        return lambda: at("after")

    def crash(self) -> None:
        """Dead from now on."""
        self.crashed.set()
        super().crash()


class Scene:
    """A VPC with one subnet, the CRDs, the class `default`, and whatever operators a test starts."""

    model_type = EC2Model

    def __init__(self, *, subnet_cidr: str = "10.0.0.0/20", ipv6: bool = False, latency_s: float = 0.2) -> None:
        loop = virtual_loop()
        self.loop = loop
        self._uids = 0
        self.store = Store(clock=loop.wall, monotonic=loop.time, uid_source=self._uid, rng=Random(1))
        self.model = self.model_type(loop.time)
        self.physics = Physics(loop.time, latency_s=latency_s)
        self.kube = StoreKube(self.store, "test")
        self.vpc = self.model.create_vpc(("10.0.0.0/16",), ipv6_cidrs=("2600:1f00::/56",) if ipv6 else ()).id
        subnet_ipv6 = "2600:1f00::/64" if ipv6 else None
        self.subnet = self.model.create_subnet(self.vpc, subnet_cidr, ZONE, ipv6_cidr=subnet_ipv6).id
        self.group = self.model.create_security_group(self.vpc, "nodes").id
        self.instances: dict[str, str] = {}
        # operator, verb and "before" or "after", of each mutating call and status write
        self.on_event: Callable[[str, str, str], None] = lambda _operator, _verb, _moment: None

    def kube_of(self, client: str) -> StoreKube:
        """The API server as a program of that name meets it."""
        return StoreKube(self.store, client, latency_s=0.005)

    def unix(self) -> float:
        """Unix seconds of virtual time."""
        return self.loop.unix()

    def _uid(self) -> str:
        self._uids += 1
        return f"00000000-0000-0000-0000-{self._uids:012d}"

    async def install(self, **class_spec: Any) -> None:
        """CRDs and the class `default`."""
        for crd in definitions().values():
            await self.kube.create(CRD, crd)
        await self.eniclass("default", **class_spec)

    async def eniclass(self, name: str, **spec: Any) -> None:
        """A class."""
        body = {"apiVersion": "enitide.io/v1alpha1", "kind": "ENIClass", "metadata": {"name": name}, "spec": spec}
        await self.kube.create(ENICLASS, body)

    async def set_class(self, name: str = "default", **spec: Any) -> None:
        """Changes a class: a merge patch of its spec."""
        await self.kube.patch(ENICLASS, name, {"spec": spec})

    def operator(self, name: str = "op-1", *, crash_at: tuple[int, str] | None = None, **settings: Any) -> SimOperator:
        """Start one."""
        return SimOperator(self, name, OperatorSettings(**({"cluster_name": "sim"} | settings)), crash_at)

    async def node(
        self, name: str, instance_type: str = "m5.large", *, provider: str = "", labels: dict[str, str] | None = None
    ) -> str:
        """Instance, Node and ENINode; the instance's id."""
        instance = self.model.run_instances(instance_type, self.subnet, groups=(self.group,))[0].id
        self.instances[name] = instance
        provider_id = provider or f"aws:///{ZONE}/{instance}"
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}}
        await self.kube.create(NODE, node | {"spec": {"providerID": provider_id}})
        facts = {
            "id": instance,
            "type": instance_type,
            "availabilityZone": ZONE,
            "vpcID": self.vpc,
            "subnetID": self.subnet,
        }
        spec = {"instance": facts, "demand": {"inUse": 0, "cooling": 0, "waiting": 0}}
        body = {"apiVersion": "enitide.io/v1alpha1", "kind": "ENINode", "metadata": {"name": name}, "spec": spec}
        await self.kube.create(ENINODE, body)
        return instance

    async def replace_node(self, name: str, instance: str) -> None:
        """The Node is deleted and made anew for another instance: a providerID never changes."""
        await self.kube.delete(NODE, name)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await self.kube.create(NODE, node | {"spec": {"providerID": f"aws:///{ZONE}/{instance}"}})

    async def pods(self, node: str, count: int, prefix: str = "p") -> None:
        """Pods bound to the node."""
        for number in range(count):
            metadata = {"name": f"{prefix}-{node}-{number}", "namespace": "default"}
            spec = {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            await self.kube.create(POD, pod, namespace="default")

    async def spec(self, node: str, **parts: Any) -> None:
        """What the agent writes."""
        await self.kube.patch(ENINODE, node, {"spec": parts})

    async def eninode(self, name: str) -> ENINode:
        """The resource now."""
        return decode(await self.kube.get(ENINODE, name), ENINode)

    def attached(self, node: str) -> tuple[NetworkInterface, ...]:
        """What EC2 has on the node's instance."""
        page = self.model.describe_network_interfaces(filters={"attachment.instance-id": (self.instances[node],)})
        return page.items

    def detached(self) -> tuple[NetworkInterface, ...]:
        """ENIs that hang on nothing."""
        return self.model.describe_network_interfaces(filters={"status": ("available",)}).items

    def calls(self, verb: str, outcome: str = "ok") -> int:
        """How often a call ended so."""
        return self.physics.counts[verb, outcome]

    def mutations(self) -> int:
        """Mutating calls that took effect."""
        reads = ("Describe", "Get")
        counts = self.physics.counts.items()
        return sum(n for (verb, outcome), n in counts if outcome == "ok" and not verb.startswith(reads))

    async def until(self, check: Callable[[], Awaitable[Any]], what: str, within_s: float = 60.0) -> float:
        """Virtual seconds until `check` is true."""
        began = self.loop.time()
        while self.loop.time() - began < within_s:
            if await check():
                return self.loop.time() - began
            await asyncio.sleep(0.1)
        raise NeverHappened(f"{what} within {within_s:g} s; " + await self.told())

    async def told(self) -> str:
        """What the nodes say, for a failing test."""
        said = []
        for name in self.instances:
            status = (await self.eninode(name)).status
            ready = next((c for c in status.conditions if c.type == "Ready"), None)
            said.append(f"{name}: {status.capacity} {ready.reason if ready else '-'} {ready.message if ready else ''}")
        return "; ".join(said)

    async def provisioned(self, node: str) -> int:
        """As published."""
        return (await self.eninode(node)).status.capacity.provisioned

    async def ready_reason(self, node: str) -> str:
        """Reason of the condition Ready, '' while there is none."""
        conditions = (await self.eninode(node)).status.conditions
        return next((each.reason for each in conditions if each.type == "Ready"), "")

    async def check_sound(self) -> None:
        """EC2 holds exactly what is published; nothing detached, doubled or left over."""
        seen: set[str] = set()
        for name in self.instances:
            status = (await self.eninode(name)).status
            published = {each.id: (set(each.addresses), set(each.prefixes)) for each in status.interfaces}
            in_ec2 = {each.id: (set(each.addresses[1:]), set(each.prefixes)) for each in self.attached(name)}
            assert published == in_ec2, f"{name}: published {published}, EC2 has {in_ec2}"
            assert not status.pending
            assert not status.releasing
            for addresses, prefixes in published.values():
                assert not seen & (addresses | prefixes)
                seen |= addresses | prefixes
        assert not self.detached()
