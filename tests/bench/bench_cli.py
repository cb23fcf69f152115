"""How long a person waits for the first help text."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def bench_help_ms() -> list[dict[str, object]]:
    """Wall time of whole processes, median of 15 after one warm-up."""
    command = [str(ROOT / ".venv" / "bin" / "enitide"), "--help"]
    times_ms = []
    for _ in range(16):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times_ms.append((time.perf_counter() - started) * 1000)
    method = "median of 15 processes of `enitide --help`, first one left out"
    return [{"name": "help_ms", "value": statistics.median(times_ms[1:]), "unit": "ms", "peer": None, "method": method}]
