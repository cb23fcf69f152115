"""10,000 random interleavings of the real operator and the real agents: how many end whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
COUNT, BATCH = 10_000, 250


def bench_interleavings_ok() -> list[dict[str, object]]:
    """In batches of 250, a process each, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        found = list(threads.map(_batch, range(COUNT // BATCH)))
    broken = [str(each["broken"]) for each in found if each["broken"]]
    method = (
        f"of {COUNT}: pods that come and go, reclaim, yield, unassign, crashes of operator and agents at any call and "
        "record, changes of leader, lost, doubled and late watch events and writes, stale reads, errors of EC2 and the "
        "API server; whole: no address in use while unassigned, none on two pods, nothing lost once all is calm, none "
        f"above maxAllocate; {'; '.join(broken) or 'none was broken'}"
    )
    whole = sum(int(str(each["whole"])) for each in found)
    return [{"name": "interleavings_ok", "value": whole, "unit": "", "peer": None, "method": method}]


def _batch(seed: int) -> dict[str, object]:
    command = [sys.executable, str(HERE / "interleave.py"), str(seed), str(BATCH)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))
