"""Run the suite in phases and count everything once.

Phases: pure folders in parallel, then folders that share one kernel, one process at a time. Each phase leaves a JUnit
file in `build/results`; the last line of output is the sum of all phases, before it every skipped test with its reason.
`--summary` only sums what the last run of each target left there. Exit 5 of pytest (nothing collected) is a failure.
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "results"


@dataclass(frozen=True, slots=True)
class Phase:
    """One call of pytest over some folders."""

    name: str
    folders: tuple[str, ...]
    workers: int


PHASES = (
    Phase("unit", ("unit",), 2),
    Phase("sim", ("sim",), 2),
    Phase("wire", ("aws", "kube", "golden"), 2),
    Phase("kernel", ("bpf", "netns"), 0),
    Phase("e2e", ("e2e",), 0),
)


def run_phase(phase: Phase, extra: list[str]) -> int:
    """Run one phase; the exit code of pytest. A phase none of whose folders exist is a failure of ours, not a pass."""
    folders = [f"tests/{folder}" for folder in phase.folders if (ROOT / "tests" / folder).is_dir()]
    if not folders:
        print(f"{phase.name}: no folder of {phase.folders} exists")
        return 5
    report = RESULTS / f"{phase.name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *folders]
    command += ["-m", "not real"] + (["-n", str(phase.workers)] if phase.workers else []) + extra
    started = time.monotonic()
    code = subprocess.call(command, cwd=ROOT)
    print(f"--- {phase.name}: exit {code} after {time.monotonic() - started:.0f} s", flush=True)
    return code


def summary() -> int:
    """Print skips and the sum; 1 if anything failed or nothing ran."""
    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for report in sorted(RESULTS.glob("*.xml")):
        for case in ET.parse(report).iter("testcase"):  # noqa: S314  (our own file)
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                counts["failed"] += 1
                print(f"failed: {case.get('classname')}::{case.get('name')}")
            elif skip is not None:
                counts["skipped"] += 1
                skipped[skip.get("message", "")] += 1
            else:
                counts["passed"] += 1
    for reason, number in skipped.most_common():
        print(f"skipped {number}: {reason}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


def main() -> int:
    """All phases, or those named on the command line; every phase runs even if one before it failed."""
    arguments = sys.argv[1:]
    RESULTS.mkdir(parents=True, exist_ok=True)
    if arguments == ["--summary"]:
        return summary()
    names = {phase.name for phase in PHASES}
    chosen = [a for a in arguments if a in names]
    extra = [a for a in arguments if a not in names]
    if not chosen:
        for old in RESULTS.glob("*.xml"):
            old.unlink()
    codes = [run_phase(phase, extra) for phase in PHASES if not chosen or phase.name in chosen]
    return summary() or int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
