"""What takes time in EC2, and what happens to calls on their way: by an injected clock."""

from __future__ import annotations

import asyncio

import pytest

from enitide_lab.ec2model import AnswerLost, EC2Model, Effect, Fault, ModelError, Physics

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model(clock: Clock) -> EC2Model:
    made = EC2Model(clock)
    vpc = made.create_vpc(["10.0.0.0/16"]).id
    made.create_subnet(vpc, "10.0.0.0/24", "us-west-2a", fixed_id="s-1")
    made.run_instances("m5.large", "s-1", ids=["i-1"])
    return made


@pytest.fixture
def physics(clock: Clock) -> Physics:
    return Physics(clock)


def test_the_same_seed_and_calls_give_the_same_world(clock: Clock) -> None:
    def build() -> list[str]:
        made = EC2Model(clock, seed=3)
        vpc = made.create_vpc(["10.0.0.0/16"]).id
        subnet = made.create_subnet(vpc, "10.0.0.0/24", "a").id
        return [repr(made.create_network_interface(subnet, secondary_count=2)) for _ in range(3)]

    assert build() == build()


def test_a_detach_takes_its_time_and_the_index_stays_occupied_meanwhile(model: EC2Model, clock: Clock) -> None:
    model.detach_delay_s = 5
    first, second = model.create_network_interface("s-1").id, model.create_network_interface("s-1").id
    attachment = model.attach_network_interface(first, "i-1", 1).id
    model.detach_network_interface(attachment)
    (shown,) = model.describe_network_interfaces([first]).items
    assert shown.attachment is not None
    assert (shown.status, shown.attachment.status) == ("in-use", "detaching")
    for refused in (
        lambda: model.attach_network_interface(second, "i-1", 1),
        lambda: model.delete_network_interface(first),
        lambda: model.detach_network_interface(attachment),
    ):
        with pytest.raises(ModelError):
            refused()
    assert model.next_due_s() == clock() + 5
    clock.now_s += 5
    model.attach_network_interface(second, "i-1", 1)
    model.delete_network_interface(first)


def test_an_attached_interface_appears_only_after_the_delay(model: EC2Model, clock: Clock) -> None:
    model.attach_delay_s = 2
    interface = model.create_network_interface("s-1").id
    since = model.feed_number
    assert model.attach_network_interface(interface, "i-1", 1).status == "attaching"
    assert model.events(since) == ([], False)
    clock.now_s += 2
    ((event,), _) = model.events(since)
    assert (event.kind, event.interface_id, event.index) == ("attached", interface, 1)


def test_an_interface_detached_while_attaching_never_appears(model: EC2Model, clock: Clock) -> None:
    model.attach_delay_s = 2
    interface = model.create_network_interface("s-1").id
    model.detach_network_interface(model.attach_network_interface(interface, "i-1", 1).id)
    clock.now_s += 3
    assert [event.kind for event in model.events()[0] if event.interface_id == interface] == ["created", "detached"]


def test_reads_lag_behind_every_change(model: EC2Model, clock: Clock) -> None:
    model.visible_after_s = 3
    made = model.create_network_interface("s-1", tags={"cluster": "c"})
    attached = {"attachment.instance-id": ["i-1"], "attachment.device-index": ["1"]}
    with pytest.raises(ModelError, match=r"InvalidNetworkInterfaceID\.NotFound"):
        model.describe_network_interfaces([made.id])
    assert model.describe_network_interfaces(filters={"tag:cluster": ["c"]}).items == ()
    clock.now_s += 2
    model.attach_network_interface(made.id, "i-1", 1)
    clock.now_s += 1
    (shown,) = model.describe_network_interfaces([made.id]).items
    assert shown.attachment is None
    assert model.describe_network_interfaces(filters=attached).items == ()
    clock.now_s += 2
    (shown,) = model.describe_network_interfaces(filters=attached).items
    model.assign_private_ip_addresses(made.id, count=1)
    assert len(model.describe_network_interfaces([made.id]).items[0].addresses) == 1
    clock.now_s += 3
    assert len(model.describe_network_interfaces([made.id]).items[0].addresses) == 2


