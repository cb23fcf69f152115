"""Where the API server is and how we prove who we are, from a kubeconfig or from inside a pod.

Plain credentials (token, token file, client certificate) and the in-cluster service account are read here. Everything
else a kubeconfig may hold (exec plugins, auth providers) is left to the official client's loader, imported only then:
it costs 20 MB of resident memory, a sixth of what an agent may use. Token files are read again when they change,
because bound service account tokens are rotated under a running program.

It never writes a kubeconfig and never keeps a secret longer than the file that holds it says so.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from enitide_api.errors import SettingsInvalid

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PLAIN_USER_KEYS = frozenset(
    {"token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data"}
)
_YAML_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TokenSource(Protocol):
    """Gives the bearer token to send now, '' for none. May take time (an exec plugin does)."""

    async def token(self) -> str: ...


class FixedToken:
    """A token that stands in the kubeconfig itself, or none."""

    def __init__(self, value: str = "") -> None:
        self._value = value

    async def token(self) -> str:
        """The token."""
        return self._value


class FileToken:
    """A token in a file, read again whenever the file is another one or has another time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._value = ""

    async def token(self) -> str:
        """The token of now. `OSError` if the file is gone."""
        # one stat of a tmpfs file costs microseconds; a rotated token is used from the next request on
        facts = os.stat(self._path)  # noqa: PTH116
        stamp = (facts.st_mtime_ns, facts.st_ino)
        if stamp != self._stamp:
            self._value = self._path.read_text(encoding="utf-8").strip()
            self._stamp = stamp
        return self._value


class LoaderToken:
    """A token that the official loader obtained; its hook renews it (an exec plugin may run for seconds)."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration

    async def token(self) -> str:
        """The token of now, renewed if it has expired."""
        hook: Callable[[Any], None] | None = self._configuration.refresh_api_key_hook
        if hook is not None:
            await asyncio.to_thread(hook, self._configuration)
        value: str = self._configuration.api_key.get("BearerToken", "")
        return value.removeprefix("Bearer ")


@dataclass(frozen=True, slots=True)
class Credentials:
    """`server` is the base URL without a trailing slash; `tls` is None for plain http."""

    server: str
    tls: ssl.SSLContext | None
    token_source: TokenSource
    tls_server_name: str = ""
    namespace: str = "default"
    proxy: str = ""


def load(kubeconfig: str | None, environment: Mapping[str, str] = os.environ) -> Credentials:
    """From this kubeconfig; without one from `$KUBECONFIG`, the pod's service account, or `~/.kube/config`.

    `SettingsInvalid` names what is missing or wrong.
    """
    chosen = kubeconfig or environment.get("KUBECONFIG", "")
    if not chosen and environment.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(environment, SERVICE_ACCOUNT)
    path = Path(chosen).expanduser() if chosen else Path("~/.kube/config").expanduser()
    try:
        if os.pathsep in chosen and not path.exists():
            return _by_official_loader(chosen)  # a list of files, to be merged
        if not path.exists():
            raise SettingsInvalid(
                f"there is no kubeconfig at {path} and this is not a pod; name one by --kubeconfig or KUBECONFIG"
            )
        return _from_file(path)
    except OSError as error:  # of the file itself or of one that it names
        named = f"{error.filename}: " if error.filename and str(error.filename) != str(path) else ""
        raise SettingsInvalid(f"kubeconfig {path} cannot be used: {named}{error.strerror or error}") from error
    except ValueError as error:
        raise SettingsInvalid(f"kubeconfig {path} cannot be used: {error}") from error


def _in_cluster(environment: Mapping[str, str], folder: Path) -> Credentials:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    authority, token = folder / "ca.crt", folder / "token"
    for needed in (authority, token):
        if not needed.exists():
            raise SettingsInvalid(f"{needed} is missing: mount a service account token into this pod")
    bracketed = f"[{host}]" if ":" in host else host
    namespace = folder / "namespace"
    return Credentials(
        server=f"https://{bracketed}:{port}",
        tls=ssl.create_default_context(cafile=str(authority)),
        token_source=FileToken(token),
        namespace=namespace.read_text(encoding="utf-8").strip() if namespace.exists() else "default",
    )


def _from_file(path: Path) -> Credentials:
    """`ValueError` with what is wrong in the file, `OSError` for a file that cannot be read."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _YAML_LOADER)  # noqa: S506  a safe loader, see above
        context = _named(document, "contexts", "context", document["current-context"])
        cluster = _named(document, "clusters", "cluster", context["cluster"])
        user = _named(document, "users", "user", context["user"]) if context.get("user") else {}
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())}") from error
    except KeyError as error:
        raise ValueError(f"the key {error} is missing") from error
    except (TypeError, AttributeError) as error:
        raise ValueError("it is no kubeconfig: clusters, contexts, users and current-context are needed") from error
    if not set(user) <= _PLAIN_USER_KEYS:
        return _by_official_loader(str(path))
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ValueError(f"clusters[].cluster.server must be a URL, not {server!r}")
    return Credentials(
        server=server,
        tls=_tls(cluster, user, path.parent) if server.startswith("https://") else None,
        token_source=_token_source(user, path.parent),
        tls_server_name=str(cluster.get("tls-server-name", "")),
        namespace=str(context.get("namespace") or "default"),
        proxy=str(cluster.get("proxy-url", "")),
    )


