"""Python's cycle collector, set for processes that hold hundreds of megabytes of live objects for weeks.

By default every 700 new containers start a look at the youngest, and now and then one at all that there is. Here almost
everything dies by its reference count, so that these looks find nothing: they were a fifth of the operator's time with
1,000 nodes in the churn of `make bench`.
"""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 20, 20)


def collect_seldom() -> None:
    """For the whole process. Cycles are still found, a little later."""
    gc.set_threshold(*THRESHOLDS)
