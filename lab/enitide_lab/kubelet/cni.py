"""Calls CNI plugins as a runtime does: the first conflist of the folder, its plugins in order, each a process.

The rules are those of the reference library: ADD passes each plugin's result to the next, DEL goes backwards with the
result that ADD gave, STATUS is asked only of configurations that speak 1.1 or newer. Plugins run in the node's network
namespace. Knows nothing of pods.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from enitide_api.errors import CniError
from enitide_api.reasons import Reason

CALL_TIMEOUT_S = 120.0
_TRY_LATER = 11


class NetworkConfig(msgspec.Struct, frozen=True, rename="camel"):
    """A conflist."""

    name: str
    plugins: tuple[dict[str, Any], ...]
    cni_version: str = "0.1.0"

    @property
    def has_status(self) -> bool:
        """Whether STATUS exists at this version."""
        return tuple(int(part) for part in self.cni_version.split(".")) >= (1, 1, 0)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where a node keeps its plugins and configurations. `netns` is the node's own network namespace."""

    conf_dir: Path
    bin_dir: Path
    netns: Path
    environment: Mapping[str, str]

    def config(self) -> NetworkConfig | None:
        """The first conflist in the order of names, or None: then the node's network is not ready."""
        for path in sorted(self.conf_dir.glob("*.conflist")):
            try:
                return msgspec.json.decode(path.read_bytes(), type=NetworkConfig)
            except FileNotFoundError:
                continue
            except msgspec.DecodeError as error:
                message = f"{path} is no CNI configuration: {error}"
                raise CniError(message, cni_code=6, reason=Reason.CNI_BAD_REQUEST) from error
        return None

    async def add(self, config: NetworkConfig, call: Mapping[str, str]) -> dict[str, Any]:
        """Connect a sandbox; the last plugin's result. `call`: the variables without CNI_COMMAND and CNI_PATH."""
        result: dict[str, Any] = {}
        for plugin in config.plugins:
            result = await self._run("ADD", config, plugin, call, result)
        return result

    async def delete(self, config: NetworkConfig, call: Mapping[str, str], result: Mapping[str, Any]) -> None:
        """Disconnect a sandbox."""
        for plugin in reversed(config.plugins):
            await self._run("DEL", config, plugin, call, result)

    async def status(self, config: NetworkConfig) -> None:
        """`CniError` if the network cannot take pods."""
        if config.has_status:
            for plugin in config.plugins:
                await self._run("STATUS", config, plugin, {}, {})

    async def _run(
        self,
        verb: str,
        config: NetworkConfig,
        plugin: Mapping[str, Any],
        call: Mapping[str, str],
        previous: Mapping[str, Any],
    ) -> dict[str, Any]:
        body = {**plugin, "name": config.name, "cniVersion": config.cni_version}
        if previous:
            body["prevResult"] = previous
        process = await asyncio.create_subprocess_exec(
            "nsenter",
            f"--net={self.netns}",
            "--",
            str(self.bin_dir / plugin["type"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment, **call, "CNI_COMMAND": verb, "CNI_PATH": str(self.bin_dir)},
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(msgspec.json.encode(body)), CALL_TIMEOUT_S)
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        return _result(verb, plugin["type"], process.returncode or 0, out, err)


def _result(verb: str, plugin: str, code: int, out: bytes, err: bytes) -> dict[str, Any]:
    if code == 0:
        decoded: dict[str, Any] = msgspec.json.decode(out) if out.strip() else {}
        return decoded
    try:
        told = msgspec.json.decode(out, type=dict[str, Any])
    except msgspec.DecodeError:
        text = err.decode(errors="replace").strip() or out.decode(errors="replace").strip() or f"exit code {code}"
        raise CniError(f"{plugin} {verb}: {text}", cni_code=999, reason=Reason.INTERNAL) from None
    message = f"{plugin} {verb}: {told.get('msg', '')}"
    raise CniError(
        message,
        cni_code=int(told.get("code", 999)),
        reason=Reason.ADDRESS_PENDING if told.get("code") == _TRY_LATER else Reason.CNI_BAD_REQUEST,
        details=str(told.get("details", "")),
    )


def addresses_of(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Addresses of the pod's interface, IPv4 first, without lengths."""
    found = [str(entry["address"]).split("/")[0] for entry in result.get("ips", ())]
    return tuple(sorted(found, key=lambda address: ":" in address))
