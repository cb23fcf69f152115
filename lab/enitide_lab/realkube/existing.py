"""Reads an existing cluster's kubeconfig with the official client's loader, which knows every way to authenticate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enitide_api.errors import LabFailed
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
    bearer = settings.get_api_key_with_prefix("authorization") or ""
    certificate = Path(settings.cert_file) if settings.cert_file else None
    key = Path(settings.key_file) if settings.key_file else None
    authority = Path(settings.ssl_ca_cert) if settings.ssl_ca_cert else None
    return Rest(settings.host, authority, Credentials(certificate, key, bearer.removeprefix("Bearer ")))
