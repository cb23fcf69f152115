"""What is wrong with a policy stands in its status: by the leader alone, once, and taken back when it is mended."""

import asyncio

import msgspec
import pytest
from support.directory_sim import Operator, World, until
from support.policy_definitions import definition
from support.virtual_loop import run_virtual

from enitide_kube.port import (
    ADMINNETWORKPOLICY,
    CILIUMCLUSTERWIDENETWORKPOLICY,
    CILIUMNETWORKPOLICY,
    CLUSTERNETWORKPOLICY,
    CRD,
    EVENT,
    NETWORKPOLICY,
)
from enitide_lab.apistore.faults import Fault
from enitide_operator.policybook import ACCEPTED, AGAIN_S

pytestmark = pytest.mark.sim
ALL = {"namespaces": {}}


def admin(name, priority, *rules):
    meta = {"name": name}
    spec = {"priority": priority, "subject": ALL, "ingress": list(rules)}
    return {"apiVersion": ADMINNETWORKPOLICY.api_version, "kind": "AdminNetworkPolicy", "metadata": meta, "spec": spec}


def cilium(name, **sections):
    spec = {"endpointSelector": {}, **sections}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name}, "spec": spec}


FINE = {"action": "Deny", "from": [ALL]}
BROKEN = {"action": "Deny", "from": [{"moons": {}}]}


class Scene:
    """A cluster with these kinds, and an operator that leads."""

    def __init__(self, *kinds, settings=None, **options):
        self.world, self.kinds, self.options = World(), kinds, options
        self.settings = settings or {}

    async def begin(self):
        await self.world.install()
        await self.world.namespace("d")
        for kind in self.kinds:
            await self.world.kube.create(CRD, definition(kind, **self.options))
        self.operator = Operator(self.world, "op", **self.settings)
        await self.operator.lead()

    async def make(self, kind, body):
        await self.world.kube.create(kind, body, namespace="d" if kind.namespaced else "")

    async def conditions(self, kind, name):
        raw = await self.world.kube.get(kind, name, namespace="d" if kind.namespaced else "")
        found = (msgspec.json.decode(raw).get("status") or {}).get("conditions", [])
        return {each["type"]: each for each in found}

    async def said(self, kind, name):
        """Status and reason of ours, once they are written."""
        for _ in range(3000):
            ours = (await self.conditions(kind, name)).get(ACCEPTED)
            if ours is not None:
                return ours["status"], ours["reason"]
            await asyncio.sleep(0.01)
        raise AssertionError("no condition")

    async def events(self, name):
        listed = [msgspec.json.decode(raw) for raw in (await self.world.kube.list(EVENT)).items]
        return [each["reason"] for each in listed if each["regarding"]["name"] == name]

    def writes(self, kind):
        return sum(
            n
            for (who, verb, what, _), n in self.world.store.requests.items()
            if who.startswith("op") and verb == "patch" and what == kind.kind
        )


def play(scene, *kinds, **options):
    async def main():
        stage = Scene(*kinds, **options)
        await stage.begin()
        await scene(stage)
        stage.operator.stop()

    run_virtual(main())


def test_a_policy_says_what_is_wrong_with_it_and_that_it_is_mended():
    async def scene(stage):
        await stage.make(ADMINNETWORKPOLICY, admin("a", 5, FINE, BROKEN))
        assert await stage.said(ADMINNETWORKPOLICY, "a") == ("False", "PolicyUnknownField")
        first = (await stage.conditions(ADMINNETWORKPOLICY, "a"))[ACCEPTED]
        assert "spec.ingress[1].from[0].moons" in first["message"]
        assert first["observedGeneration"] == 1
        await asyncio.sleep(2)
        patch = {"spec": {"ingress": [FINE]}}
        await stage.world.kube.patch(ADMINNETWORKPOLICY, "a", patch)
        await asyncio.sleep(2)
        last = (await stage.conditions(ADMINNETWORKPOLICY, "a"))[ACCEPTED]
        assert (last["status"], last["reason"], last["observedGeneration"]) == ("True", "PolicyAccepted", 2)
        assert last["lastTransitionTime"] > first["lastTransitionTime"]
        assert stage.writes(ADMINNETWORKPOLICY) == 2

    play(scene, ADMINNETWORKPOLICY)


