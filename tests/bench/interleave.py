"""A batch of random interleavings in a process of its own: `interleave.py SEED COUNT`; prints what came of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.interleaving.run import batch

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    seed, count = map(int, sys.argv[1:])
    print(json.dumps(batch(count, seed=seed)))
