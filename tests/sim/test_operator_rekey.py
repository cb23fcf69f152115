"""A new key, the real operator, and agents whose watches lag: nothing opens at any moment, and in the end it holds."""

import asyncio
from ipaddress import ip_address
from random import Random

import pytest
from support.directory_sim import Operator, World, until
from support.policy_kernel import RecordingKernel
from support.virtual_loop import run_virtual

from enitide_enidp.policy.objects import decode_namespace, policy_decoder
from enitide_enidp.policy.own import decode_identity
from enitide_enidp.policy.remote import Packer
from enitide_enidp.policy.state import PolicyState
from enitide_kube.port import (
    CILIUMNETWORKPOLICY,
    CRD,
    ENDPOINTBATCH,
    NAMESPACE,
    NETWORKPOLICY,
    SECURITYIDENTITY,
    SERVICE,
)
from enitide_kube.reflector import Reflector
from enitide_lab.apistore.faults import Fault
from enitide_lab.apistore.port import StoreKube
from enitide_policy.labels import PodFacts
from enitide_policy.relevance_book import HOLD_S

pytestmark = pytest.mark.sim

OWN, PEER, FRIEND = "10.0.1.1", "10.0.2.1", "10.0.2.2"


class Agent:
    """The policy state of an agent, whose every callback comes late: by kind, and in order within a kind."""

    def __init__(self, world, seed):
        self.kernel = RecordingKernel()
        self.state = PolicyState(self.kernel, world.loop.time)
        self.reached = set()
        self._loop, self._rng = world.loop, Random(seed)
        self._ready, self._lag, self.most = {}, {}, 0.0
        packer, kube = Packer("own"), StoreKube(world.store, "agent")
        state = self.state
        kinds = (
            (NAMESPACE, decode_namespace, lambda _k, _o, n: state.own.set_namespace(n.metadata.name, {})),
            (NETWORKPOLICY, policy_decoder(NETWORKPOLICY), self._policy),
            (SECURITYIDENTITY, decode_identity, state.identities.on_object),
            (ENDPOINTBATCH, packer.decode, state.remote.on_batch),
        )
        self.tasks = [
            asyncio.get_running_loop().create_task(
                Reflector(kube, kind, decode, rng=self._rng, on_change=self._later(kind, told)).run()
            )
            for kind, decode, told in kinds
        ]

    def _policy(self, _key, old, new):
        self.state.policies.put((new or old).ref, new.policies if new else ())

    def _later(self, kind, told):
        def on_change(key, old, new):
            at = max(self._ready.get(kind, 0.0), self._loop.time() + self._rng.uniform(0.0, self.most))
            self._ready[kind] = at
            self._loop.call_at(at, self._hear, told, key, old, new)

        return on_change

    def _hear(self, told, key, old, new):
        told(key, old, new)
        self.state.look_at_all()
        if self.state.synced and self._rng.random() < 0.7:
            self.flush()

    def flush(self):
        self.state.flush()
        if 7 in self.kernel.endpoints:
            self.reached |= {each for each in (PEER, FRIEND) if self.can_reach(each)}

    def can_reach(self, address):
        return self.kernel.allows(7, self.kernel.identities.get(ip_address(address), 0))

    def stop(self):
        for each in self.tasks:
            each.cancel()


async def cluster(world):
    """Two nodes, a pod on one, and a peer of tier prod and a friend without a tier on the other."""
    await world.install()
    await world.namespace("d")
    await world.node("own", own="10.0.0.1", prefixes=("10.0.1.0/28",))
    await world.node("other", own="10.0.0.2", prefixes=("10.0.2.0/28",))
    uid = await world.pod("web", "own", labels={"app": "web"})
    peer = await world.pod("peer", "other", labels={"app": "client", "tier": "prod"})
    friend = await world.pod("friend", "other", labels={"app": "client"})
    await world.claim("own", {uid: (OWN,)})
    await world.claim("other", {peer: (PEER,), friend: (FRIEND,)})
    return uid


async def edit(world, name, *peers):
    """A NetworkPolicy of web pods, made or deleted."""
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}
    spec["ingress"] = [{"from": [{"podSelector": each}]} for each in peers]
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec}
    await world.kube.create(NETWORKPOLICY, body | {"metadata": {"name": name, "namespace": "d"}}, namespace="d")


NOT_PROD = {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["prod"]}]}


@pytest.mark.parametrize("seed", range(12))
def test_a_policy_with_a_new_key_lets_in_who_fits_and_never_who_does_not(seed):
    async def main():
        world = World()
        uid = await cluster(world)
        await edit(world, "base")
        operator = Operator(world)
        await operator.lead()
        agent = Agent(world, seed)
        await until(lambda: len(world.view()) == 5 and world.keys() is not None)
        await asyncio.sleep(1)
        agent.state.sync()
        agent.state.own.put(uid, PodFacts("d", labels=(("app", "web"),)))
        agent.state.attach("c/eth0", uid, 7, [ip_address(OWN)])
        assert agent.kernel.endpoints[7].ruleset
        agent.most = 3.0
        await edit(world, "p", NOT_PROD)
        await until(lambda: "tier" in world.keys().pod_labels)
        await asyncio.sleep(20)
        agent.flush()
        assert agent.reached == {FRIEND}
        await world.kube.delete(NETWORKPOLICY, "p", namespace="d")
        await asyncio.sleep(HOLD_S - 1)
        agent.flush()
        agent.reached.clear()
        await asyncio.sleep(Random(seed).uniform(0.0, 2.5))
        await edit(world, "again", NOT_PROD)
        await asyncio.sleep(20)
        agent.flush()
        assert agent.reached == {FRIEND}
        assert agent.state.policies.held == ()
        agent.stop()
        operator.stop()

    run_virtual(main())


