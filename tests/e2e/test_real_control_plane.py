"""The control plane itself: it ends completely however it ends, and others can take its place."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.real import ENICLASSES, cluster_in, deployment, make_node, until

from enitide_api.errors import KubeNotFound, KubeUnavailable, LabFailed
from enitide_kube.client import HttpKube
from enitide_lab.realkube import start_real, stop_leftovers
from enitide_lab.realkube.build import KUBE, built
from enitide_lab.realkube.control_plane import exists

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A control plane of our own without the chart, whatever the environment names."""
    with cluster_in(tmp_path_factory.mktemp("bare"), environ={}) as started:
        yield started


def gone(handles):
    return not [handle for handle in handles if not select.select([handle], [], [], 30)[0]]


def test_the_real_scheduler_binds_the_pods_of_a_deployment_to_a_ready_node(bare):
    kubelet = make_node(bare, "one")
    bare.admin.call("POST", "/apis/apps/v1/namespaces/default/deployments", deployment("web", 2))
    until(
        lambda: len(kubelet.get("/api/v1/pods?fieldSelector=spec.nodeName%3Done")["items"]) == 2,
        "the scheduler does not bind the pods",
    )


def test_an_existing_cluster_takes_its_place_and_is_left_as_it_was(bare, tmp_path):
    environ = {"KUBECONFIG": str(bare.kubeconfig)}
    with start_real(tmp_path / "attached", environ=environ) as attached:
        assert attached.pids() == {}
        attached.install_chart()
        make_node(attached, "joined")
        agent = attached.rest_for("agent", node="joined")
        assert agent.get("/api/v1/nodes/joined")
        assert exists(bare.admin, f"{ENICLASSES}/default")
    until(lambda: not exists(bare.admin, ENICLASSES), "the definitions are still there")
    assert not exists(bare.admin, "/api/v1/nodes/joined")
    with pytest.raises(KubeNotFound):
        bare.admin.get("/api/v1/namespaces/kube-system/serviceaccounts/enitide-agent")


def test_what_an_existing_cluster_had_before_is_not_removed(bare, tmp_path):
    mine = "/api/v1/namespaces/kube-system/serviceaccounts/enitide-operator"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "enitide-operator"}}
    bare.admin.call("POST", "/api/v1/namespaces/kube-system/serviceaccounts", account)
    with start_real(tmp_path / "attached", environ={"KUBECONFIG": str(bare.kubeconfig)}) as attached:
        attached.install_chart()
    assert exists(bare.admin, mine)
    bare.admin.call("DELETE", mine)


def test_a_killed_parent_takes_the_whole_control_plane_with_it(bare, tmp_path):
    command = [sys.executable, "-m", "enitide_lab.realkube", "run", str(tmp_path / "killed")]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        assert parent.stdout.readline().startswith("export KUBECONFIG=")
        record = json.loads((tmp_path / "killed" / "children.json").read_text())
        assert {item["name"] for item in record} >= {"etcd", "apiserver"}
        handles = [os.pidfd_open(item["pid"]) for item in record]
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    assert gone(handles)
    for handle in handles:
        os.close(handle)
    assert stop_leftovers(tmp_path / "killed") == ()


@pytest.fixture
def namespace():
    if os.geteuid() != 0:
        pytest.skip("making a network namespace needs root")
    name = f"enitide-real-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


async def test_an_existing_cluster_is_reached_inside_a_network_namespace_under_its_own_name(bare, tmp_path, namespace):
    environ = {"KUBECONFIG": str(bare.kubeconfig)}
    there = {"netns": namespace, "listen_address": "127.0.0.1", "port": 6443}
    with start_real(tmp_path / "attached", environ=environ, **there) as attached:
        assert attached.server == "https://127.0.0.1:6443"
        assert attached.admin.get("/version")["major"] == "1"
        async with HttpKube.connect(str(attached.kubeconfig), "test") as kube:
            assert kube.server == attached.server
        kubelet = attached.rest_for("kubelet", node="elsewhere")
        assert kubelet.get("/api/v1/pods?fieldSelector=spec.nodeName%3Delsewhere")["items"] == []
    with pytest.raises(KubeUnavailable):
        attached.admin.get("/version")


def test_assets_take_its_place_and_it_runs_inside_a_network_namespace(bare, tmp_path, namespace):
    kube = built(KUBE)
    if kube is None:
        pytest.skip("the control plane is not built here, so there are no assets to try")
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "etcd").symlink_to("/usr/bin/etcd")
    (assets / "kube-apiserver").write_text(f'#!/bin/sh\nexec {kube} kube-apiserver "$@"\n')
    (assets / "kube-apiserver").chmod(0o755)
    environ = {"KUBEBUILDER_ASSETS": str(assets)}
    with start_real(tmp_path / "inside", environ=environ, netns=namespace) as inside:
        assert not inside.complete
        assert set(inside.pids()) == {"etcd", "apiserver"}
        assert inside.admin.get("/version")["major"] == "1"
        there = namespace.stat().st_ino
        assert {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in inside.pids().values()} == {there}


def test_assets_without_an_api_server_are_refused_before_anything_starts(tmp_path):
    (tmp_path / "etcd").touch()
    with pytest.raises(LabFailed, match="no kube-apiserver"):
        start_real(tmp_path / "cluster", environ={"KUBEBUILDER_ASSETS": str(tmp_path)})


def test_a_folder_with_an_earlier_clusters_data_is_refused(tmp_path):
    (tmp_path / "etcd").mkdir()
    if built(KUBE) is None:
        pytest.skip("no real control plane: it is not built yet (`make test-real` builds it)")
    with pytest.raises(LabFailed, match="an earlier cluster"):
        start_real(tmp_path, environ={})
