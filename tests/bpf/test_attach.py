from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.datapath.namespaces import Namespace, ifindex

from enitide_api.errors import InterfaceAbsent, NetlinkFailed
from enitide_enidp.datapath import Datapath, Eni, NodeConfig, attach, loader, syscalls, tcmessages, views
from enitide_enidp.datapath.types import Hook

pytestmark = pytest.mark.bpf

INGRESS, EGRESS = tcmessages.INGRESS, tcmessages.EGRESS


@pytest.fixture
def netlink(namespace: Namespace) -> Iterator[attach.Netlink]:
    namespace.ip(
        "link add pod1 type veth peer name peer1\nlink add pod2 type veth peer name peer2\n"
        "link add eni1 type veth peer name wire1\nlink add eni2 type veth peer name wire2"
    )
    made = attach.Netlink()
    yield made
    made.close()


@pytest.fixture(params=[None, False], ids=["links where the kernel has them", "filters forced"])
def datapath(request: pytest.FixtureRequest, pins: Path, netlink: attach.Netlink) -> Iterator[Datapath]:
    made = Datapath.open(pins, NodeConfig(), tcx=request.param)
    if request.param is None and not made.uses_tcx:
        made.close()
        pytest.skip("this kernel has no TCX links (6.6)")
    yield made
    made.close()


def entry_ids(pins: Path) -> dict[Hook, int]:
    root = loader.schema_dir(pins) / "entries"
    return {hook: syscalls.program_id(syscalls.pinned(root / hook.name.lower())) for hook in Hook}


def programs(netlink: attach.Netlink, device: str) -> list[tuple[int, str, int]]:
    return [
        (parent, found.name, found.program_id)
        for parent in (INGRESS, EGRESS)
        for found in netlink.filters(ifindex(device), parent)
    ]


def linked(pins: Path) -> dict[str, tuple[int, int] | None]:
    return {path.name: attach._link_state(path) for path in sorted((loader.schema_dir(pins) / "links").iterdir())}


def foreign_program(pins: Path) -> int:
    """Any program that is not ours to hang on a pod: the ENI's entry."""
    return syscalls.pinned(loader.schema_dir(pins) / "entries" / "to_wire")


def test_a_pods_device_carries_both_entry_programs_and_a_repeat_changes_nothing(
    datapath: Datapath, netlink: attach.Netlink, pins: Path
) -> None:
    ids = entry_ids(pins)
    expected = [
        (INGRESS, "enitide_from_pod", ids[Hook.FROM_POD]),
        (EGRESS, "enitide_to_pod", ids[Hook.TO_POD]),
    ]
    for _ in range(2):
        datapath.attach_pod(ifindex("pod1"))
        assert programs(netlink, "pod1") == expected
    assert datapath.reconcile_attachments({ifindex("pod1")}, []) == []


def test_the_messages_are_whole_and_run_in_a_batch_of_the_callers(datapath: Datapath, netlink: attach.Netlink) -> None:
    messages = datapath.attach_messages(ifindex("pod2"))
    for message in messages:
        length, _, flags, sequence, _ = struct.unpack_from("=IHHII", message)
        assert length == len(message)
        assert length % 4 == 0
        assert flags & 0x5 == 0x5, "request and acknowledge"
        assert sequence == 0
    assert netlink.batch(messages) == [0, 0, 0]
    assert len(programs(netlink, "pod2")) == 2


def test_a_device_that_is_not_there_is_an_error_with_its_errno(datapath: Datapath) -> None:
    with pytest.raises(InterfaceAbsent, match="No such device"):
        datapath.attach_pod(4242)
    with pytest.raises(InterfaceAbsent, match="No such device"):
        datapath.attach_eni(Eni(4242, 1))
    datapath.detach_eni(4242)


def test_a_device_that_has_gone_does_not_keep_the_others_from_repair(
    datapath: Datapath, netlink: attach.Netlink
) -> None:
    repairs = datapath.reconcile_attachments({4242, ifindex("pod1")}, [])
    assert "ifindex 4242 has gone: nothing to attach to" in repairs
    assert len(programs(netlink, "pod1")) == 2


