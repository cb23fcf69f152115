"""Where the compiled objects are. They are built once with enitide (`make -C bpf`); no node has a compiler."""

from __future__ import annotations

import os
from pathlib import Path

from enitide_api.errors import DatapathFailed

OVERRIDE = "ENITIDE_BPF_DIR"
ENTRY, SETS, TRACE = "entry.bpf.o", ("pod.bpf.o", "eni.bpf.o"), "trace.bpf.o"
_PACKAGED = Path(__file__).parent / "compiled"
_CHECKOUT = Path(__file__).parents[3] / "build" / "bpf"


def folder() -> Path:
    """The folder named by ENITIDE_BPF_DIR, else the packaged one, else the checkout's build/bpf."""
    override = os.environ.get(OVERRIDE)
    candidates = [Path(override)] if override else [_PACKAGED, _CHECKOUT]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in (ENTRY, *SETS)):
            return candidate
    raise DatapathFailed(f"no compiled eBPF objects in {' or '.join(map(str, candidates))}; run `make -C bpf`")
