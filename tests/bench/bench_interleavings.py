"""10,000 random interleavings of the real operator and the real agents: how many end whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support.interleaving.tally import KINDS, count_of  # noqa: E402

COUNT, BATCH = 10_000, 250


def bench_interleavings_ok() -> list[dict[str, object]]:
    """In batches of 250, a process each, as many at once as there are cores."""
    began_s = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        found = list(threads.map(_batch, range(COUNT // BATCH)))
    took_s = time.monotonic() - began_s
    happened: Counter[str] = sum((Counter(each["happened"]) for each in found), Counter())
    kinds = {kind: count_of(happened, kind) for kind in KINDS}
    broken = [str(each["broken"]) for each in found if each["broken"]]
    method = (
        f"of {COUNT} of 12 steps each, in {took_s:.0f} s; whole: no address in use while unassigned, none on two pods, "
        "nothing lost once all is calm, none above maxAllocate, no ENI of others touched; what happened in them: "
        f"{', '.join(f'{kind} {times:,}' for kind, times in kinds.items())}; {'; '.join(broken) or 'none was broken'}"
    )
    whole = sum(int(str(each["whole"])) for each in found)
    return [{"name": "interleavings_ok", "value": whole, "unit": "", "peer": None, "method": method}]


def _batch(seed: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "interleave.py"), str(seed), str(BATCH)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))
