"""The allocation engine at scale: the real operator on the simulator, thousands of nodes, hours of virtual time.

Each scenario runs in a process of its own, so that a figure of memory is that scenario's alone. Counts repeat exactly;
times and memory are this machine's.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Row = dict[str, object]
SIZES = (625, 1250, 2500, 5000)


def _scale(*arguments: object) -> dict[str, Any]:
    """One run of `scale.py`: its JSON."""
    command = [sys.executable, str(HERE / "scale.py"), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def bench_up_1000() -> list[Row]:
    """1,000 m5.large announced within a minute, 4 calls a second for all verbs."""
    twelve, nine = _scale("up", 1000, 12), _scale("up", 1000, 9)
    world = "1,000 m5.large announced within 60 s, maxAboveWatermark 0, one bucket of 4 calls/s and burst 20"
    floor = "Cilium, 4/s shared: Describe, Assign, Describe, Create, Attach, Modify, Describe a node"
    return [
        _row("up_1000_calls", twelve["mutations"], "calls", 4000, f"mutating calls; {world}, minAllocate 12; {floor}"),
        _row("up_1000_describes", twelve["describes"], "calls", 3000, f"reads of the same run; {floor}"),
        _row("up_1000_s", twelve["full_s"], "s", 7000 / 4, f"virtual seconds until all pools hold 12; {floor}"),
        _row(
            "up_1000_min9_calls",
            nine["mutations"],
            "calls",
            1000,
            f"mutating calls; {world}, minAllocate 9: one Assign a node, as any allocator needs",
        ),
    ]


def bench_churn_5000() -> list[Row]:
    """An hour of 100 pod changes a second on 5,000 nodes with 3 ENIs of 30 addresses."""
    got = _scale("churn", 5000, 3600)
    world = (
        "5,000 nodes with 3 ENIs of 30 slots, default class, 50 pods begin and 50 end a second on random nodes for an "
        "hour of virtual time, EC2 answers in 200 ms, budget free"
    )
    whole = "operator, agents, API server and EC2 in one process"
    return [
        _row("churn_5000_real_s", got["real_s"], "s", None, f"real time of that hour, {whole}; {world}"),
        _row("churn_5000_rss_mib", got["base_mib"] + got["operator_mib"], "MiB", None, _memory(got, whole)),
        _row("churn_publish_p99_s", got["publish_p99_s"], "s", None, f"from demand to the write that met it; {world}"),
        _row(
            "churn_5000_assign_per_s",
            got["assigns_per_s"],
            "1/s",
            None,
            f"AssignPrivateIpAddresses, mean over the hour; {world}",
        ),
        _row(
            "churn_5000_api_writes_per_s",
            got["writes_per_s"],
            "1/s",
            100.0 / 2 + 5000 / 15,
            "writes by operator and agents, mean over the hour; peer: Cilium's agents write their usage every 15 s "
            "while pods change, its operator once a change",
        ),
        _row(
            "churn_5000_passes_per_change", got["passes_per_change"], "", 5000, "passes of single nodes per pod change"
        ),
    ]


def _memory(got: dict[str, Any], whole: str) -> str:
    return (
        f"VmRSS of the process with everything imported ({got['base_mib']:.0f} MiB) and, on top, the sizes of all "
        f"objects that can be reached from the operator at the end of that hour ({got['operator_mib']:.0f} MiB); "
        f"{whole} take {got['process_rss_mib']:.0f} MiB"
    )


def bench_idle_1000() -> list[Row]:
    """1,000 nodes at rest for an hour, then addresses that someone takes away by hand."""
    got = _scale("idle", 1000)
    return [
        _row(
            "idle_1000_describes_h",
            got["describes"],
            "1/h",
            300,
            "all reads in an hour in which nothing happens; peer: Cilium's resync, 5 calls a minute at least",
        ),
        _row("drift_found_s", got["drift_s"], "s", 60, "until an address unassigned by hand is no longer published"),
    ]


def bench_cpu_exponent() -> list[Row]:
    """How the CPU time of ten minutes of life grows with the number of nodes."""
    seconds = {size: _scale("life", size)["cpu_s"] for size in SIZES}
    points = [(math.log(size), math.log(cpu)) for size, cpu in seconds.items()]
    shown = ", ".join(f"{size}: {cpu:.1f} s" for size, cpu in seconds.items())
    method = (
        "slope of log(CPU) over log(nodes): bring-up and ten minutes of churn, a change a second for 50 nodes; peer: a "
        f"pass over all nodes per change; {shown}"
    )
    return [_row("cpu_exponent", slope(points), "", 2.0, method)]


def slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line nearest to the points."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def _row(name: str, value: object, unit: str, peer: object, method: str) -> Row:
    return {"name": name, "value": value, "unit": unit, "peer": peer, "method": method}


bench_up_1000.names = (  # type: ignore[attr-defined]
    "up_1000_calls",
    "up_1000_describes",
    "up_1000_s",
    "up_1000_min9_calls",
)
bench_churn_5000.names = (  # type: ignore[attr-defined]
    "churn_5000_real_s",
    "churn_5000_rss_mib",
    "churn_publish_p99_s",
    "churn_5000_assign_per_s",
    "churn_5000_api_writes_per_s",
    "churn_5000_passes_per_change",
)
bench_idle_1000.names = ("idle_1000_describes_h", "drift_found_s")  # type: ignore[attr-defined]
bench_cpu_exponent.names = ("cpu_exponent",)  # type: ignore[attr-defined]
