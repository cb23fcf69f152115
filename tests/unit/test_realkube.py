"""Starting and ending programs, the build cache, and who a certificate says its holder is."""

import json
import os
import subprocess
import sys

import pytest
from cryptography import x509

from enitide_api.errors import LabFailed, NamespaceMissing
from enitide_lab.realkube import build, netns
from enitide_lab.realkube.children import Children, stop_leftovers
from enitide_lab.realkube.existing import rest_of
from enitide_lab.realkube.kubeconfig import write_kubeconfig
from enitide_lab.realkube.pki import Authority
from enitide_lab.realkube.programs import why_unavailable

pytestmark = pytest.mark.unit

IDLE = (sys.executable, "-S", "-c", "import signal; signal.pause()")
STUBBORN = (
    sys.executable, "-S", "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()",
)  # fmt: skip


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_stop_ends_every_program_and_forgets_them(tmp_path):
    children = Children(tmp_path)
    children.start("one", IDLE)
    children.start("two", IDLE)
    pids = list(children.pids().values())
    assert len(json.loads((tmp_path / "children.json").read_text())) == 2
    children.stop()
    assert not [pid for pid in pids if running(pid)]
    assert not (tmp_path / "children.json").exists()
    children.stop()


def test_what_a_dead_predecessor_left_is_ended_by_the_record_alone(tmp_path):
    children = Children(tmp_path, die_with_parent=False)
    children.start("one", IDLE)
    assert stop_leftovers(tmp_path) == ("one",)
    assert stop_leftovers(tmp_path) == ()
    assert not children.alive("one")
    children.stop()


def test_a_stranger_that_was_given_the_same_pid_is_not_hit(tmp_path):
    stranger = subprocess.Popen(IDLE)
    try:
        record = [{"name": "etcd", "pid": stranger.pid, "start_ticks": 1}]
        (tmp_path / "children.json").write_text(json.dumps(record))
        assert stop_leftovers(tmp_path) == ()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_that_ignores_the_request_to_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("enitide_lab.realkube.children._GRACE_S", 0.2)
    children = Children(tmp_path)
    children.start("stubborn", STUBBORN)
    pid = children.pids()["stubborn"]
    while "up" not in children.log("stubborn").read_text():
        assert children.alive("stubborn")
    children.stop()
    assert not running(pid)


def test_a_program_that_ended_is_reported_with_the_end_of_its_log(tmp_path):
    children = Children(tmp_path)
    children.start("brief", (sys.executable, "-S", "-c", "print('no such flag: --x'); raise SystemExit(3)"))
    while children.alive("brief"):
        pass
    with pytest.raises(LabFailed, match=r"(?s)brief ended with code 3.*no such flag: --x"):
        children.require_alive("brief")
    children.stop()


def test_a_broken_record_is_reported_and_kept(tmp_path):
    (tmp_path / "children.json").write_text("[{]")
    with pytest.raises(LabFailed, match="not a record of ours"):
        stop_leftovers(tmp_path)
    assert (tmp_path / "children.json").exists()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program that a `go` of ours "builds": it counts its calls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tools = tmp_path / "bin"
    tools.mkdir()
    go = tools / "go"
    go.write_text(
        '#!/bin/sh\nif [ "$1" = env ]; then echo go1.24.0; exit; fi\n'
        f'echo x >>{tmp_path}/calls\n[ -e {tmp_path}/broken ] && {{ echo "main.go:3: syntax error" >&2; exit 1; }}\n'
        'while [ "$1" != -o ]; do shift; done; echo built >"$2"\n'
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    module = tmp_path / "module"
    module.mkdir()
    (module / "go.mod").write_text("module example\n")
    (module / "go.sum").write_text("")
    (module / "main.go").write_text("package main\n")
    return build.Program("thing", module, ".", "no time")


def calls(tmp_path):
    return len((tmp_path / "calls").read_text().splitlines())


def test_a_program_is_built_once_and_again_only_when_its_sources_change(program, tmp_path):
    assert build.built(program) is None
    first = build.ensure_built(program)
    assert build.ensure_built(program) == first == build.built(program)
    assert calls(tmp_path) == 1
    (program.module / "go.sum").write_text("another version\n")
    assert build.built(program) is None
    assert build.ensure_built(program) != first
    assert calls(tmp_path) == 2


def test_a_failed_build_says_why_and_leaves_nothing_in_the_cache(program, tmp_path):
    (tmp_path / "broken").touch()
    with pytest.raises(LabFailed, match="syntax error"):
        build.ensure_built(program)
    assert [path.name for path in build.cache_folder().iterdir()] == ["thing.lock"]


def test_a_missing_or_old_compiler_is_named_with_what_else_would_do(program, tmp_path, monkeypatch):
    (tmp_path / "bin" / "go").write_text("#!/bin/sh\necho go1.19.8\n")
    with pytest.raises(LabFailed, match=r"go1\.19\.8; 1\.21 or newer is needed; or set KUBECONFIG"):
        build.ensure_built(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabFailed, match="no `go` on PATH"):
        build.ensure_built(program)


def test_the_control_plane_is_told_the_version_that_its_go_mod_requires():
    assert any("-X k8s.io/component-base/version.gitVersion=v1." in flag for flag in build.KUBE.flags())


def test_a_cluster_or_assets_of_the_user_make_a_control_plane_available(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert why_unavailable({})
    assert why_unavailable({"KUBECONFIG": "/some/file"}) == ""
    assert why_unavailable({"KUBEBUILDER_ASSETS": "/some/folder"}) == ""


def test_a_certificate_names_its_user_and_groups_and_its_key_is_private(tmp_path):
    authority = Authority(tmp_path / "pki")
    authority.create()
    pair = authority.issue("kubelet-one", "system:node:one", ("system:nodes",))
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=system:node:one,O=system:nodes"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pair.certificate.read_bytes()))
    assert pair.key.stat().st_mode & 0o777 == 0o600


def test_a_kubeconfig_is_readable_by_its_owner_alone(tmp_path):
    path = write_kubeconfig(
        tmp_path / "config", server="https://127.0.0.1:1", authority=None, user="x", token_file=tmp_path / "token"
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["users"][0]["user"] == {"tokenFile": str(tmp_path / "token")}


def test_an_existing_clusters_token_and_authority_are_found(tmp_path):
    authority = Authority(tmp_path / "pki")
    authority.create()
    (tmp_path / "token").write_text("s3cret\n")
    path = write_kubeconfig(
        tmp_path / "config",
        server="https://127.0.0.1:1",
        authority=authority.pair.certificate,
        user="x",
        token_file=tmp_path / "token",
    )
    found = rest_of(path, tmp_path)
    assert (found.server, found.credentials.token) == ("https://127.0.0.1:1", "s3cret")
    assert found.authority.read_bytes() == authority.pair.certificate.read_bytes()


def test_a_missing_namespace_is_named_and_the_callers_own_stays(tmp_path):
    here = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
    with pytest.raises(NamespaceMissing, match="no network namespace at"):
        netns.free_port(tmp_path / "absent", "127.0.0.1")
    assert os.stat("/proc/thread-self/ns/net").st_ino == here  # noqa: PTH116
