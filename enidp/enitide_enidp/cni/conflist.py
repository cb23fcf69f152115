"""The configuration file that tells a runtime to use enitide: its content, and how it is put in place.

Installed only once the node can serve a pod, since its presence makes the node Ready; never removed at a stop, since
without it no pod can even be stopped. It carries the boot's id: one of an earlier boot speaks of a node that has not
come up yet, and is removed at start. Runtimes notice a rename within the folder and nothing less. It is never rewritten
while its content is right, and its version never raised in place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from enitide_api.errors import SettingsInvalid
from enitide_api.logging import get_logger

FILE_NAME = "05-enitide.conflist"
PLUGIN = "enitide-cni"
_BOOT_KEY = "enitide.io/bootID"
_log = get_logger("conflist")


def content(network: str, version: str, boot_id: str) -> dict[str, Any]:
    """The conflist as data."""
    plugin = {"type": PLUGIN, "capabilities": {}, _BOOT_KEY: boot_id}
    return {"cniVersion": version, "name": network, "plugins": [plugin]}


class _Plugin(msgspec.Struct, frozen=True):
    type: str = ""
    boot_id: str = msgspec.field(name=_BOOT_KEY, default="")


class _Conflist(msgspec.Struct, frozen=True):
    plugins: tuple[_Plugin, ...] = ()
    cni_version: str = msgspec.field(name="cniVersion", default="")
    name: str = ""


def _read(path: Path) -> _Conflist | None:
    """None where there is none; an unreadable one reads as one of no boot."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Conflist)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        return _Conflist()


class Conflist:
    """The file in `folder`, for this boot."""

    def __init__(self, folder: Path, *, network: str, version: str, boot_id: str) -> None:
        self.path = folder / FILE_NAME
        self._network = network
        self._version = version
        self._boot_id = boot_id
        self.installed = False

    def start(self) -> None:
        """Remove one of an earlier boot; keep one of this boot, whatever version it has (pods live by it).

        `SettingsInvalid`: an earlier boot's cannot be removed, and to leave it would promise a node that serves.
        """
        found = _read(self.path)
        if found is None:
            return
        if any(plugin.boot_id == self._boot_id for plugin in found.plugins):
            self.installed = True
            if (found.cni_version, found.name) != (self._version, self._network):
                _log.warning(
                    "conflist kept as it was installed: network and version change on an empty node only",
                    installed=found.cni_version,
                    network=found.name,
                    setting=self._version,
                )
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsInvalid(f"--cni-conf-dir: {self.path} cannot be removed: {error.strerror}") from error
        _log.info("conflist of an earlier boot removed", path=str(self.path))

    def install(self) -> bool:
        """Put it in place unless it is; whether it did. OSError where the folder cannot be written."""
        if self.installed and self.path.exists():
            return False
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        body = msgspec.json.format(msgspec.json.encode(content(self._network, self._version, self._boot_id)), indent=2)
        temporary.write_bytes(body + b"\n")
        temporary.replace(self.path)
        self.installed = True
        return True
