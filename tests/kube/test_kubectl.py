"""kubectl on the control plane: people and scripts use it, so it must work on either."""

import json
import os
import shutil
import subprocess

import pytest
from support.kube_contract import WIDGET

pytestmark = [
    pytest.mark.kube,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


@pytest.fixture
def kubectl(kubeconfig, tmp_path):
    environment = os.environ | {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(tmp_path)}

    def run(*arguments, given="", code=0):
        done = subprocess.run(
            ["kubectl", "--request-timeout=20s", *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def manifest(name, **spec):
    metadata = {"name": name}
    return json.dumps({"apiVersion": WIDGET.api_version, "kind": WIDGET.kind, "metadata": metadata, "spec": spec})


def test_apply_creates_configures_and_then_leaves_unchanged(kubectl, name):
    assert f"{name} created" in kubectl("apply", "-f", "-", given=manifest(name, size=5))
    assert f"{name} configured" in kubectl("apply", "-f", "-", given=manifest(name, size=6, tags={"a": "b"}))
    assert f"{name} unchanged" in kubectl("apply", "-f", "-", given=manifest(name, size=6, tags={"a": "b"}))
    assert f"{name} configured" in kubectl("apply", "-f", "-", given=manifest(name, size=6))
    spec = json.loads(kubectl("get", "widgets", name, "-o", "json"))["spec"]
    assert spec == {"size": 6, "mode": "open", "inner": {"depth": 7}}
    kubectl("delete", "widgets", name)


def test_get_prints_the_columns_that_the_definition_names(kubectl, name):
    kubectl("create", "-f", "-", given=manifest(name, size=5))
    head, row = kubectl("get", "wi", name).splitlines()
    assert head.split() == ["NAME", "SIZE", "PHASE", "AGE"]
    assert row.split()[:2] == [name, "5"]
    kubectl("delete", "widgets", name)


def test_an_unknown_key_is_refused_by_name(kubectl, name):
    error = kubectl("create", "-f", "-", given=manifest(name, colour="red"), code=1)
    assert "spec.colour" in error


def test_a_broken_rule_shows_its_sentence(kubectl, name):
    error = kubectl("apply", "-f", "-", given=manifest(name, size=9, limit=8), code=1)
    assert "size is above limit: raise limit" in error


def test_built_in_kinds_are_labelled_tainted_and_patched(kubectl, name):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"a": "b"}}}
    kubectl("apply", "-f", "-", given=json.dumps(node))
    kubectl("label", "node", name, "c=d")
    kubectl("taint", "node", name, "enitide.io/x=y:NoSchedule")
    kubectl("patch", "node", name, "-p", json.dumps({"metadata": {"annotations": {"e": "f"}}}))
    got = json.loads(kubectl("get", "node", name, "-o", "json"))
    assert got["metadata"]["labels"] == {"a": "b", "c": "d"}
    assert got["metadata"]["annotations"]["e"] == "f"
    assert "enitide.io/x" in {taint["key"] for taint in got["spec"]["taints"]}
    kubectl("taint", "node", name, "enitide.io/x-")
    got = json.loads(kubectl("get", "node", name, "-o", "json"))
    assert "enitide.io/x" not in {taint["key"] for taint in got["spec"].get("taints", ())}
    kubectl("delete", "node", name)


def test_what_kubectl_makes_without_a_manifest_comes_to_be(kubectl, name):
    kubectl("create", "namespace", name)
    kubectl("-n", name, "create", "configmap", "c", "--from-literal=a=b=c")
    kubectl("-n", name, "create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("-n", name, "create", "serviceaccount", "me")
    assert json.loads(kubectl("-n", name, "get", "configmap", "c", "-o", "json"))["data"] == {"a": "b=c"}
    assert json.loads(kubectl("-n", name, "get", "secret", "s", "-o", "json"))["data"] == {"a": "Yg=="}
    assert "me" in kubectl("-n", name, "get", "serviceaccounts", "-o", "name")
    kubectl("delete", "namespace", name)


def test_rights_are_asked_and_kinds_are_discovered(kubectl):
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    resources = kubectl("api-resources", "--api-group", WIDGET.group)
    assert resources.splitlines()[1].split() == ["widgets", "wi", "contract.enitide.io/v1", "false", "Widget"]
