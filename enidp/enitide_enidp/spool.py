"""DELs that the plugin could not hand over: it leaves each as a file beside the socket, this reads them back.

A file is the very request the plugin would have sent, so one parser serves both. It is removed only after its DEL is
done; one that cannot be read can never be done, and is removed with a log line that shows it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from enitide_api.errors import CniError, JournalFailed
from enitide_api.logging import get_logger
from enitide_enidp.cni.request import Call, parse_call
from enitide_enidp.server.http import BadRequest, parse_head

_MAX_BYTES = 2 << 20
_STALE_S = 600.0
_log = get_logger("spool")


class Spool:
    """The folder; made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def waiting(self) -> Iterator[tuple[Path, Call]]:
        """Queued DELs with their files. Call `done` with the file once the DEL is."""
        with os.scandir(self._folder) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            path = self._folder / name
            if name.startswith("."):
                self._drop_stale(path)
            elif (call := self._read(path)) is not None:
                yield path, call

    def put(self, call: Call, headers: Mapping[str, str], body: bytes) -> None:
        """Queue a DEL that cannot be done yet, as the plugin would have. `JournalFailed` if it cannot be kept."""
        lines = [
            "POST /v1/cni/DEL HTTP/1.1",
            *(f"{k}: {v}" for k, v in headers.items() if k.startswith("cni-")),
            "",
            "",
        ]
        fresh = self._folder / f".agent.{os.getpid()}"
        try:
            fresh.write_bytes("\r\n".join(lines).encode(errors="surrogateescape") + body)
            fresh.replace(self._folder / f"{call.container_id}@{call.ifname}")
        except OSError as error:
            raise JournalFailed(f"{self._folder}: {error.strerror}") from error

    def done(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Call | None:
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_BYTES)
            head, _, body = raw.partition(b"\r\n\r\n")
            return parse_call("DEL", parse_head(head).headers, body)
        except FileNotFoundError:
            return None
        except OSError as error:  # no more descriptors, say: the call itself may be sound
            _log.warning("queued DEL not read yet", file=path.name, error=str(error))
            return None
        except (BadRequest, CniError) as error:
            _log.error("queued DEL cannot be understood and is dropped", file=path.name, error=str(error))
            self.done(path)
            return None

    def _drop_stale(self, path: Path) -> None:
        """A plugin killed while writing leaves an unfinished file; its runtime sends the DEL again."""
        try:
            if path.stat().st_mtime + _STALE_S < self._folder.stat().st_mtime:
                self.done(path)
        except FileNotFoundError:
            return