def test_keys_are_announced_after_the_last_record_that_they_are_about():
    async def main():
        world = World()
        await cluster(world)
        operator = Operator(world, "op")
        await operator.lead()
        await until(lambda: world.keys() is not None)
        slow = Fault(kind="SecurityIdentity", verbs=frozenset({"create"}), delay_s=4.0, times=None, client="op")
        world.store.faults.add(slow)
        old = world.view()[PEER]
        await world.policy("p", "tier")
        seen = set()
        for _ in range(1000):
            await asyncio.sleep(0.01)
            seen.add(("tier" in world.keys().pod_labels, world.view()[PEER] == old))
        assert seen == {(False, True), (False, False), (True, False)}
        operator.stop()

    run_virtual(main())


def test_keys_are_taken_back_before_the_first_record_without_them():
    async def main():
        world = World()
        await cluster(world)
        await world.policy("p", "tier")
        operator = Operator(world, "op")
        await operator.lead()
        await until(lambda: world.keys() is not None and "tier" in world.keys().pod_labels)
        cut = world.view()[PEER]
        await world.kube.delete(NETWORKPOLICY, "p", namespace="d")
        await asyncio.sleep(HOLD_S - 5)
        assert "tier" in world.keys().pod_labels
        slow = Fault(kind="EndpointBatch", verbs=frozenset({"patch"}), delay_s=1.0, times=None, client="op")
        world.store.faults.add(slow)
        seen = set()
        for _ in range(2000):
            await asyncio.sleep(0.01)
            seen.add(("tier" in world.keys().pod_labels, world.view()[PEER] == cut))
        assert seen == {(True, True), (False, True), (False, False)}
        operator.stop()

    run_virtual(main())


def test_a_leader_that_knows_of_fewer_keys_takes_them_back_first():
    """The last one remembered a key that nobody names any more; this one has never heard of it."""

    async def main():
        world = World()
        await cluster(world)
        await world.policy("p", "tier")
        first = Operator(world, "first")
        await first.lead()
        await until(lambda: world.keys() is not None and "tier" in world.keys().pod_labels)
        cut = world.view()[PEER]
        first.stop()
        await world.kube.delete(NETWORKPOLICY, "p", namespace="d")
        second = Operator(world, "second")
        await second.lead()
        seen = set()
        for _ in range(1000):
            await asyncio.sleep(0.01)
            seen.add(("tier" in world.keys().pod_labels, world.view()[PEER] == cut))
        assert seen == {(True, True), (False, True), (False, False)}
        second.stop()

    run_virtual(main())


ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


async def define_cilium(world):
    kind = CILIUMNETWORKPOLICY
    names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower(), "listKind": f"{kind.kind}List"}
    version = {"name": kind.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": ANYTHING}}
    spec = {"group": kind.group, "scope": "Namespaced", "names": names, "versions": [version]}
    meta = {"name": f"{kind.plural}.{kind.group}"}
    await world.kube.create(CRD, {"apiVersion": CRD.api_version, "kind": CRD.kind, "metadata": meta, "spec": spec})


def test_the_keys_by_which_a_service_selects_are_announced_once_a_policy_names_it():
    async def main():
        world = World()
        await cluster(world)
        await define_cilium(world)
        selects = {"selector": {"tier": "prod"}, "ports": [{"port": 80}]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": selects}
        await world.kube.create(SERVICE, body, namespace="d")
        operator = Operator(world, "op")
        await operator.lead()
        await until(lambda: world.keys() is not None)
        await asyncio.sleep(5)
        assert "tier" not in (world.keys().pod_labels or ())
        assert not [each for each in world.store.requests if each[0] == "op" and each[2] == "Service"]
        named = [{"toServices": [{"k8sService": {"serviceName": "db"}}]}]
        policy = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "c"}}
        policy["spec"] = {"endpointSelector": {}, "egressDeny": named}
        await world.kube.create(CILIUMNETWORKPOLICY, policy, namespace="d")
        await until(lambda: "tier" in world.keys().pod_labels)
        assert {each.spec.pod_labels.get("tier") for each in world.identities().values()} == {None, "prod"}
        patch = {"spec": {"selector": {"tier": None, "app": "web"}}}
        await world.kube.patch(SERVICE, "db", patch, namespace="d")
        await until(lambda: "app" in world.keys().pod_labels)
        await asyncio.sleep(HOLD_S + 5)
        assert set(world.keys().pod_labels) == {"app"}
        operator.stop()

    run_virtual(main())


def test_an_operator_that_may_not_read_services_cuts_identities_to_the_other_keys_all_the_same():
    async def main():
        world = World()
        await cluster(world)
        await define_cilium(world)
        world.store.faults.add(
            Fault(kind="Service", verbs=frozenset({"list", "watch"}), code=403, times=None, client="op")
        )
        named = [{"toServices": [{"k8sService": {"serviceName": "db"}}]}]
        policy = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "c"}}
        policy["spec"] = {"endpointSelector": {"matchLabels": {"app": "web"}}, "egressDeny": named}
        await world.kube.create(CILIUMNETWORKPOLICY, policy, namespace="d")
        operator = Operator(world, "op")
        await operator.lead()
        await until(lambda: world.keys() is not None and "app" in world.keys().pod_labels)
        operator.stop()

    run_virtual(main())
