from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.datapath.namespaces import Namespace
from support.datapath.world import endpoint, world

from enitide_api.errors import DatapathFailed, KernelUnsupported, NotRoot
from enitide_api.reasons import Drop
from enitide_enidp.datapath import (
    Datapath,
    NodeConfig,
    Routing,
    bpffs,
    codec,
    loader,
    objects,
    syscalls,
    testrun,
    views,
)
from enitide_enidp.datapath.types import Hook

pytestmark = pytest.mark.bpf

DIRECT, STACK = NodeConfig(), NodeConfig(routing=Routing.STACK)
PACKET = bytes(12) + b"\x08\x00" + bytes(40)


@pytest.fixture(autouse=True)
def inside(namespace: Namespace) -> None:
    """Nothing here touches the machine's own interfaces."""


def program_ids(pins: Path) -> set[int]:
    with views.opened(pins) as fds:
        return {row["id"] for row in views.list_programs(fds)}


def test_every_object_loads_and_all_pins_stand(pins: Path) -> None:
    datapath = Datapath.open(pins, DIRECT)
    datapath.close()
    root = loader.schema_dir(pins)
    assert {path.name for path in (root / "maps").iterdir()} == set(loader.MAPS)
    assert {path.name for path in (root / "entries").iterdir()} == {hook.name.lower() for hook in Hook}
    with views.opened(pins) as fds:
        rows = views.list_programs(fds)
    assert {row["hook"] for row in rows if row["runs"]} == {"from-pod", "to-pod", "from-wire", "to-wire"}
    assert all(row["machineCodeBytes"] > 0 for row in rows), "compiled to machine code by the kernel"


def test_an_equal_set_is_adopted_with_its_endpoints_and_nothing_is_loaded(pins: Path, namespace: Namespace) -> None:
    namespace.ip("link add pod1 type veth peer name peer1\nlink add eni1 type veth peer name wire1")
    first = Datapath.open(pins, DIRECT)
    pod = endpoint("pod1", 1, 1, "eni1")
    first.put_endpoint(pod)
    before = program_ids(pins)
    first.close()
    second = Datapath.open(pins, DIRECT)
    assert second.adopted
    assert second.endpoints() == [pod]
    assert program_ids(pins) == before
    second.close()


def test_another_configuration_takes_over_in_the_other_half_and_the_old_one_is_let_go(pins: Path) -> None:
    Datapath.open(pins, DIRECT).close()
    with views.opened(pins) as fds:
        half = views.active_half(fds)
    old = program_ids(pins)
    changed = Datapath.open(pins, STACK)
    assert not changed.adopted
    changed.close()
    with views.opened(pins) as fds:
        assert views.active_half(fds) == 1 - half
        assert [row["fingerprint"] for row in views.VIEWS["sets"].rows(fds)].count(None) == 1
        assert len(views.list_programs(fds)) == len(Hook), "the half that does not run is empty"
    assert not old & program_ids(pins)
    for number in old:
        with pytest.raises(OSError, match="No such file"):
            syscalls.program_fd(number)


def test_the_nodes_constants_are_what_the_programs_run_with(pins: Path, namespace: Namespace) -> None:
    """STACK and DIRECT differ in nothing but .rodata; the verdict tests show that they act differently."""
    assert codec.encode_config(DIRECT) != codec.encode_config(STACK)
    assert loader.fingerprint(objects.folder(), DIRECT) != loader.fingerprint(objects.folder(), STACK)
    assert loader.fingerprint(objects.folder(), DIRECT) != loader.fingerprint(
        objects.folder(), NodeConfig(event_rate=1)
    )


