"""What charts/enitide renders, by helm itself: compared with files, and held to the rules that no change may break.

`GOLDEN=write pytest tests/golden` writes the files anew; look at the difference before committing it.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from enitide_lab.realkube.build import HELM, built
from enitide_operator.cli.rights import RIGHTS, TAINTING

pytestmark = pytest.mark.unit

HERE = Path(__file__).resolve().parent / "chart"
CHART = HERE.parent.parent.parent / "charts" / "enitide"
SETS = ("default", "production", "minimal")


def helm(*arguments):
    program = shutil.which("helm") or built(HELM)
    if program is None:
        pytest.skip("helm is neither on PATH nor built (`make test-real` builds it)")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=60)


def render(values, *more):
    done = helm(
        "template", "enitide", str(CHART), "--namespace", "kube-system", "--kube-version", "1.34.2",
        "--values", str(values), *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(name, *more):
    return [item for item in yaml.safe_load_all(render(HERE / f"values-{name}.yaml", *more)) if item]


def find(objects, kind, name):
    return next(item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)


def rules(objects):
    return [(o, rule) for o in objects if o["kind"] in ("ClusterRole", "Role") for rule in o["rules"]]


@pytest.mark.parametrize("name", SETS)
def test_the_chart_renders_what_the_golden_file_says(name):
    text = render(HERE / f"values-{name}.yaml")
    golden = HERE / f"rendered-{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text(), f"{golden} differs; GOLDEN=write writes it anew"


def test_helm_lint_finds_nothing():
    done = helm("lint", "--strict", str(CHART), "--kube-version", "1.34.2")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "word", ["helm.sh/hook", ".Capabilities", "lookup ", ".Release.Service ", "genCA", "randAlpha"]
)
def test_no_template_uses_what_the_add_on_service_refuses(word):
    for template in (CHART / "templates").rglob("*"):
        assert not template.is_file() or word not in template.read_text() + " ", template


@pytest.mark.parametrize("name", SETS)
def test_no_rule_has_a_wildcard_and_none_can_raise_its_own_rights(name):
    for owner, rule in rules(rendered(name)):
        words = [word for values in rule.values() for word in values]
        assert not [word for word in words if "*" in word], owner["metadata"]["name"]
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert not {"secrets", "serviceaccounts/token", "pods/exec", "nodes/proxy"} & set(rule["resources"])


def test_only_the_operator_writes_status_and_only_agents_write_spec():
    writers = {}
    collectors = set()
    for owner, rule in rules(rendered("default")):
        if rule["verbs"] == ["delete"] and rule["resources"] == ["eninodes"]:
            collectors.add(owner["metadata"]["name"])  # of whole ENINodes whose node is gone
        elif {"create", "update", "patch", "delete"} & set(rule["verbs"]) and "enitide.io" in rule["apiGroups"]:
            for resource in rule["resources"]:
                writers.setdefault(resource, set()).add(owner["metadata"]["name"])
    assert collectors == {"enitide-operator"}
    assert writers.pop("eninodes/status") == {"enitide-operator"}
    assert writers.pop("eniclasses/status") == {"enitide-operator"}
    assert writers.pop("eninodes") == {"enitide-agent"}
    for resource in (
        "securityidentities",
        "securityidentities/status",
        "endpointbatches",
        "subnetreports",
        "subnetreports/status",
    ):
        assert writers.pop(resource) == {"enitide-operator"}
    assert writers in ({}, {"eniclasses": {"enitide-operator"}})


def test_the_rights_that_preflight_asks_for_are_those_that_the_chart_grants():
    def granted(*values):
        found = set()
        for owner, rule in rules(rendered("default", *values)):
            if owner["metadata"]["name"] == "enitide-operator":
                found |= {(g, r, v) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
        return found

    asked = {(each.group, each.resource, verb) for each in RIGHTS for verb in each.verbs}
    assert asked <= granted()
    ours = {("", "nodes"), ("", "pods"), *((each.group, each.resource) for each in RIGHTS)}
    assert {each for each in granted() if each[:2] in ours} <= asked
    (tainting,) = [("", "nodes", verb) for verb in TAINTING.verbs]
    assert tainting in granted("--set", "settings.operator.taint_nodes=true")


def test_only_the_setting_gives_the_right_to_taint_nodes():
    def may_patch_nodes(*values):
        found = [rule for _, rule in rules(rendered("default", *values)) if rule["resources"] == ["nodes"]]
        return any("patch" in rule["verbs"] for rule in found)

    assert not may_patch_nodes()
    assert may_patch_nodes("--set", "settings.operator.taint_nodes=true")


def test_nobody_but_the_operator_may_write_who_is_who():
    policy = find(rendered("default"), "ValidatingAdmissionPolicy", "enitide-identities")["spec"]
    (rule,) = policy["matchConstraints"]["resourceRules"]
    assert set(rule["resources"]) == {"securityidentities", "securityidentities/status", "endpointbatches"}
    assert set(rule["operations"]) == {"CREATE", "UPDATE", "DELETE"}
    (validation,) = policy["validations"]
    assert validation["expression"].endswith('== "system:serviceaccount:kube-system:enitide-operator"')


def test_the_operator_is_not_root_and_the_agent_is_not_privileged():
    objects = rendered("default")
    operator = find(objects, "Deployment", "enitide-operator")["spec"]["template"]["spec"]
    assert operator["securityContext"]["runAsNonRoot"]
    assert operator["securityContext"]["runAsUser"] == 65532
    assert operator["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    agent = find(objects, "DaemonSet", "enitide-agent")["spec"]["template"]["spec"]
    main = agent["containers"][0]["securityContext"]
    assert main["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "SYS_ADMIN", "BPF", "PERFMON"]}
    for pod in (operator, agent):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"]
            assert context["allowPrivilegeEscalation"] is False
            assert not context.get("privileged")


def test_both_programs_run_without_a_pod_network_and_on_every_node():
    objects = rendered("default")
    for kind, name in (("Deployment", "enitide-operator"), ("DaemonSet", "enitide-agent")):
        pod = find(objects, kind, name)["spec"]["template"]["spec"]
        assert pod["hostNetwork"]
        assert pod["dnsPolicy"] == "Default"
        assert pod["tolerations"] == [{"operator": "Exists"}]
        assert pod["priorityClassName"].startswith("system-")


def test_a_digest_is_what_is_pulled_and_no_template_names_an_image():
    for item in rendered("production"):
        if item["kind"] in ("Deployment", "DaemonSet"):
            pod = item["spec"]["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert re.fullmatch(r"example\.test/network/enitide:v0\.1\.0@sha256:[0-9a-f]{64}", container["image"])


def test_settings_reach_the_programs_and_their_probes():
    objects = rendered("production")
    config = yaml.safe_load(find(objects, "ConfigMap", "enitide")["data"]["config.yaml"])
    assert config["operator"]["cluster_name"] == "production"
    assert config["agent"] == {"add_wait": "30s", "mtu": 8500, "forwarding": "stack"}
    container = find(objects, "Deployment", "enitide-operator")["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["port"] == container["ports"][0]["containerPort"] == 9908
    assert find(objects, "Role", "enitide-operator")["metadata"]["namespace"] == "networking"
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": "api.example.test"} in container["env"]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ("settings.operator.cluster_nam=x", "/settings/operator"),
        ("settings.agent.run_dir=/elsewhere", "/settings/agent"),
        ("defaultClass.spec.pool.preAlloc=3", "/defaultClass/spec/pool"),
        ("image.digest=abc", "/image/digest"),
        ("operator.replica=3", "/operator"),
        ("hostnetwork=false", "at ''"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(wrong, where):
    done = helm("template", "enitide", str(CHART), "--kube-version", "1.34.2", "--set", wrong)
    assert done.returncode != 0
    assert where in done.stderr


def test_every_value_stands_in_the_schema_so_that_none_is_refused_by_its_own_default():
    import json

    def keys(values, schema, where=""):
        for name, value in values.items():
            assert name in schema["properties"], f"{where}.{name}"
            inner = schema["properties"][name]
            if isinstance(value, dict) and "properties" in inner and value:
                keys(value, inner, f"{where}.{name}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    keys(yaml.safe_load((CHART / "values.yaml").read_text()), schema)


@pytest.mark.parametrize("program", ["operator", "agent"])
def test_what_both_programs_must_have_alike_is_written_at_either(program):
    more = ("--set", f"settings.{program}.policy=audit", "--set", f"settings.{program}.identity_labels={{app,tier}}")
    more += ("--set", f"settings.{program}.host_policy=true")
    config = yaml.safe_load(find(rendered("minimal", *more), "ConfigMap", "enitide")["data"]["config.yaml"])
    for each in ("operator", "agent"):
        assert config[each]["policy"] == "audit"
        assert config[each]["host_policy"] is True
        assert config[each]["identity_labels"] == ["app", "tier"]


def test_operator_and_agents_cannot_differ_in_policy():
    done = helm(
        "template", "enitide", str(CHART), "--kube-version", "1.34.2", "--values", str(HERE / "values-minimal.yaml"),
        "--set-string", "settings.operator.policy=off", "--set", "settings.agent.policy=enforce",
    )  # fmt: skip
    assert done.returncode != 0
    assert 'settings.operator.policy is "off" and settings.agent.policy is "enforce"' in done.stderr
