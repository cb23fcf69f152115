"""The condition that the operator writes on policies: API servers take it, keep others', and refuse a stale one."""

import asyncio
from contextlib import suppress
from random import Random

import pytest
from support.kube_contract import create_crd, decoded, until
from support.policy_definitions import definition

from enitide_api.errors import KubeConflict, KubeExists
from enitide_kube.events import EventRecorder
from enitide_kube.port import ADMINNETWORKPOLICY, CILIUMCLUSTERWIDENETWORKPOLICY
from enitide_kube.reflector import Reflector
from enitide_operator.metrics import Metrics
from enitide_operator.policybook import ACCEPTED, PolicyBook
from enitide_operator.policykeys import policy_decoder
from enitide_operator.term import Term

pytestmark = pytest.mark.kube
OTHER = {
    "type": "Ready-In-Zone-a",
    "status": "True",
    "reason": "SetupSucceeded",
    "message": "-",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


@pytest.fixture(params=[ADMINNETWORKPOLICY, CILIUMCLUSTERWIDENETWORKPOLICY], ids=lambda kind: kind.kind)
async def kind(kube, request):
    """A kind whose definition is there."""
    with suppress(KubeExists):
        await create_crd(kube, definition(request.param))
    return request.param


def policy(kind, name, *, broken):
    if kind == ADMINNETWORKPOLICY:
        peer = {"moons": {}} if broken else {"namespaces": {}}
        spec = {"priority": 5, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [peer]}]}
    else:
        spec = {"endpointSelector": {}, "ingress": [{"fromMoons" if broken else "fromEntities": ["all"]}]}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


async def conditions(kube, kind, name):
    listed = (decoded(await kube.get(kind, name)).get("status") or {}).get("conditions", [])
    return {each["type"]: each for each in listed}


@pytest.fixture
async def book(kube, kind):
    """A leader's book, fed by a watch."""
    rng = Random(1)
    events = EventRecorder(kube, "enitide.io/operator", "test", rng=rng)
    book = PolicyBook(kube, rng, events, Metrics(), now=lambda: 1_800_000_000.0, is_leading=lambda: True)
    mirror = Reflector(
        kube, kind, policy_decoder(kind), rng=rng, on_change=lambda _key, old, new: book.on_policy(kind, old, new)
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(mirror.run()), group.create_task(book.run(Term(lambda: True)))]
        yield book
        for task in tasks:
            task.cancel()


async def until_said(kube, kind, name, status):
    async def found():
        now = await conditions(kube, kind, name)
        return now if now.get(ACCEPTED, {}).get("status") == status else None

    return await until(found, f"{kind.kind} {name} does not say {status}")


async def test_the_condition_is_taken_turns_and_leaves_those_of_others(kube, kind, book, name, cleanup):
    await kube.create(kind, policy(kind, name, broken=True))
    cleanup(kind, name)
    found = await until_said(kube, kind, name, "False")
    assert found[ACCEPTED]["reason"] == "PolicyUnknownField"
    await kube.patch(kind, name, {"status": {"conditions": [OTHER, found[ACCEPTED]]}}, subresource="status")
    fixed = policy(kind, name, broken=False)["spec"]
    await kube.patch(kind, name, [{"op": "replace", "path": "/spec", "value": fixed}])
    found = await until_said(kube, kind, name, "True")
    assert found["Ready-In-Zone-a"] == OTHER
    assert found[ACCEPTED]["reason"] == "PolicyAccepted"


async def test_a_status_that_somebody_changed_meanwhile_is_not_overwritten(kube, kind, name, cleanup):
    seen = decoded(await kube.create(kind, policy(kind, name, broken=False)))["metadata"]["resourceVersion"]
    cleanup(kind, name)
    await kube.patch(kind, name, {"status": {"conditions": [OTHER]}}, subresource="status")
    patch = {"metadata": {"resourceVersion": seen}, "status": {"conditions": []}}
    with pytest.raises(KubeConflict):
        await kube.patch(kind, name, patch, subresource="status")
