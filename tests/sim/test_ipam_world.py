"""Operator decisions and the real pool against a small EC2, under random faults: nothing is lost, doubled or flaps.

Everything is the real code but EC2, the API server and the clock, each a few lines here. A seed gives the same run.
"""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest
from support.ipam_facts import GROUPS, SETTINGS, eni, eni_class, node, shape, subnet

from enitide_api.resources import ENINodeSpec, ENINodeStatus, InstanceFacts, PoolLevels
from enitide_ipam import handover, tide
from enitide_ipam.addresses import expand, parse, text
from enitide_ipam.model import (
    AssignAddresses,
    AssignPrefixes,
    AttachInterface,
    Attachment,
    CreateInterface,
    DeleteInterface,
    EniView,
    FinishOrUndoPending,
    NodeSnapshot,
)
from enitide_ipam.plan import debits, node_tide, plan_node
from enitide_ipam.pool import Grant, PodRef, Pool
from enitide_ipam.records import decode, encode
from enitide_ipam.saga import SagaState, StepKind, intent_of, next_step
from enitide_ipam.stamps import stamp
from enitide_ipam.status import wanted_status

pytestmark = pytest.mark.sim

EPOCH = 1_800_000_000.0
LIMITS = shape((3,), 6)
INSTANCE = InstanceFacts(id="i-1", type="test.type", availability_zone="us-west-1a", vpc_id="vpc-1", subnet_id="s-1")


class Ec2:
    """One subnet of a /24; gives the lowest free address or block, so that what was given back comes again soon."""

    def __init__(self) -> None:
        self.enis: dict[str, EniView] = {"eni-0": eni("eni-0", primary="10.0.0.4")}

    def taken(self) -> set[int]:
        used = {address for each in self.enis.values() for cidr in (*each.addresses, *each.prefixes)
                for address in expand(cidr)}  # fmt: skip
        return used | {parse(each.primary) for each in self.enis.values()}

    def free(self) -> list[int]:
        taken = self.taken()
        return [address for address in range(parse("10.0.0.16"), parse("10.0.0.255")) if address not in taken]

    def blocks(self) -> list[str]:
        taken = self.taken()
        bases = range(parse("10.0.0.16"), parse("10.0.0.240"), 16)
        return [f"{text(base)}/28" for base in bases if not taken & set(range(base, base + 16))]

    def singles(self, count: int) -> tuple[str, ...]:
        return tuple(text(each) for each in self.free()[:count])

    def assign(self, eni_id: str, count: int, *, prefixes: bool) -> None:
        view = self.enis[eni_id]
        if prefixes:
            view = replace(view, prefixes=(*view.prefixes, *self.blocks()[:count]))
        else:
            view = replace(view, addresses=(*view.addresses, *self.singles(count)))
        assert len(view.addresses) + len(view.prefixes) < LIMITS.ipv4_per_interface
        self.enis[eni_id] = view

    def create(self, order: CreateInterface) -> None:
        if any(each.token == order.token for each in self.enis.values()):
            return
        name = f"eni-{order.token[-6:]}"
        primary = text(self.free()[-1])
        view = eni(name, index=order.index, primary=primary, tags=order.tags, attachment=Attachment.DETACHED,
                   instance_id="", attachment_id="")  # fmt: skip
        self.enis[name] = view
        self.assign(name, order.prefixes or order.addresses, prefixes=order.prefixes > 0)

    def attach(self, order: AttachInterface) -> None:
        places = {each.index for each in self.enis.values() if each.attachment is Attachment.ATTACHED}
        assert order.index not in places
        self.enis[order.eni_id] = replace(
            self.enis[order.eni_id], attachment=Attachment.ATTACHED, index=order.index, instance_id="i-1",
            attachment_id="a", delete_on_termination=True,
        )  # fmt: skip

    def unassign(self, eni_id: str, cidrs: tuple[str, ...]) -> None:
        view = self.enis[eni_id]
        self.enis[eni_id] = replace(
            view,
            addresses=tuple(each for each in view.addresses if each not in cidrs),
            prefixes=tuple(each for each in view.prefixes if each not in cidrs),
        )


