"""ADD, DEL, CHECK and GC of one pod at a time: reserve, wire, answer; closed until all is in place, else undone.

What is promised is on file first (`Memory`). From the first kernel request of an ADD to its confirmation nothing is
awaited, so a pass of the reconciler or a sweep never meets a half-made pod. Waiting for an address holds no lock but
the pod's own. It never chooses an address (the pool does) and never talks to EC2 or the API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from enitide_api.errors import CniError, EnitideError, NamespaceMissing
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_enidp.cni import result
from enitide_enidp.cni.request import BAD_CONFIG, BAD_VARIABLES, TRY_LATER, Call, bad
from enitide_enidp.datapath.datapath import Datapath
from enitide_enidp.endpoints.gate import Gate, OpenGate
from enitide_enidp.endpoints.live import Live, addresses_of, endpoint_of, wiring_of
from enitide_enidp.endpoints.locks import Locks
from enitide_enidp.endpoints.reaper import Reaper
from enitide_enidp.endpoints.waiting import address_wait
from enitide_enidp.memory import Memory
from enitide_enidp.netlink import pod
from enitide_enidp.netlink.build import family_of
from enitide_enidp.netlink.namespace import Namespace
from enitide_enidp.netlink.numbers import host_name
from enitide_enidp.netlink.sock import RouteSocket
from enitide_enidp.netlink.wanted import Device
from enitide_ipam.pool import Allocation, Grant
from enitide_ipam.records import PodRef
from enitide_ipam.refusals import Refusal

DELETED, BROKEN = 100, 101  # CNI leaves codes from 100 on to plugins
_LOOK_AGAIN_S = 1.0  # cool-downs end by time alone, and nobody tells of that

_log = get_logger("endpoints")


class Endpoints:
    """All pods of the node. `devices` by ENI id is replaced by the agent after each pass of the reconciler.

    `resolve` completes what the runtime said of a pod by what the API server knows. `mtu` 0: that of the pod's ENI.
    """

    def __init__(
        self,
        memory: Memory,
        datapath: Datapath,
        route: RouteSocket,
        *,
        add_wait_s: float,
        mtu: int,
        resolve: Callable[[PodRef], PodRef],
        gate: Gate | None = None,
    ) -> None:
        """`gate`: who gives a pod its policy; None: policy is off."""
        self.live: dict[str, Live] = {}
        self.devices: Mapping[str, Device] = {}
        self.locks = Locks()
        self.reaper = Reaper()
        self._memory = memory
        self._datapath = datapath
        self._route = route
        self._add_wait_s = add_wait_s
        self._mtu = mtu
        self._resolve = resolve
        self.gate: Gate = gate or OpenGate()
        self._news = asyncio.Event()
        self.address_wait = address_wait()
        memory.on_change(self._tell)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # --- ADD -------------------------------------------------------------------------------------------------------

    async def add(self, call: Call, is_gone: Callable[[], bool]) -> bytes:
        """The CNI result. `is_gone`: nobody waits for the answer any more."""
        async with self.locks.held(call.container_id):
            known = self.live.get(call.owner)
            if known is not None and self._is_wired(known, call.netns):
                return self._answer(call, known)
            namespace = _open(call.netns)
            try:
                if known is not None:
                    self._unwire(call.owner, known.allocation, call.netns)
                allocation = (await self._allocate(call, is_gone)).allocation
                await self._admit(call, is_gone)
                await self.reaper.settled(call.netns)
                return self._answer(call, self._wire(call, allocation, namespace))
            finally:
                namespace.close()

    async def _allocate(self, call: Call, is_gone: Callable[[], bool]) -> Grant:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        deadline = began_s + self._add_wait_s
        who = self._resolve(call.pod)
        told = False
        while True:
            answer = self._memory.pool.allocate(call.owner, who, self._memory.now(), began=call.began_s)
            if isinstance(answer, Grant):
                self._keep_or_abort(call.owner, answer)
                self.address_wait.labels("ok").observe(loop.time() - began_s)
                return answer
            if (
                not told
            ):  # it counts as waiting now, which the report must say at once; saying it again wakes others for nothing
                told = True
                self._memory.changed()
            left_s = deadline - loop.time()
            if not answer.retry or left_s <= 0 or is_gone():
                self.address_wait.labels(answer.reason).observe(loop.time() - began_s)
                raise _refused(answer)
            news = self._news
            try:
                async with asyncio.timeout(min(left_s, _LOOK_AGAIN_S)):  # `wait_for` would make a task each time
                    await news.wait()
            except TimeoutError:
                continue

    async def _admit(self, call: Call, is_gone: Callable[[], bool]) -> None:
        """Wait until the pod could be given its policy; the address goes back if that does not come in time."""
        try:
            await self.gate.admit(lambda: self._resolve(call.pod), is_gone)
        except CniError:
            self._memory.keep(self._memory.pool.abort(call.owner, self._memory.now()))
            raise

    def _keep_or_abort(self, owner: str, grant: Grant) -> None:
        try:
            self._memory.keep(grant.records)
        except EnitideError as error:
            self._memory.pool.abort(owner, self._memory.now())
            raise _try_later(error) from error

    def _wire(self, call: Call, allocation: Allocation, namespace: Namespace) -> Live:
        try:
            device = self.devices.get(allocation.eni_id)
            if device is None:
                raise bad(f"the device of {allocation.eni_id} is gone", TRY_LATER, Reason.INTERFACE_ABSENT)
            made = self._wire_kernel(call, allocation, namespace, device)
            confirmed = self._memory.pool.confirm(call.owner, self._memory.now())
            if isinstance(confirmed, Refusal):
                raise _refused(confirmed)
            self._memory.keep(confirmed)
        except EnitideError as error:
            self._undo(call, allocation)
            _log.warning("pod not wired", owner=call.owner, address=allocation.address, error=str(error))
            raise _try_later(error) from error
        self.live[call.owner] = made
        return made

    def _wire_kernel(self, call: Call, allocation: Allocation, namespace: Namespace, device: Device) -> Live:
        wiring = wiring_of(call.owner, allocation, self._mtu or device.link.mtu)
        ifindex = pod.create(self._route, wiring, namespace)
        who = self._resolve(call.pod)
        self._datapath.put_endpoint(endpoint_of(wiring, ifindex, device))
        self.gate.attach(call.owner, who, ifindex, addresses_of(allocation))
        pod.set_up_host(self._route, wiring, ifindex, self._datapath.attach_messages(ifindex))
        pod.set_up_pod(wiring, namespace)
        pod.carry(self._route, wiring)
        return Live(call.owner, who, allocation, ifindex, wiring.mtu, call.netns)

    def _undo(self, call: Call, allocation: Allocation) -> None:
        """Leave nothing half-done; a failure here is told of, and the sweep finishes it."""
        try:
            self._unwire(call.owner, allocation, call.netns)
            self._memory.keep(self._memory.pool.abort(call.owner, self._memory.now()))
        except EnitideError as error:
            _log.warning("undo not finished", owner=call.owner, error=str(error))

    def _unwire(self, owner: str, allocation: Allocation | None, netns: str) -> None:
        """No packet passes after this; the device itself goes a little later."""
        self.live.pop(owner, None)
        addresses = addresses_of(allocation) if allocation is not None else ()
        ifindex = pod.cut(self._route, host_name(owner), addresses)
        if ifindex is not None:
            self._datapath.delete_endpoint(ifindex)
            self.reaper.take(ifindex, netns)
        self.gate.detach(owner)

    def _is_wired(self, live: Live, netns: str) -> bool:
        """Whether an ADD that comes again finds its pod as it left it."""
        try:
            self._verify(live, netns)
        except EnitideError:
            return False
        return True

    def _answer(self, call: Call, live: Live) -> bytes:
        return result.success(call.config.cni_version, live.interfaces(call.netns), live.addresses)

    # --- DEL -------------------------------------------------------------------------------------------------------

    async def delete(self, call: Call) -> bytes:
        """Idempotent: a second DEL, one without a namespace and one of an unknown container succeed."""
        async with self.locks.held(call.container_id):
            self.remove(call.owner, call.netns)
        return b""

    def remove(self, owner: str, netns: str = "") -> None:
        """Unwire and release; the address cools. The caller holds the container's lock, or knows that nobody does."""
        known = self.live.get(owner)
        try:
            allocation = self._memory.pool.allocation(owner)
            self._unwire(owner, allocation, netns or (known.netns if known is not None else ""))
            self._memory.keep(self._memory.pool.release(owner, self._memory.now()))
        except EnitideError as error:
            raise _try_later(error) from error

    def has_device(self, owner: str) -> bool:
        """Whether the owner's host device is there at this moment."""
        return self._route.link(host_name(owner)) is not None

    def remove_device(self, ifindex: int) -> None:
        """Take away a host device that no owner stands behind."""
        self._datapath.delete_endpoint(ifindex)
        self.reaper.take(ifindex, "")

    # --- CHECK and GC ----------------------------------------------------------------------------------------------

    async def check(self, call: Call) -> bytes:
        """Everything is as ADD left it, or a `CniError` that names the first thing that is not."""
        async with self.locks.held(call.container_id):
            live = self.live.get(call.owner)
            if live is None:
                raise bad(f"container {call.owner} has no network here", BROKEN, Reason.POD_DELETED)
            said = result.addresses_of(bytes(call.config.prev_result))
            have = tuple(str(address) for address in live.addresses)
            if said is not None and said != have:
                raise bad(f"prevResult names {', '.join(said)}, but the pod has {', '.join(have)}", BROKEN)
            self._verify(live, call.netns)
        return b""

    def _verify(self, live: Live, netns: str) -> None:
        body = self._route.link(host_name(live.owner))
        if body is None:
            raise bad(f"the host device of {live.owner} is gone", BROKEN, Reason.NETLINK_FAILED)
        ifname = live.owner.partition("/")[2]
        namespace = _open(netns)
        try:
            view = pod.look(namespace, ifname)
        finally:
            namespace.close()
        if view.link is None or not view.link.up:
            raise bad(f"{ifname} is missing or down in {netns}", BROKEN, Reason.NETLINK_FAILED)
        missing = [str(address) for address in live.addresses if address not in view.addresses]
        if missing:
            raise bad(f"{ifname} in {netns} lost {', '.join(missing)}", BROKEN, Reason.NETLINK_FAILED)
        if any(family_of(address) not in view.default_routes for address in live.addresses):
            raise bad(f"{ifname} in {netns} lost its default route", BROKEN, Reason.NETLINK_FAILED)

    async def collect(self, call: Call) -> bytes:
        """GC: whatever is not among the valid attachments is released."""
        valid = call.config.valid_attachments
        if valid is None:
            raise bad("GC needs cni.dev/valid-attachments in its configuration", BAD_CONFIG)
        keep = {f"{each.container_id}/{each.ifname}" for each in valid}
        for owner in sorted({*self._memory.pool.owners(), *self.live} - keep):
            async with self.locks.held(owner.partition("/")[0]):
                self.remove(owner)
            _log.info("released by GC", owner=owner)
        return b""


def _open(netns: str) -> Namespace:
    try:
        return Namespace(netns)
    except NamespaceMissing as error:
        raise bad(f"CNI_NETNS: {error}", BAD_VARIABLES, error.reason) from error


def _refused(refusal: Refusal) -> CniError:
    code = DELETED if refusal.reason is Reason.POD_DELETED else TRY_LATER
    return bad(refusal.message, code, refusal.reason)


def _try_later(error: EnitideError) -> CniError:
    """The CNI error for what went wrong on the node: always worth another try, since nothing was left behind."""
    if isinstance(error, CniError):
        return error
    if isinstance(error, NamespaceMissing):
        return bad(f"CNI_NETNS: {error}", BAD_VARIABLES, error.reason)
    return CniError(str(error), cni_code=TRY_LATER, reason=error.reason, details=error.help)
