"""Faults on command and token buckets: what they are and which call they hit.

A fault is data with a small counter; it never acts by itself. `physics.py` asks the faults in force about each call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from enitide_lab.ec2model.errors import ModelError

READS = ("Describe", "Get")


class Effect(StrEnum):
    """What a fault does to a call."""

    DELAY = "delay"  # works, only later
    REFUSE = "refuse"  # answered with the fault's code; nothing takes effect
    REFUSE_AFTER = "refuse-after"  # takes effect, yet answered with the fault's code
    LOST = "lost"  # takes effect, no answer ever
    GARBAGE = "garbage"  # takes effect, the answer is not EC2's format
    EMPTY = "empty"  # reads: an answer with nothing in it
    CRASH = "crash"  # takes effect; the caller is to die before it hears


@dataclass(slots=True)
class Fault:
    """A fault on command.

    `verb` is a call, `mutations`, `reads` or `*`. `times` calls are hit, or all within `for_s`, or until removed; with
    `every` k only each k-th matching call; with `nth` only that one. `subject` limits it to calls that name it (an id,
    the instance of a named ENI, a tag value), `subjects` to those that name one of these. `delay_s` delays in any case.
    """

    verb: str
    effect: Effect = Effect.REFUSE
    code: str = "InternalError"
    message: str = "fault on command"
    http_status: int | None = None
    times: int | None = None
    for_s: float | None = None
    every: int | None = None
    nth: int | None = None
    subject: str | None = None
    subjects: frozenset[str] = frozenset()
    delay_s: float = 0.0
    id: int = 0
    seen: int = 0
    hit: int = 0
    until_s: float | None = None

    def matches(self, verb: str, subjects: Collection[str]) -> bool:
        """Whether a call is of the kind this fault is for."""
        kind = "reads" if verb.startswith(READS) else "mutations"
        if self.verb not in ("*", kind, verb) or (self.subject is not None and self.subject not in subjects):
            return False
        return not self.subjects or not self.subjects.isdisjoint(subjects)

    def strikes(self, now_s: float) -> bool:
        """Count a matching call and say whether it is hit."""
        if self.over(now_s):
            return False
        self.seen += 1
        if (self.nth is not None and self.seen != self.nth) or (self.every is not None and self.seen % self.every):
            return False
        self.hit += 1
        return True

    def over(self, now_s: float) -> bool:
        """Whether it can hit nothing any more."""
        spent = self.times is not None and self.hit >= self.times
        missed = self.nth is not None and self.seen >= self.nth
        return spent or missed or (self.until_s is not None and now_s >= self.until_s)

    def error(self) -> ModelError:
        """What the call is answered with."""
        status = self.http_status or _STATUS.get(self.code, 400)
        return ModelError(self.code, self.message, status)


_STATUS = {
    "RequestLimitExceeded": 503,
    "Throttling": 503,
    "InternalError": 500,
    "InternalFailure": 500,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
    "UnauthorizedOperation": 403,
    "AuthFailure": 401,
}


@dataclass(slots=True)
class Bucket:
    """A token bucket: `capacity` tokens, `refill` per second."""

    capacity: float
    refill: float
    tokens: float
    at_s: float

    def take(self, now_s: float) -> bool:
        """Spend one token if there is one."""
        self.tokens = min(self.capacity, self.tokens + (now_s - self.at_s) * self.refill)
        self.at_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


# Capacity and refill per second, from the EC2 developer guide's page on API throttling (account, Region, action).
AWS_BUCKETS: Mapping[str, tuple[float, float]] = {
    "AssignPrivateIpAddresses": (100, 5),
    "AssignIpv6Addresses": (100, 5),
    "UnassignPrivateIpAddresses": (100, 5),
    "CreateNetworkInterface": (100, 5),
    "DeleteNetworkInterface": (100, 5),
    "ModifyNetworkInterfaceAttribute": (100, 5),
    "CreateTags": (100, 10),
    "DeleteTags": (100, 10),
    "CreateSubnetCidrReservation": (5, 1),
    "RunInstances": (5, 2),
    "TerminateInstances": (100, 5),
}
AWS_MUTATING = (50.0, 5.0)
AWS_READING = (100.0, 20.0)
AWS_READING_ALL = (50.0, 10.0)