class World:
    """The object with its version, EC2, one operator without memory of its own, the agent with its journal."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.ec2 = Ec2()
        self.spec, self.status, self.version = ENINodeSpec(instance=INSTANCE), ENINodeStatus(), 1
        self.class_ = eni_class(
            pool=PoolLevels(pre_allocate=self.rng.randint(0, 3), max_above_watermark=self.rng.randint(0, 3),
                            max_allocate=self.rng.choice([None, None, 9])),
            prefixes=self.rng.random() < 0.5,
            use_primary_address=self.rng.random() < 0.3,
        )  # fmt: skip
        self.excess_since: float | None = None
        self.orders: dict[str, CreateInterface] = {}
        self.calls = 0
        self.journal: list[bytes] = []
        self.pool = Pool("i-1")
        self.pods: dict[str, str] = {}
        self.born = 0
        self.steps = 0

    # --- operator ---

    def snapshot(self) -> NodeSnapshot:
        enis = tuple(self.ec2.enis.values())
        releasing = handover.still_releasing(self.status.releasing, enis, asked_at=self.now, accepted_at=0.0)
        return node(
            *enis, instance=INSTANCE, limits=LIMITS, class_=self.class_, demand=self.spec.demand, bound=len(self.pods),
            enis_asked_at=self.now, pending=self.status.pending, yielded=self.spec.yielded, releasing=releasing,
            published=self.status, version=str(self.version), excess_since=self.excess_since,
        )  # fmt: skip

    def subnet(self):
        return subnet(free=len(self.ec2.free()), whole=len(self.ec2.blocks()), cidr="10.0.0.0/24")

    def operate(self, *, faults: bool) -> bool:
        """One pass; whether anything was done. With faults, calls may be refused, and the write may be in vain."""
        snapshot, view = self.snapshot(), self.subnet()
        plan = plan_node(snapshot, [view], GROUPS, SETTINGS, EPOCH + self.now)
        taken = debits(plan).get("s-1", (0, 0))
        assert taken[0] <= view.free
        state = node_tide(snapshot, LIMITS, [view])
        before = state.capacity.provisioned
        self.excess_since = handover.excess_since(state.marks, before, self.excess_since, EPOCH + self.now)
        reclaim = handover.reclaim(
            state.marks, before, self.class_.release, current=self.status.reclaim, since=self.excess_since,
            now=EPOCH + self.now,
        )  # fmt: skip
        creates = [each for each in plan.actions if isinstance(each, CreateInterface)]
        pending = (*snapshot.pending, *(intent_of(each, stamp(EPOCH + self.now)) for each in creates))
        wanted = wanted_status(
            replace(snapshot, pending=pending), [view], state, plan, reclaim=reclaim, vpc_cidrs=(),
            report_interval_s=30.0, agent_silent=False, now=EPOCH + self.now,
        )  # fmt: skip
        in_use = [address for record in self.spec.endpoints for address in record.addresses]
        move = handover.accept(wanted, self.spec.yielded, wanted.reclaim, in_use)
        if move is not None:
            wanted = msgspec.structs.replace(
                wanted, interfaces=move.interfaces, releasing=move.releasing, reclaim=move.reclaim
            )
        changed = wanted != self.status
        if not (faults and self.rng.random() < 0.2):
            self.write_status(wanted)
            self.orders |= {each.token: each for each in creates}
        done = [self.act(each) for each in plan.actions if not (faults and self.rng.random() < 0.2)]
        for call in handover.unassign(self.status.releasing, self.ec2.enis.values()):
            if not (faults and self.rng.random() < 0.3):
                self.ec2.unassign(call.eni_id, (*call.addresses, *call.prefixes))
                self.calls += 1
                done.append(True)
        return changed or any(done)

    def write_status(self, wanted: ENINodeStatus) -> None:
        if wanted != self.status:
            self.status = wanted
            self.version += 1

    def act(self, action: object) -> bool:
        if isinstance(action, AssignAddresses | AssignPrefixes):
            self.ec2.assign(action.eni_id, action.count, prefixes=isinstance(action, AssignPrefixes))
        elif isinstance(action, FinishOrUndoPending):
            return self.saga(action)
        else:
            return False
        self.calls += 1
        return True

    def saga(self, action: FinishOrUndoPending) -> bool:
        intent = action.intent
        order = self.orders.get(intent.token) if self.rng.random() < 0.8 else None  # else: as after a restart
        looked = EPOCH + self.now
        step = next_step(SagaState(intent, order, looked_at=looked), self.snapshot(), SETTINGS, looked)
        if step.kind is StepKind.FINISHED:
            left = tuple(each for each in self.status.pending if each.token != intent.token)
            self.write_status(msgspec.structs.replace(self.status, pending=left))
            return True
        if isinstance(step.action, CreateInterface):
            self.ec2.create(step.action)
        elif isinstance(step.action, AttachInterface):
            self.ec2.attach(step.action)
        elif isinstance(step.action, DeleteInterface):
            del self.ec2.enis[step.action.eni_id]
        self.calls += step.action is not None
        return True

    # --- agent ---

    def keep(self, records: object) -> None:
        assert isinstance(records, tuple)
        self.journal += [encode(each) for each in records]

    def observe(self) -> bool:
        before = len(self.journal)
        self.keep(self.pool.apply_status(self.status, str(self.version), self.now, listed=self.spec.yielded))
        self.keep(self.pool.answer_reclaim())
        self.pool.set_ready([each.id for each in self.pool.interfaces()])
        return len(self.journal) > before

    def report(self, *, lost: bool = False) -> bool:
        """The write rests on the version last observed; `lost`: it is accepted and its reply never comes."""
        wanted = ENINodeSpec(
            instance=INSTANCE, demand=self.pool.demand(self.now), endpoints=self.pool.endpoints(),
            yielded=self.pool.yielded(),
        )  # fmt: skip
        if wanted == self.spec or self.seen != self.version:
            return False
        self.spec = wanted
        self.version += 1
        if not lost:
            self.keep(self.pool.yielded_written(self.spec.yielded, self.status, str(self.version), self.now))
            self.keep(self.pool.answer_reclaim())
        return True

    @property
    def seen(self) -> int:
        return int(self.pool.records(self.now)[0].version or 0)

    def crash(self) -> None:
        self.pool = Pool("i-1")
        self.pool.restore([decode(line) for line in self.journal], self.now)
        self.pool.set_ready([each.id for each in self.pool.interfaces()])
        self.journal = [encode(each) for each in self.pool.records(self.now)]

    def start_pod(self) -> None:
        self.born += 1
        name = f"p{self.born}"
        if self.rng.random() < 0.5:
            reserved = self.pool.reserve(PodRef("d", name, name), self.now)
            self.keep(reserved.records if isinstance(reserved, Grant) else ())
        grant = self.pool.allocate(f"{name}/eth0", PodRef("d", name, name), self.now)
        if not isinstance(grant, Grant):
            self.keep(self.pool.release(f"{name}/eth0", self.now))
            return
        self.keep(grant.records)
        self.keep(self.pool.confirm(f"{name}/eth0", self.now))
        self.pods[name] = grant.allocation.address

    def end_pod(self) -> None:
        name = self.rng.choice(sorted(self.pods))
        del self.pods[name]
        self.keep(self.pool.release(f"{name}/eth0", self.now))
        self.keep(self.pool.unreserve(name, self.now))

    # --- what must hold ---

    def check(self) -> None:
        assert len(set(self.pods.values())) == len(self.pods)
        attached = [each for each in self.ec2.enis.values() if each.attachment is Attachment.ATTACHED]
        there = {text(address) for each in attached for cidr in (*each.addresses, *each.prefixes)
                 for address in expand(cidr)}  # fmt: skip
        if self.class_.interfaces.use_primary_address:
            there |= {each.primary for each in attached if each.index}
        assert set(self.pods.values()) <= there

    def step(self) -> None:
        self.now += self.rng.choice([0.0, 1.0, 10.0, 70.0])
        self.steps += 1
        growing = self.steps // 40 % 2 == 0  # tides of pods, so that addresses come and go
        roll = self.rng.random()
        if roll < 0.30:
            self.operate(faults=True)
        elif roll < 0.42:
            self.observe()
        elif roll < 0.62:
            if self.rng.random() < 0.7:
                self.observe()
            self.report(lost=self.rng.random() < 0.3)
        elif roll < 0.66:
            self.crash()
        elif self.pods and self.rng.random() < (0.15 if growing else 0.85):
            self.end_pod()
        else:
            self.start_pod()
        self.check()

    def settle(self) -> int:
        """Without faults until nothing happens for ten minutes; how many rounds that took."""
        quiet = 0
        for number in range(400):
            self.now += 30.0
            busy = [self.observe(), self.report(), self.operate(faults=False)]
            self.check()
            quiet = 0 if any(busy) else quiet + 1
            if quiet == 20:
                return number
        raise AssertionError("it never settles")


@pytest.mark.parametrize("seed", range(40))
def test_random_faults_never_break_a_pod_and_it_always_settles_at_its_tide(seed):
    world = World(seed)
    for _ in range(250):
        world.step()
    world.settle()
    calls = world.calls
    snapshot = world.snapshot()
    state = node_tide(snapshot, LIMITS, [world.subnet()])
    assert world.status.pending == world.status.releasing == ()
    provisioned = state.capacity.provisioned
    enough = provisioned >= state.marks.low or tide.at_capacity(state.marks, provisioned, state.room)
    assert enough or not world.ec2.free()
    assert provisioned == world.pool.provisioned()
    held = world.pool.demand(world.now)
    assert (held.in_use, held.cooling) == (len(world.pods), 0)
    assert world.spec.yielded == world.pool.out_of_use() == ()
    if not world.class_.prefix_delegation:
        assert not tide.give_back(state.marks, provisioned)
    world.settle()
    assert world.calls == calls
