"""Takes an existing cluster: reads its kubeconfig, and writes one by which it is reached from another namespace.

The official client's loader reads it, because that knows every way to authenticate. Nothing is written into the
user's own file.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from enitide_api.errors import LabFailed
from enitide_lab.realkube.kubeconfig import write_private
from enitide_lab.realkube.relay import Relay
from enitide_lab.realkube.rest import Credentials, Rest


def rest_of(kubeconfig: Path, directory: Path) -> Rest:
    """A client for the current context. `LabFailed` if the file cannot be used."""
    from kubernetes import client, config

    settings: Any = client.Configuration()
    load: Any = config.load_kube_config
    try:
        load(config_file=str(kubeconfig), client_configuration=settings, temp_file_path=str(directory))
    except (config.ConfigException, OSError) as error:
        raise LabFailed(f"KUBECONFIG={kubeconfig} cannot be used: {error}") from error
    bearer: str = settings.api_key.get("BearerToken", "")
    certificate = Path(settings.cert_file) if settings.cert_file else None
    key = Path(settings.key_file) if settings.key_file else None
    authority = Path(settings.ssl_ca_cert) if settings.ssl_ca_cert else None
    name = settings.tls_server_name or ""
    credentials = Credentials(certificate, key, bearer.removeprefix("Bearer ").strip())
    return Rest(settings.host, authority, credentials, tls_server_name=name)


def bring_inside(
    admin: Rest, kubeconfig: Path, directory: Path, *, netns: Path, address: str, port: int
) -> tuple[Rest, Path, Relay]:
    """The cluster at `address`:`port` of `netns`: a client, the administrator's kubeconfig, and what carries it."""
    url = urlsplit(admin.server)
    host = url.hostname or ""
    default_port = 443 if url.scheme == "https" else 80
    relay = Relay(netns, address, port, (host, url.port or default_port))
    server = f"{url.scheme}://{f'[{address}]' if ':' in address else address}:{relay.port}"
    name = admin.tls_server_name or host
    target = directory / "kubeconfig-admin"
    write_private(target, json.dumps(_elsewhere(kubeconfig, server, name), indent=1))
    return replace(admin, server=server, netns=netns, tls_server_name=name), target, relay


def _elsewhere(kubeconfig: Path, server: str, tls_server_name: str) -> dict[str, Any]:
    """The current context of `kubeconfig` alone, its files by absolute paths, its server in another place."""
    document: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    context = _entry(document, "contexts", document["current-context"])
    cluster = _entry(document, "clusters", context["context"]["cluster"])
    user = _entry(document, "users", context["context"]["user"])
    for section in (cluster["cluster"], user["user"]):
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if key in section:
                section[key] = str((kubeconfig.parent / section[key]).resolve())
    cluster["cluster"] |= {"server": server, "tls-server-name": tls_server_name}
    cluster["cluster"].pop("proxy-url", None)
    kept = {"contexts": [context], "clusters": [cluster], "users": [user]}
    return {"apiVersion": "v1", "kind": "Config", "current-context": context["name"], **kept}


def _entry(document: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    return next(entry for entry in document[section] if entry["name"] == name)
