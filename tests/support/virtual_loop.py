"""Virtual time for tests: `run_virtual(coroutine)`; see `enitide_lab.virtual_time`, which the simulator shares."""

from enitide_lab.virtual_time import Deadlock, VirtualLoop, run_virtual, virtual_loop

__all__ = ["Deadlock", "VirtualLoop", "run_virtual", "virtual_loop"]