def test_a_deleted_interface_lingers_in_reads(model: EC2Model, clock: Clock) -> None:
    made = model.create_network_interface("s-1")
    model.visible_after_s = 3
    model.delete_network_interface(made.id)
    assert [n.id for n in model.describe_network_interfaces([made.id]).items] == [made.id]
    with pytest.raises(ModelError):
        model.delete_network_interface(made.id)
    clock.now_s += 3
    with pytest.raises(ModelError):
        model.describe_network_interfaces([made.id])
    assert not model.changing


def test_a_terminated_instance_is_known_for_an_hour(model: EC2Model, clock: Clock) -> None:
    model.terminate_delay_s = 30
    assert model.terminate_instances(["i-1"]) == (("i-1", "running", "shutting-down"),)
    assert model.describe_network_interfaces(filters={"attachment.instance-id": ["i-1"]}).items
    clock.now_s += 30
    (shown,) = model.describe_instances(["i-1"]).items
    assert (shown.state, shown.interfaces) == ("terminated", ())
    clock.now_s += 3600
    with pytest.raises(ModelError, match=r"InvalidInstanceID\.NotFound"):
        model.describe_instances(["i-1"])


def test_a_token_is_forgotten_after_a_day(model: EC2Model, clock: Clock) -> None:
    first = model.create_network_interface("s-1", client_token="t").id
    clock.now_s += 24 * 3600 + 1
    assert model.create_network_interface("s-1", client_token="t", description="other").id != first


def test_a_hidden_interface_takes_its_place_but_no_read_shows_it(model: EC2Model) -> None:
    hidden = model.place_interface("s-1", fixed_id="eni-hidden", hidden=True, addresses=["10.0.0.99"])
    model.attach_network_interface("eni-hidden", "i-1", 1)
    assert hidden.addresses[1:] == ("10.0.0.99",)
    assert all(n.id != "eni-hidden" for n in model.describe_network_interfaces().items)
    with pytest.raises(ModelError, match="already has an interface attached"):
        model.attach_network_interface(model.create_network_interface("s-1").id, "i-1", 1)


def test_the_feed_says_when_it_has_forgotten(model: EC2Model) -> None:
    while len(model.feed) > 1:
        model.feed.popleft()
    assert model.events(0)[1]
    assert not model.events(model.feed_number - 1)[1]
    assert model.events(model.feed_number + 5)[1]


# --- physics ---


def test_faults_hit_by_count_by_turn_and_by_time(physics: Physics, clock: Clock) -> None:
    def outcomes(verb: str, count: int) -> str:
        return "".join("x" if physics.rule(verb).refuse else "." for _ in range(count))

    physics.add(Fault("CreateNetworkInterface", times=2))
    assert outcomes("CreateNetworkInterface", 4) == "xx.."
    physics.add(Fault("reads", every=2))
    assert outcomes("DescribeSubnets", 5) == ".x.x."
    physics.remove()
    physics.add(Fault("mutations", nth=3))
    assert outcomes("AttachNetworkInterface", 5) == "..x.."
    physics.add(Fault("*", for_s=10))
    assert outcomes("DeleteNetworkInterface", 1) + outcomes("DescribeVpcs", 1) == "xx"
    clock.now_s += 10
    assert outcomes("DescribeVpcs", 2) == ".."
    assert physics.faults == []


def test_delays_add_up_and_a_fault_may_be_for_one_subject(physics: Physics) -> None:
    physics.latency_s = 0.2
    physics.add(Fault("*", Effect.DELAY, delay_s=2, subject="i-1"))
    assert physics.rule("AttachNetworkInterface", {"i-1", "eni-1"}).delay_s == 2.2
    assert physics.rule("AttachNetworkInterface", {"i-2"}).delay_s == 0.2


