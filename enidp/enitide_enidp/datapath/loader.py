"""Gets the programs into the kernel, and keeps packets flowing while it does.

What hangs on interfaces are the entry programs, pinned and never changed within a schema. The programs that decide
fill one half of the pinned array `progs`; a set for another configuration or of another build is loaded beside it
into the other half, one write to `active` switches, and the old half is cleared once no packet is in it. A set that
is pinned and equal is adopted without loading anything. Whatever a crash leaves half-done, the next load completes or
overwrites: until `active` is written nothing has happened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from enitide_api.errors import DatapathFailed, KernelUnsupported, NotRoot
from enitide_enidp.datapath import bpffs, codec, objects, syscalls, upgrade
from enitide_enidp.datapath.libbpf import BpfObject
from enitide_enidp.datapath.types import Hook, NodeConfig

KERNEL_FLOOR = (6, 1)
CONFIG_SECTION = ".rodata.config"
MAPS = (
    "active",
    "progs",
    "sets",
    "endpoints",
    "local",
    "pods",
    "node_addresses",
    "enis",
    "policies",
    "rulesets",
    "rules",
    "identities",
    "cidrs",
    "epochs",
    "stamp",
    "connections",
    "fragments",
    "audits",
    "dry_runs",
    "drops",
    "forwards",
    "event_budgets",
    "events",
)
_FIRST = codec.U32.pack(0)


@dataclass(slots=True)
class Loaded:
    """Descriptors of the pinned maps by name and of the entry programs by hook, owned by the holder."""

    schema_dir: Path
    maps: dict[str, int]
    entries: dict[Hook, int]
    adopted: bool
    """True if nothing had to be loaded."""
    half: int = field(default=0)
    repairs: list[str] = field(default_factory=list)
    """A sentence for each thing under the pin directory that was not as it should be, and was replaced."""
    carried: upgrade.Carried = field(default_factory=upgrade.Carried)
    """What was taken over from another schema's maps."""

    def close(self) -> None:
        """Close all descriptors. Twice is once."""
        for fd in (*self.maps.values(), *self.entries.values()):
            with suppress(OSError):
                os.close(fd)
        self.maps, self.entries = {}, {}


def schema_dir(pin_dir: Path) -> Path:
    """The folder of everything pinned with this build's layouts."""
    return pin_dir / f"v{codec.SCHEMA}"


def require_kernel() -> None:
    """Linux 6.1 and the right to use bpf(2), or the leaf that says what is missing."""
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < KERNEL_FLOOR:
        raise KernelUnsupported(f"this kernel is {release}")
    try:
        os.close(syscalls.create_map(syscalls.MAP_TYPE_ARRAY, 4, 4, 1))
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NotRoot("bpf(2) is not permitted to this user") from error
        raise KernelUnsupported(f"bpf(2) does not work: {error.strerror}") from error


