"""How long to wait after the n-th failure in a row: exponential, capped, with full jitter in its upper half.

Pure: the random source is passed in. Jitter matters more than the base: after an outage of the API server thousands
of agents retry, and without it they do so in the same second again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

LASTING_S = 300.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """`base_s` after the first failure, doubled each time up to `cap_s`; the wait lies between half of that and all.

    What has failed for longer than `LASTING_S` is waited for longer too, up to `lasting_cap_s` (0: never longer): a
    quarter of the time beyond.
    """

    base_s: float = 0.5
    cap_s: float = 30.0
    lasting_cap_s: float = 0.0

    def delay_s(self, failures: int, rng: Random, lasted_s: float = 0.0) -> float:
        """Seconds to wait after `failures` (1 or more) failures in a row, the first of them `lasted_s` ago."""
        # 2**64 overflows no float, but a long outage would count further: the exponent is capped, not the result alone
        whole = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 32))
        whole = max(whole, min(self.lasting_cap_s, (lasted_s - LASTING_S) / 4))
        return whole * rng.uniform(0.5, 1.0)
