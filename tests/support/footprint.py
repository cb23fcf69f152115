"""How much memory the operator's own objects take in a process that also holds its world."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from enitide_lab.apistore.store import Store
from enitide_lab.ec2model import EC2Model, Physics
from enitide_lab.simulate.simulation import Simulation
from enitide_lab.virtual_time import VirtualLoop

_NOT_ITS = (ModuleType, type, FunctionType, BuiltinFunctionType, Store, EC2Model, Physics, VirtualLoop, Simulation)


def rss_mib() -> float:
    """VmRSS of this process."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def reachable_bytes(sim: Simulation) -> int:
    """All that is reachable from the operator but the world it looks at, by what each object says of itself."""
    gc.collect()
    seen: set[int] = {id(each) for each in (sim.agents, sim.demands, sim.view)}
    left: list[Any] = [sim.operator]
    total = 0
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, _NOT_ITS):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        left.extend(gc.get_referents(each))
    return total
