"""One scenario of `support.scale` in a process of its own: `scale.py NAME NUMBERS`; prints its figures as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import scale

from enitide_api.collector import collect_seldom

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    collect_seldom()
    what, *numbers = sys.argv[1:]
    print(json.dumps(getattr(scale, what)(*map(int, numbers))))