def _named(document: Mapping[str, Any], collection: str, field: str, name: str) -> dict[str, Any]:
    for entry in document.get(collection) or ():
        if entry["name"] == name:
            return dict(entry[field] or {})
    raise ValueError(f"there is no entry {name!r} in {collection}")


def _token_source(user: Mapping[str, Any], base: Path) -> TokenSource:
    if user.get("tokenFile"):
        return FileToken(base / str(user["tokenFile"]))
    return FixedToken(str(user.get("token") or ""))


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], base: Path) -> ssl.SSLContext:
    """Server verification and our own certificate. Data given inline goes through a file that is removed at once."""
    if cluster.get("insecure-skip-tls-verify"):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif cluster.get("certificate-authority-data"):
        authority = _decoded(cluster, "certificate-authority-data").decode("ascii")
        context = ssl.create_default_context(cadata=authority)
    elif cluster.get("certificate-authority"):
        text = (base / str(cluster["certificate-authority"])).read_text(encoding="ascii")  # ssl would not name the file
        context = ssl.create_default_context(cadata=text)
    else:
        context = ssl.create_default_context()
    certificate = _pem(user, "client-certificate", base)
    if certificate:
        with tempfile.NamedTemporaryFile("wb") as file:  # ssl loads a certificate only from a path; mode 0600
            file.write(certificate + b"\n" + _pem(user, "client-key", base))
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(user: Mapping[str, Any], key: str, base: Path) -> bytes:
    if user.get(f"{key}-data"):
        return _decoded(user, f"{key}-data")
    return (base / str(user[key])).read_bytes() if user.get(key) else b""


def _decoded(entry: Mapping[str, Any], key: str) -> bytes:
    """Strictly: what is no base64 would otherwise decode to nothing, and nothing means the system's authorities."""
    try:
        return base64.b64decode("".join(str(entry[key]).split()), validate=True)
    except ValueError as error:
        raise ValueError(f"{key} is no base64") from error


def _by_official_loader(path: str) -> Credentials:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import load_kube_config

    configuration = Configuration()
    try:
        load_kube_config(path, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise SettingsInvalid(f"kubeconfig {path} cannot be used: {error}") from error
    context: ssl.SSLContext | None = None
    if configuration.host.startswith("https://"):
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return Credentials(
        server=configuration.host.rstrip("/"),
        tls=context,
        token_source=LoaderToken(configuration),
        tls_server_name=configuration.tls_server_name or "",
        proxy=configuration.proxy or "",
    )
