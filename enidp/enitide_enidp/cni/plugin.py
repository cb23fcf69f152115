"""Puts the CNI plugin where the runtime looks for it.

Written beside and renamed, since a running one cannot be overwritten. A folder that is read-only (the chart's init
container has filled it) is left as it is.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from enitide_api.errors import SettingsInvalid
from enitide_enidp.cni.conflist import PLUGIN

OVERRIDE = "ENITIDE_CNI_PLUGIN"
_PACKAGED = Path(__file__).parent / "compiled" / PLUGIN
_CHECKOUT = Path(__file__).parents[3] / "build" / "cni" / PLUGIN


def source() -> Path | None:
    """The plugin named by ENITIDE_CNI_PLUGIN, else the packaged one, else the checkout's."""
    override = os.environ.get(OVERRIDE)
    candidates = (Path(override),) if override else (_PACKAGED, _CHECKOUT)
    return next((path for path in candidates if path.is_file()), None)


def install(folder: Path) -> bool:
    """Make `folder` hold the plugin; whether it was written. `SettingsInvalid` if there is none and none can be put."""
    target, origin = folder / PLUGIN, source()
    if origin is None:
        if target.is_file():
            return False
        raise SettingsInvalid(f"{target} is missing and so is a plugin to install: run `make -C enidp/cni`")
    content = origin.read_bytes()
    try:
        if target.is_file() and target.read_bytes() == content:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{PLUGIN}.{os.getpid()}"
        fresh.write_bytes(content)
        fresh.chmod(0o755)
        fresh.replace(target)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES) and target.is_file():
            return False
        raise SettingsInvalid(f"the plugin cannot be installed in {folder}: {error.strerror}") from error
    return True
