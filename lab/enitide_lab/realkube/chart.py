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

from enitide_api.errors import KubeError, KubeForbidden, KubeInvalid, KubeNotFound, LabFailed
from enitide_lab.realkube.access import NODE_CLAIM
from enitide_lab.realkube.build import HELM, ensure_built
from enitide_lab.realkube.control_plane import wait_for
from enitide_lab.realkube.rest import Credentials, Rest

CHART = Path(__file__).resolve().parents[3] / "charts" / "enitide"
WORKLOADS = frozenset({"Deployment", "DaemonSet"})
FIELD_MANAGER = "enitide-lab"
_CRD = "CustomResourceDefinition"
_WITHIN_S = 30.0
_ENINODES = "/apis/enitide.io/v1alpha1/eninodes"

Object = dict[str, Any]


def render(namespace: str, values: Mapping[str, Any], *, release: str = "enitide") -> list[Object]:
    """The chart's objects, definitions included. `LabFailed` with helm's own words when it refuses the values."""
    if not (CHART / "Chart.yaml").exists():
        raise LabFailed(f"there is no chart at {CHART}: run from a source checkout")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        arguments = ("template", release, str(CHART), "--namespace", namespace, "--include-crds", "--values", file.name)
        done = subprocess.run((str(ensure_built(HELM)), *arguments), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabFailed(f"helm refuses to render {CHART}: {done.stderr.strip()}")
    return [item for item in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if item]


def install(admin: Rest, objects: Sequence[Object]) -> None:
    """Apply `objects`; returns when the definitions are served and the policies enforced."""
    definitions = [item for item in objects if item["kind"] == _CRD]
    apply(admin, definitions)
    for item in definitions:
        name = item["metadata"]["name"]
        wait_for(lambda name=name: _established(admin, name), _WITHIN_S, f"{name} is not served")  # type: ignore[misc]
    apply(admin, [item for item in objects if item["kind"] != _CRD])
    for item in objects:
        if item["kind"] == "ServiceAccount" and item["metadata"]["name"] == "enitide-agent":
            probe = _stranger(admin, item["metadata"]["namespace"])
            wait_for(lambda probe=probe: _refused(probe), _WITHIN_S, "the admission policy is not enforced")  # type: ignore[misc]


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


def path_of(admin: Rest, item: Object, plurals: dict[str, dict[str, tuple[str, bool]]]) -> str:
    """Where the object lives, by the server's own discovery; `plurals` remembers that from call to call."""
    version, kind, metadata = item["apiVersion"], item["kind"], item["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if version not in plurals:
        resources = admin.get(root)["resources"]
        plurals[version] = {
            r["kind"]: (r["name"], r["namespaced"]) for r in resources if "/" not in r["name"] and "kind" in r
        }
    if kind not in plurals[version]:
        raise LabFailed(f"the API server knows no {kind} in {version}")
    plural, namespaced = plurals[version][kind]
    if not namespaced:
        return f"{root}/{plural}/{metadata['name']}"
    return f"{root}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"


def _established(admin: Rest, name: str) -> bool:
    item = admin.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    conditions = item.get("status", {}).get("conditions", [])
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _stranger(admin: Rest, namespace: str) -> Rest:
    """The administrator in the place of an agent whose token names another node than the one it will write."""
    credentials = Credentials(
        admin.credentials.certificate,
        admin.credentials.key,
        admin.credentials.token,
        f"system:serviceaccount:{namespace}:enitide-agent",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
        ((NODE_CLAIM, "not-the-probe"),),
    )
    return replace(admin, credentials=credentials)


def _refused(stranger: Rest) -> bool:
    body = {"apiVersion": "enitide.io/v1alpha1", "kind": "ENINode", "metadata": {"name": "enitide-probe"}}
    try:
        stranger.call("POST", f"{_ENINODES}?dryRun=All", body)
    except (KubeForbidden, KubeInvalid):
        return True
    except KubeError as error:
        raise LabFailed(f"cannot probe the admission policy: {error}") from error
    return False
