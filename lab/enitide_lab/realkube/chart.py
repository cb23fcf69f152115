"""Renders charts/enitide with helm and applies what comes out, so that rights in the lab are the chart's and no other.

Applied by server-side apply under a manager of its own: repeating it changes nothing. Definitions go first and are
waited for; then everything else; then the admission policy is waited for, because the API server starts to enforce a
new policy only some moments after it was accepted.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from enitide_api.errors import KubeForbidden, KubeNotFound, LabFailed
from enitide_lab.realkube.access import NODE_CLAIM
from enitide_lab.realkube.build import HELM, ensure_built
from enitide_lab.realkube.control_plane import exists, wait_for
from enitide_lab.realkube.rest import Rest

CHART = Path(__file__).resolve().parents[3] / "charts" / "enitide"
WORKLOADS = frozenset({"Deployment", "DaemonSet"})
FIELD_MANAGER = "enitide-lab"
_CRD = "CustomResourceDefinition"
_WITHIN_S = 30.0
_PROBE = "enitide-probe"
_ENINODES = "/apis/enitide.io/v1alpha1/eninodes"

Object = dict[str, Any]


def render(namespace: str, values: Mapping[str, Any], *, kube_version: str, release: str = "enitide") -> list[Object]:
    """The chart's objects, definitions included, for a server of `kube_version` (as its /version says).

    `LabFailed` with helm's own words when it refuses the values.
    """
    if not (CHART / "Chart.yaml").exists():
        raise LabFailed(f"there is no chart at {CHART}: run from a source checkout")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        what = ("template", release, str(CHART), "--namespace", namespace, "--include-crds")
        how = ("--values", file.name, "--kube-version", kube_version)
        command = (str(ensure_built(HELM)), *what, *how)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabFailed(f"helm refuses to render {CHART}: {done.stderr.strip()}")
    return [item for item in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if item]


def install(admin: Rest, objects: Sequence[Object]) -> None:
    """Apply `objects`; returns when the definitions are served and the policies enforced."""
    definitions = [item for item in objects if item["kind"] == _CRD]
    apply(admin, definitions)
    wait_for(lambda: all(_served(admin, item) for item in definitions), _WITHIN_S, "the definitions are not served")
    apply(admin, [item for item in objects if item["kind"] != _CRD])
    for item in objects:
        if item["kind"] == "ServiceAccount" and item["metadata"]["name"] == "enitide-agent":
            _wait_for_policy(admin, item["metadata"]["namespace"])


def apply(admin: Rest, objects: Iterable[Object], *, dry_run: bool = False) -> list[Object]:
    """Server-side apply of each; what the server answers. With `dry_run` all checks are made and nothing is kept."""
    query = f"?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
    answers = []
    plurals: dict[str, dict[str, tuple[str, bool]]] = {}
    for item in objects:
        path = path_of(admin, item, plurals)
        answers.append(admin.call("PATCH", path + query, item, Rest.APPLY))
    return answers


def uninstall(admin: Rest, objects: Sequence[Object]) -> None:
    """Delete `objects`, last first. What is gone already is no error; a definition takes its objects with it."""
    plurals: dict[str, dict[str, tuple[str, bool]]] = {}
    for item in reversed(objects):
        try:
            admin.call("DELETE", path_of(admin, item, plurals))
        except KubeNotFound:
            continue


def present(admin: Rest, item: Object) -> bool:
    """Whether the object exists; not if its very kind does not."""
    try:
        return exists(admin, path_of(admin, item, {}))
    except KubeNotFound:
        return False


def path_of(admin: Rest, item: Object, plurals: dict[str, dict[str, tuple[str, bool]]]) -> str:
    """Where the object lives, by discovery, which `plurals` remembers. `KubeNotFound` for unknown kinds."""
    version, kind, metadata = item["apiVersion"], item["kind"], item["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if version not in plurals:
        resources = admin.get(root)["resources"]
        plurals[version] = {
            r["kind"]: (r["name"], r["namespaced"]) for r in resources if "/" not in r["name"] and "kind" in r
        }
    if kind not in plurals[version]:
        raise KubeNotFound(f"the API server knows no {kind} in {version}", status=404)
    plural, namespaced = plurals[version][kind]
    if not namespaced:
        return f"{root}/{plural}/{metadata['name']}"
    return f"{root}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"


def _served(admin: Rest, definition: Object) -> bool:
    """Whether the definition is in force: each version answers a list and stands in discovery."""
    spec = definition["spec"]
    for version in spec["versions"]:
        root = f"/apis/{spec['group']}/{version['name']}"
        if not exists(admin, f"{root}/{spec['names']['plural']}?limit=1") or not exists(admin, root):
            return False
        if spec["names"]["kind"] not in {resource["kind"] for resource in admin.get(root)["resources"]}:
            return False
    return True


def _wait_for_policy(admin: Rest, namespace: str) -> None:
    """First the owner must be let through, so that the stranger's refusal is the policy's and not RBAC's delay."""
    owner, stranger = _agent(admin, namespace, _PROBE), _agent(admin, namespace, "another-node")
    wait_for(lambda: not _refused(owner), _WITHIN_S, "an agent's rights are not in force")
    wait_for(lambda: _refused(stranger), _WITHIN_S, "the admission policy is not enforced")


def _agent(admin: Rest, namespace: str, node: str) -> Rest:
    """The administrator in the place of an agent whose token names `node`."""
    credentials = replace(
        admin.credentials,
        impersonate_user=f"system:serviceaccount:{namespace}:enitide-agent",
        impersonate_groups=("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
        impersonate_extra=((NODE_CLAIM, node),),
    )
    return replace(admin, credentials=credentials)


def _refused(agent: Rest) -> bool:
    body = {"apiVersion": "enitide.io/v1alpha1", "kind": "ENINode", "metadata": {"name": _PROBE}, "spec": {}}
    try:
        agent.call("POST", f"{_ENINODES}?dryRun=All", body)
    except KubeForbidden:
        return True
    return False