def load(pin_dir: Path, config: NodeConfig) -> Loaded:
    """Adopt or load; see the module. `DatapathFailed` carries the verifier's log."""
    require_kernel()
    bpffs.ensure(pin_dir)
    root = schema_dir(pin_dir)
    for name in ("maps", "entries", "links"):
        (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    built = objects.folder()
    with bpffs.locked(root):
        try:
            return _load(root, built, config)
        except OSError as error:
            raise DatapathFailed(f"loading under {root} failed: {error.strerror}") from error


def _load(root: Path, built: Path, config: NodeConfig) -> Loaded:
    with ExitStack() as undo:
        repairs = _discard_damaged(root, built)
        entries = _entries(root, built)
        maps = {name: syscalls.pinned(root / "maps" / name) for name in MAPS}
        loaded = Loaded(root, maps, entries, adopted=True, repairs=repairs)
        undo.callback(loaded.close)
        loaded.carried = upgrade.carry(root, other_schemas(root.parent), maps)
        loaded.half = codec.U32.unpack(syscalls.lookup(maps["active"], _FIRST, 4) or _FIRST)[0]
        lost = loaded.half >= codec.HALVES
        if lost:
            repairs.append(f"map active named half {loaded.half}, which there is not: a set was loaded anew")
            loaded.half = 1
        wanted = fingerprint(built, config)
        if lost or not _is_filled(loaded, loaded.half, wanted):
            _fill_other_half(loaded, built, config, wanted)
            loaded.adopted = False
        _clear_half(loaded, 1 - loaded.half)
        undo.pop_all()
        return loaded


def _discard_damaged(root: Path, built: Path) -> list[str]:
    """Take away pins that are not the maps we would make: whoever put them there, no program can use them."""
    repairs = []
    with BpfObject(built / objects.ENTRY, root / "maps") as entry:
        wanted = entry.shapes()
    for name in MAPS:
        path = root / "maps" / name
        found = _shape(path)
        if found is not None and found != wanted[name]:
            path.unlink()
            repairs.append(f"what was pinned as map {name} was none of ours (another type or size): made anew, empty")
    return repairs


def _shape(pin: Path) -> tuple[int, int, int, int] | None:
    """Of the map pinned there; None: no pin. What is no map has a shape that no map has."""
    try:
        fd = syscalls.pinned(pin)
    except FileNotFoundError:
        return None
    try:
        kind, _, key_bytes, value_bytes, entries = struct.unpack_from("=IIIII", syscalls.info(fd))
        return kind, key_bytes, value_bytes, entries
    finally:
        os.close(fd)


def fingerprint(built: Path, config: NodeConfig) -> int:
    """64 bits over everything that makes a program set: its objects and the node's constants. Never 0."""
    digest = hashlib.sha256(codec.encode_config(config))
    for name in objects.SETS:
        digest.update((built / name).read_bytes())
    return int.from_bytes(digest.digest()[:8], "little") | 1


def _entries(root: Path, built: Path) -> dict[Hook, int]:
    """The entry programs, pinned; loaded only if one of them is missing. Loading also makes and pins all maps."""
    paths = {hook: root / "entries" / hook.name.lower() for hook in Hook}
    missing_map = any(not (root / "maps" / name).exists() for name in MAPS)
    if missing_map or not all(path.exists() for path in paths.values()):
        with BpfObject(built / objects.ENTRY, root / "maps") as entry:
            entry.load()
            programs = entry.programs()
            for hook, path in paths.items():
                path.unlink(missing_ok=True)
                syscalls.pin(programs[f"entry_{hook.name.lower()}"], path)
    return {hook: syscalls.pinned(path) for hook, path in paths.items()}


def _slot(half: int, hook: Hook) -> bytes:
    return codec.U32.pack(half * codec.HOOKS + hook)


def _is_filled(loaded: Loaded, half: int, wanted: int) -> bool:
    info = syscalls.lookup(loaded.maps["sets"], codec.U32.pack(half), codec.SET_INFO_CODEC.size)
    if info is None or codec.SET_INFO_CODEC.unpack(info)[0] != wanted:
        return False
    programs = [syscalls.lookup(loaded.maps["progs"], _slot(half, hook), 4) for hook in Hook]
    return all(each is not None and _uses_our_maps(loaded, each) for each in programs)


def _uses_our_maps(loaded: Loaded, program: bytes) -> bool:
    """A program that runs on maps whose pins were lost or replaced would never hear of the agent again."""
    ours = {struct.unpack_from("=I", syscalls.info(fd), 4)[0]: name for name, fd in loaded.maps.items()}
    program_fd = syscalls.program_fd(codec.U32.unpack(program)[0])
    try:
        used = syscalls.map_ids(program_fd)
    finally:
        os.close(program_fd)
    return all(number in ours or _name(number) not in MAPS for number in used)


def _name(map_id: int) -> str:
    fd = syscalls.map_fd(map_id)
    try:
        return syscalls.info(fd)[24:40].rstrip(b"\0").decode()
    finally:
        os.close(fd)


def _fill_other_half(loaded: Loaded, built: Path, config: NodeConfig, wanted: int) -> None:
    """Load a set into the half that does not run, then let it run, then wait until the old one does not."""
    target = 1 - loaded.half
    constants = codec.encode_config(config)
    for name in objects.SETS:
        with BpfObject(built / name, loaded.schema_dir / "maps") as programs:
            programs.set_rodata(CONFIG_SECTION, constants)
            programs.load()
            for function, fd in programs.programs().items():
                syscalls.update(loaded.maps["progs"], _slot(target, Hook[function.upper()]), struct.pack("=i", fd))
    syscalls.update(loaded.maps["sets"], codec.U32.pack(target), codec.SET_INFO_CODEC.pack(wanted))
    syscalls.update(loaded.maps["active"], _FIRST, codec.U32.pack(target))
    loaded.half = target
    syscalls.wait_for_programs()


def _clear_half(loaded: Loaded, half: int) -> None:
    """Let go of a half that does not run; also what a loader left that crashed before its last step."""
    syscalls.update(loaded.maps["sets"], codec.U32.pack(half), codec.SET_INFO_CODEC.pack(0))
    for number in range(codec.HOOKS):
        syscalls.delete(loaded.maps["progs"], codec.U32.pack(half * codec.HOOKS + number))


def other_schemas(pin_dir: Path) -> list[Path]:
    """Folders of earlier (or later) layouts under `pin_dir`."""
    current = schema_dir(pin_dir)
    return sorted(path for path in pin_dir.glob("v[0-9]*") if path != current and path.is_dir())


def endpoints_of_other_schemas(pin_dir: Path) -> frozenset[int]:
    """Interfaces of pods that an earlier build's datapath knows: they are at work already.

    Only the keys are read, four bytes in every schema; what the values say is that build's business.
    """
    found = set[int]()
    for folder in other_schemas(pin_dir):
        try:
            fd = syscalls.pinned(folder / "maps" / "endpoints")
        except OSError:
            continue
        try:
            key: bytes | None = None
            while (key := syscalls.next_key(fd, key, 4)) is not None:
                found.add(codec.U32.unpack(key)[0])
        finally:
            os.close(fd)
    return frozenset(found)


def remove_pins(folder: Path) -> None:
    """Remove a folder of pins with all in it.

    Programs that are still attached keep running; as their program array is gone, pods are closed.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def unload(pin_dir: Path) -> None:
    """Remove every schema's pins. Pods whose devices still carry entry programs are closed; ENIs are open."""
    for folder in (*other_schemas(pin_dir), schema_dir(pin_dir)):
        if folder.exists():
            remove_pins(folder)