def test_a_device_that_fails_does_not_keep_the_others_from_repair(
    datapath: Datapath, netlink: attach.Netlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bad = datapath._attacher.repair_pod, ifindex("pod1")

    def repair(device: int) -> list[str]:
        if device == bad:
            raise NetlinkFailed("no buffer")
        return real(device)

    monkeypatch.setattr(datapath._attacher, "repair_pod", repair)
    with pytest.raises(NetlinkFailed, match="no buffer"):
        datapath.reconcile_attachments({bad, ifindex("pod2")}, [])
    assert len(programs(netlink, "pod2")) == 2


def test_what_is_missing_on_a_pod_is_put_back_and_named(datapath: Datapath, netlink: attach.Netlink) -> None:
    device = ifindex("pod1")
    first = datapath.reconcile_attachments({device}, [])
    assert first == [
        f"from_pod attached to ifindex {device}: nothing hung there",
        f"to_pod attached to ifindex {device}: nothing hung there",
    ]
    netlink.run([tcmessages.delete_filter(device, netlink.filters(device, EGRESS)[0])], "delete")
    assert datapath.reconcile_attachments({device}, []) == [first[1]]
    assert len(programs(netlink, "pod1")) == 2


@pytest.mark.parametrize("handle", [1, 2], ids=["in our place", "before us at our priority"])
def test_a_foreign_program_on_a_pods_hook_is_replaced_and_named(
    datapath: Datapath, netlink: attach.Netlink, pins: Path, handle: int
) -> None:
    device, ids = ifindex("pod1"), entry_ids(pins)
    datapath.attach_pod(device)
    theirs = bytearray(tcmessages.bpf_filter(device, INGRESS, foreign_program(pins), "theirs"))
    struct.pack_into("=I", theirs, 16 + 8, handle)
    netlink.run([bytes(theirs)], "foreign")
    repairs = datapath.reconcile_attachments({device}, [])
    assert len(repairs) == 1
    assert repairs[0].endswith("in its place was bpf theirs")
    assert [(p, i) for p, _, i in programs(netlink, "pod1")] == [
        (INGRESS, ids[Hook.FROM_POD]),
        (EGRESS, ids[Hook.TO_POD]),
    ]


def test_a_filter_of_another_kind_in_our_place_is_replaced(
    datapath: Datapath, netlink: attach.Netlink, namespace: Namespace
) -> None:
    import subprocess

    subprocess.run(["tc", "qdisc", "add", "dev", "pod1", "clsact"], check=True)
    u32 = [
        "tc",
        "filter",
        "add",
        "dev",
        "pod1",
        "ingress",
        "prio",
        "1",
        "protocol",
        "all",
        "u32",
        "match",
        "u32",
        "0",
        "0",
    ]
    subprocess.run([*u32, "flowid", "1:1"], check=True)
    repairs = datapath.reconcile_attachments({ifindex("pod1")}, [])
    assert "in its place was u32" in repairs[0]
    assert [name for _, name, _ in programs(netlink, "pod1")] == ["enitide_from_pod", "enitide_to_pod"]


def test_later_filters_of_others_on_a_pod_are_left_alone(
    datapath: Datapath, netlink: attach.Netlink, pins: Path
) -> None:
    device = ifindex("pod1")
    datapath.attach_pod(device)
    theirs = bytearray(tcmessages.bpf_filter(device, INGRESS, foreign_program(pins), "theirs"))
    struct.pack_into("=I", theirs, 16 + 16, 7 << 16 | 0x0300)
    netlink.run([bytes(theirs)], "foreign")
    assert datapath.reconcile_attachments({device}, []) == []
    assert [name for _, name, _ in programs(netlink, "pod1")] == ["enitide_from_pod", "theirs", "enitide_to_pod"]


def hung_on_eni(datapath: Datapath, netlink: attach.Netlink, pins: Path, device: str) -> set[int]:
    """Ids of the programs on an ENI, whichever way they hang."""
    if not datapath.uses_tcx:
        return {program for _, _, program in programs(netlink, device)}
    return {state[0] for state in linked(pins).values() if state and state[1] == ifindex(device)}


def test_an_eni_carries_both_entry_programs_until_it_is_no_longer_managed(
    datapath: Datapath, netlink: attach.Netlink, pins: Path
) -> None:
    eni, ids = Eni(ifindex("eni1"), 3), entry_ids(pins)
    for _ in range(2):
        datapath.attach_eni(eni)
        assert hung_on_eni(datapath, netlink, pins, "eni1") == {ids[Hook.FROM_WIRE], ids[Hook.TO_WIRE]}
    assert datapath.reconcile_attachments(set(), [eni]) == []
    with views.opened(pins) as fds:
        assert views.VIEWS["enis"].rows(fds) == [{"ifindex": eni.ifindex, "eni": 3}]
    assert datapath.reconcile_attachments(set(), []) == [f"programs taken off ifindex {eni.ifindex}: no managed ENI"]
    assert hung_on_eni(datapath, netlink, pins, "eni1") == set()
    assert linked(pins) == {}
    with views.opened(pins) as fds:
        assert views.VIEWS["enis"].rows(fds) == []


def test_programs_of_an_eni_outlive_the_agent_and_are_found_again(
    datapath: Datapath, netlink: attach.Netlink, pins: Path
) -> None:
    eni = Eni(ifindex("eni1"), 3)
    datapath.attach_eni(eni)
    before = hung_on_eni(datapath, netlink, pins, "eni1")
    again = Datapath.open(pins, NodeConfig(), tcx=None if datapath.uses_tcx else False)
    try:
        assert again.reconcile_attachments(set(), [eni]) == []
    finally:
        again.close()
    assert hung_on_eni(datapath, netlink, pins, "eni1") == before


def test_an_eni_that_vanished_leaves_no_pin_behind(
    datapath: Datapath, netlink: attach.Netlink, namespace: Namespace, pins: Path
) -> None:
    eni = Eni(ifindex("eni2"), 2)
    datapath.attach_eni(eni)
    namespace.ip("link delete eni2")
    datapath.reconcile_attachments(set(), [])
    assert linked(pins) == {}


def test_a_lost_hook_of_an_eni_is_put_back(
    datapath: Datapath, netlink: attach.Netlink, namespace: Namespace, pins: Path
) -> None:
    eni = Eni(ifindex("eni1"), 3)
    datapath.attach_eni(eni)
    if datapath.uses_tcx:
        (loader.schema_dir(pins) / "links" / f"eni-{eni.ifindex}-to_wire").unlink()
    else:
        found = netlink.filters(eni.ifindex, EGRESS)[0]
        netlink.run([tcmessages.delete_filter(eni.ifindex, found)], "delete")
    assert datapath.reconcile_attachments(set(), [eni]) == [
        f"to_wire attached to ifindex {eni.ifindex}: nothing hung there"
    ]
    assert len(hung_on_eni(datapath, netlink, pins, "eni1")) == 2


def test_falling_back_to_filters_takes_the_links_off(pins: Path, netlink: attach.Netlink) -> None:
    eni = Eni(ifindex("eni1"), 3)
    first = Datapath.open(pins, NodeConfig())
    if not first.uses_tcx:
        first.close()
        pytest.skip("this kernel has no TCX links (6.6)")
    first.attach_eni(eni)
    first.close()
    second = Datapath.open(pins, NodeConfig(), tcx=False)
    second.attach_eni(eni)
    second.close()
    assert linked(pins) == {}
    assert len(programs(netlink, "eni1")) == 2


def test_110_pods_are_attached_and_reconciled_without_a_repair(pins: Path, namespace: Namespace) -> None:
    namespace.ip("\n".join(f"link add p{i} type veth peer name q{i}" for i in range(110)))
    datapath = Datapath.open(pins, NodeConfig())
    try:
        devices = {ifindex(f"p{i}") for i in range(110)}
        for device in devices:
            datapath.attach_pod(device)
        assert datapath.reconcile_attachments(devices, []) == []
    finally:
        datapath.close()
