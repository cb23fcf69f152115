"""ADD and DEL against a kernel that fails on command: what is on file before what is done, and what is undone after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from enitide_api.errors import CniError, NetlinkFailed
from enitide_api.resources import ENINodeStatus, Interface
from enitide_enidp.cni.request import Call, NetworkConfig
from enitide_enidp.endpoints import life
from enitide_enidp.endpoints.life import Endpoints
from enitide_enidp.journal import Journal, replay
from enitide_enidp.memory import Memory
from enitide_enidp.netlink.facts import Link
from enitide_enidp.netlink.wanted import Device
from enitide_ipam.pool import Pool
from enitide_ipam.records import Held, Released

pytestmark = pytest.mark.unit

ENI = Interface(
    id="eni-1", mac="0e:00:00:00:00:11", card=0, index=1, gateway="10.0.0.1", addresses=("10.0.1.20", "10.0.1.21")
)
CALL = Call("ADD", NetworkConfig(cni_version="1.0.0", name="n"), "c1", "eth0", "/run/netns/p")


class Kernel:
    """Stands for datapath, route socket and pod wiring; `fails` names the step that does not work."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.done: list[str] = []
        self.fails = ""
        self.held_before_first_step: bool | None = None

    def step(self, name: str) -> None:
        if self.held_before_first_step is None:
            records = replay(self.journal.read_bytes()).records
            self.held_before_first_step = any(isinstance(each, Held) and each.owner for each in records)
        self.done.append(name)
        if name == self.fails:
            raise NetlinkFailed(f"{name} on command")

    # datapath
    def put_endpoint(self, _endpoint: Any) -> None:
        self.step("put")

    def delete_endpoint(self, _ifindex: int) -> None:
        self.step("forget")

    def attach_messages(self, _ifindex: int) -> list[bytes]:
        return [b"programs"]

    # pod wiring
    def create(self, *_: Any) -> int:
        self.step("create")
        return 7

    def set_up_host(self, _route: Any, _wiring: Any, _ifindex: int, programs: list[bytes]) -> None:
        assert programs == [b"programs"]
        self.step("host")

    def set_up_pod(self, *_: Any) -> None:
        self.step("pod")

    def carry(self, *_: Any) -> None:
        self.step("carry")

    def cut(self, *_: Any) -> int | None:
        self.done.append("cut")
        return 7 if "create" in self.done and self.fails != "create" else None

    def delete(self, _ifindex: int) -> None:
        self.done.append("delete")


class NoNamespace:
    def __init__(self, path: str) -> None:
        self.path = path

    def close(self) -> None:
        return


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path / "journal")
    for name in ("create", "set_up_host", "set_up_pod", "carry", "cut", "delete"):
        monkeypatch.setattr(life.pod, name, getattr(made, name))
    monkeypatch.setattr(life, "Namespace", NoNamespace)
    return made


def endpoints_on(kernel: Kernel) -> tuple[Endpoints, Memory]:
    pool = Pool("i-1")
    memory = Memory(pool, Journal(kernel.journal), lambda: 100.0)
    memory.keep(pool.apply_status(ENINodeStatus(instance_id="i-1", interfaces=(ENI,)), "1", 100.0))
    pool.set_ready(["eni-1"])
    made: Any = Endpoints(memory, kernel, object(), add_wait_s=0.0, mtu=0, resolve=lambda pod: pod)  # type: ignore[arg-type]
    made.devices = {"eni-1": Device(ENI, Link(3, "eth1", ENI.mac, 9001, up=True), 1)}
    return made, memory


async def test_the_address_is_on_file_before_anything_is_wired_and_confirmed_before_the_answer(kernel: Kernel) -> None:
    endpoints, memory = endpoints_on(kernel)
    await endpoints.add(CALL, lambda: False)
    assert kernel.held_before_first_step
    assert kernel.done == ["create", "put", "host", "pod", "carry"], (
        "the endpoint's record stands before its device is up"
    )
    last = replay(kernel.journal.read_bytes()).records[-1]
    assert isinstance(last, Held)
    assert last.confirmed
    assert memory.pool.unconfirmed() == ()


@pytest.mark.parametrize("step", ["create", "put", "host", "pod", "carry"])
async def test_an_add_that_fails_at_any_step_leaves_nothing_behind(kernel: Kernel, step: str) -> None:
    endpoints, memory = endpoints_on(kernel)
    kernel.fails = step
    with pytest.raises(CniError) as caught:
        await endpoints.add(CALL, lambda: False)
    await endpoints.reaper.close()
    assert caught.value.cni_code == 11
    assert memory.pool.owners() == ()
    assert endpoints.live == {}
    undone = kernel.done[kernel.done.index("cut") :]
    assert undone == (["cut"] if step == "create" else ["cut", "forget", "delete"])
    assert isinstance(replay(kernel.journal.read_bytes()).records[-1], Released)


async def test_a_del_closes_the_pod_and_is_on_file_before_the_slow_deletion(kernel: Kernel) -> None:
    endpoints, memory = endpoints_on(kernel)
    await endpoints.add(CALL, lambda: False)
    kernel.done.clear()
    kernel.done.append("create")
    await endpoints.delete(CALL)
    assert kernel.done == ["create", "cut", "forget"]
    last = replay(kernel.journal.read_bytes()).records[-1]
    assert isinstance(last, Released)
    assert last.tombstone
    await endpoints.reaper.close()
    assert kernel.done[-1] == "delete"
    assert memory.pool.owners() == ()


async def test_an_address_that_cannot_be_recorded_is_not_handed_out(kernel: Kernel) -> None:
    endpoints, memory = endpoints_on(kernel)

    def refuse(_records: Any) -> None:
        from enitide_api.errors import JournalFailed

        raise JournalFailed("no space left")

    memory._journal.append = refuse  # type: ignore[method-assign]
    with pytest.raises(CniError) as caught:
        await endpoints.add(CALL, lambda: False)
    assert caught.value.cni_reason == "JournalFailed"
    assert kernel.done == []
    assert memory.pool.owners() == ()


async def test_how_long_an_add_waited_is_counted_by_what_came_of_it(kernel: Kernel) -> None:
    endpoints, memory = endpoints_on(kernel)
    await endpoints.add(CALL, lambda: False)
    memory.pool.set_ready([])
    with pytest.raises(CniError) as caught:
        await endpoints.add(replace(CALL, container_id="other"), lambda: False)
    (family,) = endpoints.address_wait.collect()
    counts = {s.labels["outcome"]: s.value for s in family.samples if s.name.endswith("_count")}
    assert counts == {"ok": 1.0, str(caught.value.cni_reason): 1.0}
