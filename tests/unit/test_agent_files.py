"""What the agent keeps in files: the journal through any torn write, the conflist, numbers of ENIs, the plugin."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from enitide_api.errors import ForeignManager, JournalFailed, KernelUnsupported, SettingsInvalid, UsageError
from enitide_enidp import foreign, probes
from enitide_enidp.boot import forget_earlier_boot, wall_time
from enitide_enidp.cni import plugin
from enitide_enidp.cni.conflist import FILE_NAME, Conflist
from enitide_enidp.journal import Journal, line_of, replay
from enitide_enidp.netlink.facts import Link, Rule
from enitide_enidp.numbering import Numbering
from enitide_enidp.spool import Spool
from enitide_ipam.records import Held, PodRef, Record, Released, Yielded

pytestmark = pytest.mark.unit

RECORDS: list[Record] = [
    Held("10.0.0.7", "eni-1", "", "c1/eth0", PodRef("ns", "name", "uid"), confirmed=False, since=1.5),
    Released("c1/eth0", "10.0.0.7", 2.5, cool=True, tombstone=True),
    Yielded(("10.0.0.16/28",), "7"),
]


def test_a_journal_torn_anywhere_gives_every_record_before_the_tear(tmp_path: Path) -> None:
    lines = [line_of(record) for record in RECORDS]
    whole = b"".join(lines)
    ends = [len(b"".join(lines[: i + 1])) for i in range(len(lines))]
    path = tmp_path / "journal"
    for size in range(0, len(whole) + 1, 3):
        path.write_bytes(whole[:size])
        journal = Journal(path)
        kept = sum(end <= size for end in ends)
        assert list(journal.found.records) == RECORDS[:kept]
        assert journal.found.torn == size - (ends[kept - 1] if kept else 0)
        journal.append(RECORDS[:1])
        journal.close()
        assert list(replay(path.read_bytes()).records) == [*RECORDS[:kept], RECORDS[0]]


def test_a_damaged_line_is_counted_and_takes_no_other_with_it() -> None:
    lines = [line_of(record) for record in RECORDS]
    damaged = lines[0] + lines[1].replace(b"10.0.0.7", b"10.0.0.8") + lines[2]
    found = replay(damaged)
    assert found.damaged == 1
    assert list(found.records) == [RECORDS[0], RECORDS[2]]


def test_rewriting_replaces_everything_and_later_records_follow(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for _ in range(400):
        journal.append(RECORDS)
    assert journal.is_long
    journal.rewrite(RECORDS * 400)
    assert not journal.is_long, "what cannot be made shorter is not written anew for ever"
    journal.rewrite(RECORDS[:1])
    journal.append(RECORDS[1:])
    journal.close()
    assert list(replay((tmp_path / "journal").read_bytes()).records) == RECORDS


def test_a_record_that_cannot_be_kept_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(JournalFailed):
        Journal(tmp_path / "no" / "such" / "folder")
    journal = Journal(tmp_path / "journal")
    journal.append(RECORDS[:1])
    os.close(journal._fd)
    journal._fd = os.open(tmp_path / "journal", os.O_RDONLY)
    with pytest.raises((JournalFailed, OSError)):
        journal.append(RECORDS[1:])
    assert list(replay((tmp_path / "journal").read_bytes()).records) == RECORDS[:1]


def _conflist(folder: Path, *, version: str = "1.0.0", boot: str = "boot-2") -> Conflist:
    made = Conflist(folder, network="enitide", version=version, boot_id=boot)
    made.start()
    return made


def test_a_conflist_of_this_boot_stays_and_one_of_an_earlier_boot_goes(tmp_path: Path) -> None:
    first = _conflist(tmp_path, boot="boot-1")
    assert first.install()
    assert not first.install()
    content = json.loads((tmp_path / FILE_NAME).read_text())
    assert content["cniVersion"] == "1.0.0"
    assert content["name"] == "enitide"
    assert content["plugins"][0]["type"] == "enitide-cni"
    assert _conflist(tmp_path, boot="boot-1").installed
    assert not _conflist(tmp_path, boot="boot-2").installed
    assert not (tmp_path / FILE_NAME).exists()


def test_the_version_of_an_installed_conflist_is_never_raised_in_place(tmp_path: Path) -> None:
    _conflist(tmp_path).install()
    again = _conflist(tmp_path, version="1.1.0")
    assert not again.install()
    assert json.loads((tmp_path / FILE_NAME).read_text())["cniVersion"] == "1.0.0"


def test_a_conflist_that_someone_removed_or_spoilt_comes_back(tmp_path: Path) -> None:
    made = _conflist(tmp_path)
    made.install()
    (tmp_path / FILE_NAME).unlink()
    assert made.install()
    (tmp_path / FILE_NAME).write_text("{")
    assert _conflist(tmp_path).install()
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_folder_for_conflists_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match=r"--cni-conf-dir.*Not a directory"):
        _conflist(tmp_path / "file")


def test_numbers_of_enis_outlive_the_process_and_are_given_again_when_free(tmp_path: Path) -> None:
    path = tmp_path / "interfaces.json"
    assert Numbering(path).numbers(["eni-b", "eni-a"]) == {"eni-a": 1, "eni-b": 2}
    assert Numbering(path).numbers(["eni-b", "eni-c"]) == {"eni-b": 2, "eni-c": 1}
    path.write_text("{")
    with pytest.raises(JournalFailed):
        Numbering(path)


def test_the_plugin_is_installed_when_it_differs_and_missing_everywhere_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plugin.OVERRIDE, str(tmp_path / "source"))
    with pytest.raises(SettingsInvalid, match="missing"):
        plugin.install(tmp_path / "bin")
    (tmp_path / "source").write_bytes(b"one")
    assert plugin.install(tmp_path / "bin")
    assert not plugin.install(tmp_path / "bin")
    (tmp_path / "source").write_bytes(b"two")
    assert plugin.install(tmp_path / "bin")
    target = tmp_path / "bin" / "enitide-cni"
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o111
    (tmp_path / "source").unlink()
    assert not plugin.install(tmp_path / "bin")


def test_only_sure_signs_of_another_manager_keep_the_agent_from_starting(tmp_path: Path) -> None:
    (tmp_path / "10-containerd.conflist").write_text('{"plugins":[{"type":"bridge"},{"type":"portmap"}]}')
    (tmp_path / "99-broken.conf").write_text("{")
    assert foreign.conflist_signs(tmp_path) == []
    (tmp_path / "05-cilium.conflist").write_text('{"plugins":[{"type":"cilium-cni"}]}')
    assert len(foreign.conflist_signs(tmp_path)) == 1
    ours = [Rule(2, 300, 25600), Rule(2, 32766, 254, protocol=2), Rule(2, 1024, 254, 0x4000, 0x4000)]
    plain = [Link(2, "eth0", "", 1500, up=True), Link(3, "eni-lab", "", 1500, up=True, kind="veth")]
    assert foreign.kernel_signs(plain, ours) == []
    theirs = [Rule(2, 1024, 254, 0x80, 0x80, protocol=0), Rule(2, 1536, 2, source_length=32, protocol=0)]
    pods = [Link(4, "enicc21c2d7785", "", 9001, up=True, kind="veth"), Link(5, "cilium_host", "", 1500, up=True)]
    assert len(foreign.kernel_signs(pods, theirs)) == 4
    foreign.refuse([])
    with pytest.raises(ForeignManager):
        foreign.refuse(["a sign"])


def test_a_kernel_below_the_floor_or_without_btf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "btf").write_text("")
    probes.require_kernel("6.1.0-18-amd64", tmp_path / "btf")
    probes.require_kernel("6.18.44", tmp_path / "btf")
    for release in ("5.15.0-1", "6.0.19", "none"):
        with pytest.raises(KernelUnsupported):
            probes.require_kernel(release, tmp_path / "btf")
    with pytest.raises(KernelUnsupported):
        probes.require_kernel("6.8.0", tmp_path / "absent")


def test_two_agents_cannot_share_a_run_folder(tmp_path: Path) -> None:
    held = probes.lock(tmp_path / "run")
    with pytest.raises(UsageError):
        probes.lock(tmp_path / "run")
    os.close(held)
    os.close(probes.lock(tmp_path / "run"))


def test_a_journal_of_an_earlier_boot_is_forgotten_and_one_of_this_boot_is_kept(tmp_path: Path) -> None:
    forget_earlier_boot(tmp_path)
    journal = tmp_path / "journal"
    journal.write_bytes(line_of(RECORDS[0]))
    forget_earlier_boot(tmp_path)
    assert journal.exists(), "the same boot"
    (tmp_path / "boot").write_text("another\n")
    forget_earlier_boot(tmp_path)
    assert not journal.exists()


def test_moments_of_the_boot_clock_are_shown_as_wall_time() -> None:
    assert wall_time(since_s=90.0, now_s=100.0, wall_s=1_700_000_010.0) == "2023-11-14T22:13:20Z"


def test_a_queued_del_that_cannot_be_read_now_waits_and_one_that_makes_no_sense_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    sound, senseless = tmp_path / "spool" / "c1@eth0", tmp_path / "spool" / "c2@eth0"
    sound.write_bytes(
        b"POST /v1/cni/DEL HTTP/1.1\r\nCni-Containerid: c1\r\nCni-Ifname: eth0\r\n\r\n"
        b'{"cniVersion":"1.0.0","name":"enitide"}'
    )
    senseless.write_bytes(b"no request at all")
    with monkeypatch.context() as full:

        def no_descriptors(self: Path, *_: object, **__: object) -> None:
            raise OSError(errno.EMFILE, "too many open files", str(self))

        full.setattr(Path, "open", no_descriptors)
        assert list(spool.waiting()) == []
    assert sound.exists()
    assert [call.owner for _, call in spool.waiting()] == ["c1/eth0"]
    assert not senseless.exists()
