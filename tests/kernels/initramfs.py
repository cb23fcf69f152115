"""A small initramfs: busybox, the first process, and the modules without which the guest cannot see its root."""

from __future__ import annotations

import stat
from pathlib import Path

ROOT_MODULES = ("virtio_pci", "virtio_console", "virtiofs", "overlay")


def modules_in_order(tree: Path) -> list[Path]:
    """The files of `ROOT_MODULES` and of all they need, each after what it needs (modules.dep lists it in reverse)."""
    needs: dict[str, list[str]] = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    ordered: dict[str, None] = {}
    for name in ROOT_MODULES:
        path = by_name.get(name)
        if path is not None:  # else it is built in
            for needed in (*reversed(needs[path]), path):
                ordered.setdefault(needed)
    return [tree / path for path in ordered]


class Archive:
    """A cpio archive in the kernel's `newc` form."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0

    def add(self, name: str, content: bytes, mode: int) -> None:
        self._inode += 1
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        self._data += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        self._pad()
        self._data += content
        self._pad()

    def folder(self, name: str) -> None:
        self.add(name, b"", stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes) -> None:
        self.add(name, content, stat.S_IFREG | 0o755)

    def finish(self) -> bytes:
        self.add("TRAILER!!!", b"", 0)
        return bytes(self._data)

    def _pad(self) -> None:
        self._data += bytes(-len(self._data) % 4)


def build(modules_tree: Path, init: Path) -> bytes:
    """The archive's bytes."""
    archive = Archive()
    for name in ("bin", "modules"):
        archive.folder(name)
    archive.file("bin/busybox", Path("/bin/busybox").read_bytes())
    archive.file("init", init.read_bytes())
    files = modules_in_order(modules_tree)
    for path in files:
        archive.file(f"modules/{path.name}", path.read_bytes())
    archive.file("modules/order", "\n".join(path.name for path in files).encode() + b"\n")
    return archive.finish()
