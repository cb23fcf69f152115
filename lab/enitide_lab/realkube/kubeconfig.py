"""Writes kubeconfig files: one user, one cluster, one context each, certificates by content so that a file is enough.

A service account's token is written as a file of its own and named by path, as a pod has it, so that it can be renewed
without touching the kubeconfig.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from enitide_lab.realkube.pki import Pair


def write_kubeconfig(
    path: Path,
    *,
    server: str,
    authority: Path | None,
    user: str,
    pair: Pair | None = None,
    token_file: Path | None = None,
    tls_server_name: str = "",
) -> Path:
    """`path`, readable by its owner alone. `authority` is the CA's file, None where the system's list serves."""
    cluster = {"server": server} | ({"tls-server-name": tls_server_name} if tls_server_name else {})
    if authority is not None:
        cluster["certificate-authority-data"] = _content(authority)
    credentials: dict[str, str] = {}
    if pair is not None:
        credentials["client-certificate-data"] = _content(pair.certificate)
        credentials["client-key-data"] = _content(pair.key)
    if token_file is not None:
        credentials["tokenFile"] = str(token_file)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "enitide", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": user, "context": {"cluster": "enitide", "user": user}}],
        "current-context": user,
    }
    write_private(path, json.dumps(document, indent=1))  # JSON is YAML
    return path


def write_private(path: Path, text: str) -> None:
    """Write a secret: never readable by others, never half there."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.rename(path)


def _content(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
