"""A CNI call as the plugin posts it: variables as headers, network configuration as body, checked before anything acts.

Pure. Each refusal is a `CniError` with the code of the CNI specification (1.1, section Error) and names what is wrong.
Unknown keys of a configuration are the specification's to ignore; unknown CNI_ARGS too where IgnoreUnknown says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from enitide_api.errors import CniError
from enitide_api.reasons import Reason
from enitide_ipam.records import PodRef

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
BAD_VERSION, BAD_VARIABLES, DECODE, BAD_CONFIG, TRY_LATER, INTERNAL = 1, 4, 6, 7, 11, 999

_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,199}")
_IFNAME = re.compile(r"[^/:\s\x00-\x20\x7f]{1,15}")


class Attachment(msgspec.Struct, frozen=True):
    """One entry of `cni.dev/valid-attachments`."""

    container_id: str = msgspec.field(name="containerID")
    ifname: str


class NetworkConfig(msgspec.Struct, frozen=True):
    """The part of a network configuration that is read."""

    cni_version: str = msgspec.field(name="cniVersion", default="0.1.0")
    name: str = ""
    type: str = ""
    prev_result: msgspec.Raw = msgspec.field(name="prevResult", default=msgspec.Raw(b""))
    valid_attachments: tuple[Attachment, ...] | None = msgspec.field(name="cni.dev/valid-attachments", default=None)


@dataclass(frozen=True, slots=True)
class Call:
    """A checked call. `owner` is `container id/interface`; `pod` is empty for a container that is no pod.

    `began_s`: when its plugin started, by CLOCK_BOOTTIME; None where the caller did not say (header `Enitide-Began`).
    """

    command: str
    config: NetworkConfig
    container_id: str = ""
    ifname: str = ""
    netns: str = ""
    pod: PodRef = field(default_factory=PodRef)
    began_s: float | None = None

    @property
    def owner(self) -> str:
        return f"{self.container_id}/{self.ifname}"


_CONFIG = msgspec.json.Decoder(NetworkConfig)


def bad(message: str, code: int, reason: Reason = Reason.CNI_BAD_REQUEST) -> CniError:
    return CniError(message, cni_code=code, reason=reason)


def parse_config(body: bytes) -> NetworkConfig:
    """The configuration; codes 6 (no JSON), 7 (wrong content), 1 (version)."""
    try:
        config = _CONFIG.decode(body)
    except msgspec.ValidationError as error:
        raise bad(f"network configuration: {error}", BAD_CONFIG) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad(f"network configuration is no JSON: {error}", DECODE) from error
    if config.cni_version not in VERSIONS:
        spoken = ", ".join(VERSIONS)
        text = f"cniVersion {config.cni_version!r} is not spoken here; write one of {spoken}"
        raise bad(text, BAD_VERSION, Reason.CNI_VERSION)
    if not config.name:
        raise bad("network configuration has no name: write the network's name", BAD_CONFIG)
    return config


def parse_args(text: str) -> dict[str, str]:
    """CNI_ARGS, `KEY=VALUE;KEY=VALUE`. Code 4 for anything else."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(";")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise bad(f"CNI_ARGS: {part!r} is not KEY=VALUE", BAD_VARIABLES)
        found[key] = value
    return found


def pod_of(args: Mapping[str, str]) -> PodRef:
    return PodRef(args.get("K8S_POD_NAMESPACE", ""), args.get("K8S_POD_NAME", ""), args.get("K8S_POD_UID", ""))


def parse_call(command: str, headers: Mapping[str, str], body: bytes) -> Call:
    """The call behind `POST /v1/cni/COMMAND`. `headers` have lower-case names."""
    named = headers.get("cni-command", command)
    if named != command:
        raise bad(f"CNI_COMMAND is {named!r}, but the call is {command}", BAD_VARIABLES)
    config = parse_config(body)
    if command in ("GC", "STATUS"):
        return Call(command, config)
    container_id, ifname, netns = (headers.get(f"cni-{name}", "") for name in ("containerid", "ifname", "netns"))
    if not _CONTAINER_ID.fullmatch(container_id):
        raise bad(f"CNI_CONTAINERID {container_id!r} is missing or no container id", BAD_VARIABLES)
    if not _IFNAME.fullmatch(ifname) or ifname in (".", ".."):
        raise bad(f"CNI_IFNAME {ifname!r} is missing or no interface name", BAD_VARIABLES)
    if command != "DEL" and not netns:
        raise bad("CNI_NETNS is missing: the path of the container's network namespace", BAD_VARIABLES)
    pod = pod_of(parse_args(headers.get("cni-args", "")))
    return Call(command, config, container_id, ifname, netns, pod, _began_s(headers.get("enitide-began", "")))


def _began_s(text: str) -> float | None:
    """Milliseconds as the plugin writes them; anything else was not said by our plugin and is not known."""
    return int(text) / 1000 if text.isascii() and text.isdigit() else None
