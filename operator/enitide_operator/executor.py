"""One action, one outcome: sends it, merges what EC2 answered into the world, and keeps the books.

It decides nothing. An outcome that is unknown marks the node, so that the next plan reads before it does anything
else; a refusal is noted where it applies (a subnet, an ENI) and holds back only that. `NotLeading` ends work quietly:
the next leader goes on from EC2 and the resource.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from enitide_api.errors import (
    EC2Ambiguous,
    EC2Error,
    EC2GroupsMissing,
    EC2InstanceMissing,
    EC2InUse,
    EC2LimitExceeded,
    EC2NotFound,
    EC2NoWholePrefix,
    EC2Refused,
    EC2SubnetExhausted,
    InternalError,
    NotLeading,
    Retry,
)
from enitide_api.logging import get_logger
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.model import (
    Action,
    AssignAddresses,
    AssignIPv6Prefix,
    AssignPrefixes,
    AssociateElasticIP,
    CreateInterface,
    DeleteInterface,
    DetachInterface,
    SetDeleteOnTermination,
    Unassign,
)
from enitide_operator.book import Ticket
from enitide_operator.context import Context
from enitide_operator.ec2.budget import RELEASE, Order, new_work
from enitide_operator.ec2.port import Assigned
from enitide_operator.node_state import NodeState
from enitide_operator.trouble import key_of

_log = get_logger(__name__)

Simple = AssignAddresses | AssignPrefixes | AssignIPv6Prefix | AssociateElasticIP | SetDeleteOnTermination | Unassign


class Executor:
    """Actions on ENIs that exist, for one node. `wake` is called after every outcome."""

    def __init__(self, ctx: Context, state: NodeState, wake: Callable[[], None]) -> None:
        self._ctx = ctx
        self._state = state
        self._wake = wake
        self._numbers = itertools.count()
        self._again: set[tuple[str, str]] = set()  # (ENI, CIDR) that EC2 gave while an Unassign of it was under way

    def start(self, action: Action) -> None:
        """Debit it and send it; from now on it stands in the snapshot. `TypeError` for a step of a saga."""
        if not isinstance(action, Simple):
            raise TypeError(f"{action!r} is a saga's to send")
        number = next(self._numbers)
        self._state.in_flight[number] = action
        ticket = self._ctx.book.debit(action)
        if isinstance(action, AssociateElasticIP):
            self._ctx.elastic.claim(action.allocation_id)
        self._ctx.tasks.spawn(self._run(number, action, ticket), name=f"{self._state.name}: {type(action).__name__}")

    async def _run(self, number: int, action: Simple, ticket: Ticket) -> None:
        ctx, state, key = self._ctx, self._state, key_of(action)
        watch, outcome = Stopwatch(ctx, action), "ok"
        try:
            got = await self._send(action)
            ctx.book.settle(ticket, ctx.now(), got.addresses, got.prefixes)
            state.troubles.worked(key)
        except NotLeading as error:
            outcome = error.reason
            if isinstance(action, AssociateElasticIP):
                ctx.elastic.refused(action.allocation_id)
            return
        except EC2Error as error:
            outcome = error.reason
            if isinstance(error, EC2Ambiguous):
                ctx.book.settle(ticket, ctx.now())
                state.ambiguous_since = ctx.now()
            else:
                note_refusal(ctx, state, action, error)
            state.troubles.failed(key, mild(action, error), ctx.now(), ctx.rng)
            _log.warning(
                "call failed", node=state.name, action=type(action).__name__, reason=error.reason, why=str(error)
            )
        except Exception as error:
            outcome = InternalError.reason
            # a bug: held back like any failure, so that it is not met again at once; told by whoever runs the task
            state.troubles.failed(key, InternalError(str(error)), ctx.now(), ctx.rng)
            raise
        finally:
            # merging the outcome (in _send) and dropping the action is one step: nothing awaits in between
            ctx.book.refund(ticket)  # of what is not settled
            watch.stop(outcome)
            state.in_flight.pop(number, None)
            if isinstance(action, Unassign):
                self._again -= {(action.eni_id, cidr) for cidr in action.cidrs}
            self._wake()

    async def _send(self, action: Simple) -> Assigned:
        """What the ENI gained by it."""
        ctx, state, key = self._ctx, self._state, key_of(action)
        eni_id = action.eni_id

        def on_wait(error: EC2Error) -> None:
            state.troubles.waiting(key, error)
            self._wake()

        if isinstance(action, AssignAddresses):
            place = new_work(action.count, state.lack)
            got = await ctx.gateway.assign(eni_id, place, on_wait, addresses=action.count, names=action.names)
            return self._gained(action, got)
        if isinstance(action, AssignPrefixes):
            place = new_work(PREFIX_SIZE * action.count, state.lack)
            got = await ctx.gateway.assign(eni_id, place, on_wait, prefixes=action.count)
            return self._gained(action, got)
        if isinstance(action, AssignIPv6Prefix):
            ipv6 = await ctx.gateway.assign_ipv6(eni_id, Order(1), on_wait)
            ctx.world.gained(eni_id, ctx.now(), ipv6_prefixes=ipv6)
        elif isinstance(action, AssociateElasticIP):
            await ctx.gateway.associate(eni_id, action.allocation_id, Order(1), on_wait)
            ctx.world.associated(eni_id, action.address, ctx.now())
            ctx.elastic.settled(action.allocation_id)
        elif isinstance(action, SetDeleteOnTermination):
            value = action.value
            await ctx.gateway.set_delete_on_termination(eni_id, action.attachment_id, Order(1), on_wait, value=value)
            ctx.world.flagged(eni_id, delete_on_termination=value, at=ctx.now())
        else:
            await self._unassign(action, on_wait)
        return Assigned()

    def _gained(self, action: AssignAddresses | AssignPrefixes, got: Assigned) -> Assigned:
        ctx = self._ctx
        given = {*got.addresses, *got.prefixes}
        for other in self._state.in_flight.values():
            if isinstance(other, Unassign) and other.eni_id == action.eni_id:
                self._again |= {(other.eni_id, cidr) for cidr in other.cidrs if cidr in given}
        ctx.world.gained(action.eni_id, ctx.now(), addresses=got.addresses, prefixes=got.prefixes)
        ctx.metrics.gained(action.subnet_id, got.pods)
        return got

    async def _unassign(self, action: Unassign, on_wait: Callable[[EC2Error], None]) -> None:
        """What EC2 gave again meanwhile is not taken for gone, whichever answer comes first.

        It stands in `releasing` still and nothing returns from there: it is unassigned once more.
        """
        ctx = self._ctx
        await ctx.gateway.unassign(action.eni_id, action.addresses, action.prefixes, RELEASE, on_wait)
        eni = ctx.world.get(action.eni_id)
        gone = frozenset(each for each in action.cidrs if (action.eni_id, each) not in self._again)
        ctx.world.lost(action.eni_id, gone, ctx.now())
        self._state.unassigned.update(gone)
        if eni is not None:
            kept = {cidr for each in ctx.world.enis_of(self._state.instance_id) for cidr in each.cidrs}
            singles = tuple(each for each in action.addresses if each not in kept)
            prefixes = tuple(each for each in action.prefixes if each not in kept)
            count = len(singles) + PREFIX_SIZE * len(prefixes)
            ctx.book.credit(eni.subnet_id, count, ctx.now(), singles=singles, prefixes=prefixes)
            ctx.metrics.gave_back(eni.subnet_id, len(action.addresses) + PREFIX_SIZE * len(action.prefixes))


class Stopwatch:
    """Times one action for metrics. The subnet is that of its ENI where the action names none."""

    def __init__(self, ctx: Context, action: Action) -> None:
        eni = ctx.world.get(getattr(action, "eni_id", ""))
        self._ctx = ctx
        self._kind = type(action).__name__
        self._subnet = getattr(action, "subnet_id", "") or (eni.subnet_id if eni is not None else "")
        self._gives_back = isinstance(action, Unassign | DetachInterface | DeleteInterface)
        self._began = ctx.now()

    def stop(self, outcome: str) -> None:
        """It has ended: ok, or a reason."""
        took_s = self._ctx.now() - self._began
        self._ctx.metrics.acted(self._kind, outcome, self._subnet, took_s, gives_back=self._gives_back)


def mild(action: Action, error: EC2Error) -> EC2Error:
    """The error to hold back by: what EC2 refused by name is soon asked for with other names, or without."""
    if _is_about_names(action, error) and isinstance(error, EC2Refused):
        return EC2InUse(str(error), code=error.code, verb=error.verb)
    return error


def _is_about_names(action: Action, error: EC2Error) -> bool:
    """Whether EC2 may have refused because of an address asked for by name: somebody has it, or it is reserved now.

    It says so with several codes, which mean other things too: after a second refusal nothing is named for a while.
    """
    return bool(getattr(action, "names", ())) and isinstance(error, EC2InUse | EC2Refused)


SUBNET_GONE = "InvalidSubnetID.NotFound"


def note_refusal(ctx: Context, state: NodeState, action: Action, error: EC2Error) -> None:
    """What a refusal says about the world beyond its own action."""
    subnet_id = getattr(action, "subnet_id", "")
    if isinstance(action, AssociateElasticIP):
        ctx.elastic.refused(action.allocation_id)
    if _is_about_names(action, error) and isinstance(action, AssignAddresses | CreateInterface):
        ctx.book.doubt(subnet_id, action.names, ctx.now())
        if isinstance(action, CreateInterface) and action.prefixes and error.code == "InvalidParameterCombination":
            ctx.book.name_beside_prefixes = False
        ctx.maps.refused(subnet_id)
        return
    if isinstance(action, CreateInterface) and (type(error) is EC2NotFound or isinstance(error, EC2GroupsMissing)):
        # something that we asked for is gone: the VPC is read anew; if it is the subnet, others know it at once
        if error.code == SUBNET_GONE:
            ctx.book.gone(subnet_id, ctx.now())
        ctx.discovery.starving(state.resource.spec.instance.vpc_id, whole=True)
    if isinstance(error, EC2LimitExceeded):
        ctx.discovery.doubt_limits(state.resource.spec.instance.type)
    no_prefix = isinstance(error, EC2NoWholePrefix) or _may_mean_no_prefix(action, error)
    if (isinstance(error, EC2SubnetExhausted) or no_prefix) and subnet_id:
        vpc_id = ctx.book.refused(subnet_id, ctx.now(), prefixes=no_prefix)
        ctx.discovery.refused(vpc_id)
        ctx.maps.refused(subnet_id)
    if error.retry is Retry.AFTER_REREAD or isinstance(error, EC2NotFound | EC2InstanceMissing):
        # what we believed is wrong: read it, but not so early that EC2 may still show what we did ourselves before
        state.read_after = max(ctx.now(), ctx.world.settled_at(state.instance_id))


def _may_mean_no_prefix(action: Action, error: EC2Error) -> bool:
    """EC2 also answers a request for /28s that the subnet does not have with InvalidParameterValue, by its text alone.

    Taken for that: single addresses meanwhile, and the subnet's map is read, which tells.
    """
    prefixes = isinstance(action, AssignPrefixes) or (isinstance(action, CreateInterface) and action.prefixes > 0)
    return prefixes and error.code == "InvalidParameterValue"