@pytest.fixture
def crashed(pins: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A loader that dies at the n-th system call of `syscalls.update`."""

    def at(nth: int) -> None:
        calls = 0
        real = syscalls.update

        def update(fd: int, key: bytes, value: bytes) -> None:
            nonlocal calls
            calls += 1
            if calls == nth:
                raise KeyboardInterrupt
            real(fd, key, value)

        monkeypatch.setattr(syscalls, "update", update)

    yield at
    monkeypatch.undo()


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_loader_that_dies_at_any_step_leaves_a_whole_set_running_and_the_next_one_finishes(
    pins: Path, crashed: object, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    Datapath.open(pins, DIRECT).close()
    crashed(nth)
    died = False
    try:
        Datapath.open(pins, STACK).close()
    except KeyboardInterrupt:
        died = True
    monkeypatch.undo()
    assert died or nth > 6, "there are at least six steps to die at"
    with views.opened(pins) as fds:
        assert len([row for row in views.list_programs(fds) if row["runs"]]) == len(Hook)
    Datapath.open(pins, STACK).close()
    with views.opened(pins) as fds:
        rows = views.list_programs(fds)
        assert len(rows) == len(Hook)
        assert all(row["runs"] for row in rows)


def test_killed_while_it_loads_the_next_loader_is_not_locked_out(pins: Path) -> None:
    code = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from enitide_enidp.datapath import Datapath, NodeConfig, syscalls\n"
        "syscalls.wait_for_programs = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Datapath.open(Path(sys.argv[1]), NodeConfig())\n"
    )
    bpffs.ensure(pins)
    done = subprocess.run([sys.executable, "-c", code, str(pins)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    datapath = Datapath.open(pins, DIRECT)
    assert datapath.adopted, "the switch had been made; only the clearing was left"
    datapath.close()


def test_a_pod_is_closed_and_an_eni_open_when_a_program_is_missing(pins: Path, namespace: Namespace) -> None:
    datapath = Datapath.open(pins, DIRECT)
    loaded = loader.load(pins, DIRECT)
    try:
        for hook in Hook:
            syscalls.delete(loaded.maps["progs"], codec.U32.pack(loaded.half * codec.HOOKS + hook))
        actions = {hook: testrun.run(loaded.entries[hook], PACKET).action for hook in Hook}
        assert actions == {Hook.FROM_POD: 2, Hook.TO_POD: 2, Hook.FROM_WIRE: -1, Hook.TO_WIRE: -1}
        assert datapath.drops()[Drop.NO_PROGRAM] == 2
    finally:
        loaded.close()
        datapath.close()
    healed = Datapath.open(pins, DIRECT)
    assert not healed.adopted, "a set with a missing program is no set"
    healed.close()


def test_a_lost_pin_of_an_entry_program_is_made_good(pins: Path) -> None:
    Datapath.open(pins, DIRECT).close()
    (loader.schema_dir(pins) / "entries" / "to_pod").unlink()
    Datapath.open(pins, DIRECT).close()
    assert (loader.schema_dir(pins) / "entries" / "to_pod").exists()


@pytest.mark.parametrize("name", ["endpoints", "rules", "progs"])
def test_a_pinned_map_of_another_shape_is_replaced_and_reported(pins: Path, namespace: Namespace, name: str) -> None:
    with world(pins, namespace, Routing.DIRECT) as before:
        path = loader.schema_dir(pins) / "maps" / name
        path.unlink()
        fd = syscalls.create_map(syscalls.MAP_TYPE_ARRAY, 4, 8, 3)
        syscalls.pin(fd, path)
        os.close(fd)
        repaired = Datapath.open(pins, DIRECT)
        assert not repaired.adopted, "programs that run on the old map would not hear of the new one"
        repaired.sync([before.pod1, before.pod2])
        loaded = loader.load(pins, DIRECT)
        assert loaded.adopted
        outcome = testrun.run(loaded.entries[Hook.FROM_POD], PACKET, ifindex=before.pod1.ifindex)
        assert outcome.action == 2
        assert repaired.drops()[Drop.MALFORMED] == 1, "the pod is known to the programs that run"
        [sentence] = repaired.reconcile_attachments(set(), [before.eni1, before.eni2])[:1]
        assert f"map {name} was none of ours" in sentence
        loaded.close()
        repaired.close()


@pytest.mark.parametrize("name", ["endpoints", "connections", "active"])
def test_a_lost_pin_of_a_map_makes_a_new_set_on_a_new_map(pins: Path, name: str) -> None:
    Datapath.open(pins, DIRECT).close()
    (loader.schema_dir(pins) / "maps" / name).unlink()
    second = Datapath.open(pins, DIRECT)
    assert not second.adopted
    second.close()
    third = Datapath.open(pins, DIRECT)
    assert third.adopted
    third.close()


def test_a_half_that_there_is_not_is_put_right_and_reported(pins: Path) -> None:
    Datapath.open(pins, DIRECT).close()
    fd = syscalls.pinned(loader.schema_dir(pins) / "maps" / "active")
    syscalls.update(fd, codec.U32.pack(0), codec.U32.pack(9))
    os.close(fd)
    second = Datapath.open(pins, DIRECT)
    assert not second.adopted
    assert "half 9" in second.reconcile_attachments(set(), [])[0]
    with views.opened(pins) as fds:
        assert views.active_half(fds) in (0, 1)
    second.close()


def test_an_object_the_verifier_refuses_shows_its_log(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "objects"
    shutil.copytree(objects.folder(), built)
    source = tmp_path / "bad.c"
    source.write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <include/config.h>\n"
        'SEC("tc") int from_pod(struct __sk_buff *skb) { return *(int *)(long)skb->data + node_config.flags; }\n'
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    bpf = objects.Path(__file__).parents[2] / "bpf"
    asked = subprocess.run(["cc", "-print-multiarch"], check=True, capture_output=True, text=True, timeout=60)
    clang = ["clang", "-O2", "-g", "-target", "bpf", f"-I{bpf}", "-idirafter", f"/usr/include/{asked.stdout.strip()}"]
    subprocess.run([*clang, "-c", str(source), "-o", str(built / "pod.bpf.o")], check=True, timeout=60)
    monkeypatch.setenv(objects.OVERRIDE, str(built))
    with pytest.raises(DatapathFailed, match=r"(?s)verifier log.*invalid access to packet"):
        Datapath.open(pins, DIRECT)


def test_an_object_without_the_nodes_constants_is_not_loaded(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "objects"
    shutil.copytree(objects.folder(), built)
    shutil.copy(built / "entry.bpf.o", built / "pod.bpf.o")
    monkeypatch.setenv(objects.OVERRIDE, str(built))
    with pytest.raises(DatapathFailed, match=r"no section \.rodata\.config"):
        Datapath.open(pins, DIRECT)


def test_a_file_that_is_no_object_and_a_folder_without_objects_are_named(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(objects.OVERRIDE, str(tmp_path))
    with pytest.raises(DatapathFailed, match="make -C bpf"):
        Datapath.open(pins, DIRECT)
    for name in (objects.ENTRY, *objects.SETS):
        (tmp_path / name).write_text("no ELF")
    with pytest.raises(DatapathFailed, match="no eBPF object"):
        Datapath.open(pins, DIRECT)


def test_a_kernel_below_the_floor_and_a_user_without_rights_get_their_own_reasons(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = os.uname()

    class Old:
        release = "5.15.0-91-generic"

    monkeypatch.setattr(loader.os, "uname", lambda: Old)
    with pytest.raises(KernelUnsupported, match=r"5\.15"):
        Datapath.open(pins, DIRECT)
    monkeypatch.setattr(loader.os, "uname", lambda: release)

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(syscalls, "create_map", refuse)
    with pytest.raises(NotRoot):
        Datapath.open(pins, DIRECT)


def test_pins_of_another_schema_go_once_everything_is_attached_anew(pins: Path) -> None:
    datapath = Datapath.open(pins, DIRECT)
    older = pins / "v0" / "maps"
    older.mkdir(parents=True)
    fd = syscalls.create_map(syscalls.MAP_TYPE_ARRAY, 4, 8, 3)
    syscalls.pin(fd, older / "endpoints")
    os.close(fd)
    assert datapath.reconcile_attachments(set(), []) == ["pins of another schema removed: v0"]
    assert not (pins / "v0").exists()
    assert datapath.reconcile_attachments(set(), []) == []
    datapath.close()


def test_a_pin_folder_on_no_bpffs_gets_one_and_nothing_beside_it_is_hidden(tmp_path: Path) -> None:
    pin_dir = tmp_path / "bpf"
    (tmp_path / "neighbour").write_text("still here")
    try:
        bpffs.ensure(pin_dir)
        assert bpffs.is_bpffs(pin_dir)
        assert not bpffs.is_bpffs(tmp_path)
        assert (tmp_path / "neighbour").read_text() == "still here"
        bpffs.ensure(pin_dir)
    finally:
        bpffs.unmount(pin_dir)
    assert not bpffs.is_bpffs(pin_dir)


def test_endpoints_are_synchronised_by_difference(pins: Path, namespace: Namespace) -> None:
    with world(pins, namespace, Routing.DIRECT) as node:
        datapath, pod1, pod2 = node.datapath, node.pod1, node.pod2
        assert datapath.sync([pod1, pod2]) == 0
        assert datapath.sync([pod1]) == 3, "one endpoint and its two addresses went"
        assert datapath.endpoints() == [pod1]
        assert datapath.sync([pod1, pod2]) == 3
        with views.opened(pins) as fds:
            addresses = {row["address"] for row in views.VIEWS["local"].rows(fds)}
        assert addresses == {str(a) for pod in (pod1, pod2) for a in pod.addresses}
        assert datapath.set_node_addresses({}) == 2


def test_an_address_that_a_newer_pod_holds_survives_the_deletion_of_the_older_one(
    pins: Path, namespace: Namespace
) -> None:
    from dataclasses import replace

    namespace.ip("link add pod8 type veth peer name peer8\nlink add eni8 type veth peer name wire8")
    namespace.ip("link add pod9 type veth peer name peer9")
    older = endpoint("pod8", 8, 1, "eni8")
    newer = replace(endpoint("pod9", 9, 1, "eni8"), ipv4=older.ipv4)
    datapath = Datapath.open(pins, DIRECT)
    try:
        datapath.put_endpoint(older)
        datapath.put_endpoint(newer)
        datapath.delete_endpoint(older.ifindex)
        datapath.delete_endpoint(older.ifindex)
        with views.opened(pins) as fds:
            rows = {row["address"]: row["endpoint"] for row in views.VIEWS["local"].rows(fds)}
        assert rows == {str(newer.ipv4): 9, str(newer.ipv6): 9}
        datapath.put_endpoint(replace(newer, ipv6=None))
        with views.opened(pins) as fds:
            assert [row["address"] for row in views.VIEWS["local"].rows(fds)] == [str(newer.ipv4)]
    finally:
        datapath.close()


def test_a_full_map_says_which_one_and_how_big(pins: Path) -> None:
    from ipaddress import IPv4Address

    datapath = Datapath.open(pins, DIRECT)
    try:
        with pytest.raises(DatapathFailed, match=r"node_addresses \(capacity 8192\)"):
            datapath.set_node_addresses({IPv4Address(i): 1 for i in range(1, 8194)})
    finally:
        datapath.close()