def test_buckets_have_aws_sizes_and_refill(physics: Physics, clock: Clock) -> None:
    physics.throttle(on=True)

    def served(verb: str, **how: bool) -> int:
        return sum(physics.rule(verb, **how).refuse is None for _ in range(300))

    assert served("CreateNetworkInterface") == 100
    assert served("AttachNetworkInterface") == 50
    assert served("DescribeNetworkInterfaces") == 100
    assert served("DescribeNetworkInterfaces", unfiltered=True) == 50
    clock.now_s += 4
    assert served("CreateNetworkInterface") == 20
    physics.throttle(on=False)
    assert served("CreateNetworkInterface") == 300


async def test_the_python_face_obeys_the_same_faults(model: EC2Model, physics: Physics, clock: Clock) -> None:
    physics.latency_s = 0.2

    async def create(verb: str = "CreateNetworkInterface") -> object:
        return await physics.carry(
            verb, lambda: model.create_network_interface("s-1"), sleep=clock.sleep, crashed=died.append
        )

    died: list[str] = []
    began_s = clock()
    await create()
    assert clock() == pytest.approx(began_s + 0.2)
    physics.add(Fault("CreateNetworkInterface", Effect.LOST, times=1))
    before = len(model.interfaces)
    with pytest.raises(AnswerLost):
        await create()
    assert len(model.interfaces) == before + 1
    physics.add(Fault("CreateNetworkInterface", Effect.CRASH, times=1))
    with pytest.raises(AnswerLost):
        await create()
    assert died == ["CreateNetworkInterface"]
    physics.add(Fault("CreateNetworkInterface", code="UnauthorizedOperation", times=1))
    with pytest.raises(ModelError) as caught:
        await create()
    assert caught.value.http_status == 403
    assert len(model.interfaces) == before + 2
    physics.add(Fault("DescribeSubnets", Effect.EMPTY, times=1))
    answer = await physics.carry("DescribeSubnets", lambda: [1], sleep=clock.sleep, empty=list, size=len)
    assert answer == []
    assert physics.summary() == {
        "CreateNetworkInterface": {"UnauthorizedOperation": 1, "crash": 1, "lost": 1, "ok": 1},
        "DescribeSubnets": {"ok": 1},
    }


async def test_a_caller_that_gives_up_waiting_still_left_a_mark(model: EC2Model, physics: Physics) -> None:
    physics.latency_s = 60
    asleep: list[float] = []
    waiting = asyncio.Event()

    async def sleep(delay_s: float) -> None:
        asleep.append(delay_s)
        if len(asleep) == 2:  # EC2 has acted; the answer is on its way
            waiting.set()
            await asyncio.Event().wait()

    before = len(model.interfaces)
    act = physics.carry("CreateNetworkInterface", lambda: model.create_network_interface("s-1"), sleep=sleep)
    task = asyncio.ensure_future(act)
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(model.interfaces) == before + 1
    assert asleep == [30, 30]


def test_an_index_keeps_reads_small(model: EC2Model) -> None:
    made = [model.create_network_interface("s-1") for _ in range(50)]
    looked_at: list[str] = []
    original = model.view
    model.view = lambda record: (looked_at.append(record.id), original(record))[1]  # type: ignore[method-assign]
    model.describe_network_interfaces(filters={"attachment.instance-id": ["i-1"]})
    assert len(looked_at) == 1
    looked_at.clear()
    model.describe_network_interfaces(filters={"network-interface-id": [made[0].id]}, max_results=5)
    assert looked_at == [made[0].id]


def test_what_took_effect_while_nobody_looked_did_so_when_it_was_due(model: EC2Model, clock: Clock) -> None:
    model.attach_delay_s, model.visible_after_s = 1.0, 2.0
    made = model.create_network_interface("s-1")
    model.attach_network_interface(made.id, "i-1", 1)
    clock.now_s += 60.0
    shown = model.describe_network_interfaces(filters={"attachment.instance-id": ("i-1",)}).items
    assert {each.attachment.status for each in shown if each.attachment} == {"attached"}