def test_conditions_of_others_stay_as_they_are():
    async def scene(stage):
        await stage.make(ADMINNETWORKPOLICY, admin("a", 5, FINE))
        await stage.said(ADMINNETWORKPOLICY, "a")
        other = {"type": "Ready-In-Zone-a", "status": "True", "reason": "SetupSucceeded", "message": "-"}
        other["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        ours = (await stage.conditions(ADMINNETWORKPOLICY, "a"))[ACCEPTED]
        status = {"status": {"conditions": [other, ours]}}
        await stage.world.kube.patch(ADMINNETWORKPOLICY, "a", status, subresource="status")
        await stage.world.kube.patch(ADMINNETWORKPOLICY, "a", {"spec": {"ingress": [BROKEN]}})
        await asyncio.sleep(2)
        found = await stage.conditions(ADMINNETWORKPOLICY, "a")
        assert found["Ready-In-Zone-a"] == other
        assert found[ACCEPTED]["status"] == "False"

    play(scene, ADMINNETWORKPOLICY)


def test_a_restart_writes_nothing_and_a_condition_somebody_removed_comes_back():
    async def scene(stage):
        for n in range(5):
            await stage.make(CLUSTERNETWORKPOLICY, cluster(f"c{n}", n))
            assert await stage.said(CLUSTERNETWORKPOLICY, f"c{n}") == ("True", "PolicyAccepted")
        before = stage.writes(CLUSTERNETWORKPOLICY)
        assert before == 5
        stage.operator.stop()
        stage.operator = Operator(stage.world, "op2")
        await stage.operator.lead()
        await asyncio.sleep(60)
        assert stage.writes(CLUSTERNETWORKPOLICY) == before
        await stage.world.kube.patch(CLUSTERNETWORKPOLICY, "c0", {"status": {"conditions": []}}, subresource="status")
        await asyncio.sleep(2)
        assert await stage.said(CLUSTERNETWORKPOLICY, "c0") == ("True", "PolicyAccepted")

    play(scene, CLUSTERNETWORKPOLICY)


def cluster(name, priority, tier="Admin"):
    spec = {"tier": tier, "priority": priority, "subject": ALL}
    kind = {"apiVersion": CLUSTERNETWORKPOLICY.api_version, "kind": "ClusterNetworkPolicy"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


def test_a_clash_of_priorities_stands_on_both_and_goes_from_both():
    async def scene(stage):
        await stage.make(CLUSTERNETWORKPOLICY, cluster("c", 5))
        assert await stage.said(CLUSTERNETWORKPOLICY, "c") == ("True", "PolicyAccepted")
        await stage.make(CLUSTERNETWORKPOLICY, cluster("base", 5, "Baseline"))
        await stage.make(ADMINNETWORKPOLICY, admin("a", 5))
        await asyncio.sleep(2)
        found = [(CLUSTERNETWORKPOLICY, "c"), (ADMINNETWORKPOLICY, "a"), (CLUSTERNETWORKPOLICY, "base")]
        said = [await stage.said(*each) for each in found]
        assert said == [("False", "PriorityClash"), ("False", "PriorityClash"), ("True", "PolicyAccepted")]
        message = (await stage.conditions(CLUSTERNETWORKPOLICY, "c"))[ACCEPTED]["message"]
        assert "AdminNetworkPolicy/a" in message
        assert (await stage.events("a"), await stage.events("c")) == (["PriorityClash"], ["PriorityClash"])
        await stage.world.kube.delete(ADMINNETWORKPOLICY, "a")
        await asyncio.sleep(2)
        assert await stage.said(CLUSTERNETWORKPOLICY, "c") == ("True", "PolicyAccepted")

    play(scene, CLUSTERNETWORKPOLICY, ADMINNETWORKPOLICY)


def test_cilium_policies_have_the_condition_in_their_shorter_form():
    async def scene(stage):
        await stage.make(CILIUMNETWORKPOLICY, cilium("c", egress=[{"toFQDNs": [{"matchName": "a.b"}]}]))
        assert await stage.said(CILIUMNETWORKPOLICY, "c") == ("False", "PolicyUnsupported")
        assert "observedGeneration" not in (await stage.conditions(CILIUMNETWORKPOLICY, "c"))[ACCEPTED]

    play(scene, CILIUMNETWORKPOLICY)


@pytest.mark.parametrize("options", [{"has_conditions": False}, {"has_status": False}])
def test_a_definition_that_keeps_no_conditions_is_asked_seldom(options):
    async def scene(stage):
        for n in range(3):
            await stage.make(CILIUMNETWORKPOLICY, cilium(f"c{n}"))
        await asyncio.sleep(AGAIN_S / 2)
        assert stage.writes(CILIUMNETWORKPOLICY) <= 3

    play(scene, CILIUMNETWORKPOLICY, **options)


def test_without_the_right_to_write_it_is_asked_seldom_and_events_are_told():
    async def scene(stage):
        stage.world.store.faults.add(
            Fault(kind="AdminNetworkPolicy", verbs=frozenset({"patch"}), code=403, times=None, client="op")
        )
        for n in range(20):
            await stage.make(ADMINNETWORKPOLICY, admin(f"a{n}", n, BROKEN))
        await asyncio.sleep(AGAIN_S / 2)
        assert stage.writes(ADMINNETWORKPOLICY) == 1
        assert await stage.events("a7") == ["PolicyUnknownField"]
        stage.world.store.faults.clear()
        await until(lambda: stage.writes(ADMINNETWORKPOLICY) >= 21, 2 * AGAIN_S)

    play(scene, ADMINNETWORKPOLICY)


def test_many_policies_are_written_no_faster_than_the_pace():
    async def scene(stage):
        for n in range(200):
            await stage.make(ADMINNETWORKPOLICY, admin(f"a{n}", n))
        await asyncio.sleep(5)
        first = stage.writes(ADMINNETWORKPOLICY)
        assert first <= 130
        await until(lambda: stage.writes(ADMINNETWORKPOLICY) == 200)
        await asyncio.sleep(60)
        assert stage.writes(ADMINNETWORKPOLICY) == 200

    play(scene, ADMINNETWORKPOLICY)


def test_a_network_policy_has_no_conditions_and_keeps_its_event():
    async def scene(stage):
        spec = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}
        body = {"apiVersion": NETWORKPOLICY.api_version, "kind": "NetworkPolicy", "metadata": {"name": "n"}}
        await stage.make(NETWORKPOLICY, {**body, "spec": spec})
        await asyncio.sleep(5)
        assert stage.writes(NETWORKPOLICY) == 0
        assert await stage.events("n") == ["PolicyInvalid"]

    play(scene)


@pytest.mark.parametrize(
    ("host_policy", "said"), [(False, ("False", "PolicyUnsupported")), (True, ("True", "PolicyAccepted"))]
)
def test_a_policy_of_nodes_is_accepted_where_host_policy_is_set(host_policy, said):
    async def scene(stage):
        kind = CILIUMCLUSTERWIDENETWORKPOLICY
        spec = {"nodeSelector": {}, "ingress": [{}]}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "nodes"}, "spec": spec}
        await stage.make(kind, body)
        assert await stage.said(kind, "nodes") == said

    play(scene, CILIUMCLUSTERWIDENETWORKPOLICY, settings={"host_policy": host_policy})
