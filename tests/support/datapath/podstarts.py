"""Pods that start while somebody forbidden sends to them, and they to him, a thousand times a second.

What counts is what arrives: a packet socket in the pod's namespace from before its device is up, and a socket at the
forbidden peer. A peer that is allowed, on the same road at the same rate, shows that it is open once policy is in.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.datapath.twonodes import Pod, TwoNodes, make_pod, remove_pod, two_nodes

from enitide_enidp.datapath import EndpointPolicy, Routing
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleValue, pack_key, pack_value

RATE_HZ = 1250  # asked of the sender, so that it does not fall below 1,000 beside neighbours
PERIOD_S = 1 / RATE_HZ
FORBIDDEN, ALLOWED, STARTED = 500, 501, 502
PORT = 9000
_ETH_P_IP = 0x0800
_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Over all starts. `forbidden` must be 0, `sent` is how many tried, `reached` how many starts were reached.

    `rate_hz`: how often each socket really sent, over all the time that it had somebody to send to; `slowest_hz`: the
    same over the worst single start.
    """

    starts: int
    forbidden: int
    sent: int
    reached: int
    rate_hz: float
    slowest_hz: float


class Senders:
    """One thread that sends a datagram on every socket of `targets` at RATE_HZ.

    What it is late with, because a neighbour had the processor, it sends as soon as it runs again. `start` begins a
    count of rounds and time, `rate` ends it.
    """

    def __init__(self) -> None:
        self.targets: dict[socket.socket, tuple[str, int]] = {}
        self.sent = 0
        self.rounds = 0
        self.rates: list[tuple[int, float]] = []
        self._began: tuple[int, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._patience_s = sys.getswitchinterval()

    def __enter__(self) -> Self:
        sys.setswitchinterval(PERIOD_S / 4)  # a pod that starts must not keep the sender from its turn
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        sys.setswitchinterval(self._patience_s)

    def start(self, targets: dict[socket.socket, tuple[str, int]]) -> None:
        self.targets = targets
        self._began = self.rounds, time.monotonic()

    def end(self) -> None:
        self.targets = {}
        if self._began is not None:
            self.rates.append((self.rounds - self._began[0], time.monotonic() - self._began[1]))
            self._began = None

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            due += PERIOD_S
            time.sleep(max(0.0, due - time.monotonic()))
            for sender, target in tuple(self.targets.items()):
                with suppress(OSError):  # no route yet: the device is not up
                    sender.sendto(b"hello", target)
                    self.sent += 1
            self.rounds += 1


def _rules() -> RuleSet:
    """Isolated both ways; the allowed peer may come and be spoken to."""
    keys = [pack_key(RuleKey(direction, Peer.IDENTITY, ALLOWED)) for direction in Direction]
    return RuleSet(7, True, True, dict.fromkeys(keys, pack_value(RuleValue(allow=True))))


@contextmanager
def _sockets(*pods: Pod) -> Iterator[list[socket.socket]]:
    made = [pod.socket(4) for pod in pods]
    try:
        for each in made:
            each.bind(("0.0.0.0", PORT))
            each.setblocking(False)
        yield made
    finally:
        for each in made:
            each.close()


def _drain(source: socket.socket, counts: Callable[[bytes], bool]) -> int:
    found = 0
    while True:
        try:
            found += counts(source.recv(2048))
        except BlockingIOError:
            return found


def _is_from(address: str) -> Callable[[bytes], bool]:
    packed = socket.inet_aton(address)
    return lambda frame: frame[12:14] == b"\x08\x00" and frame[26:30] == packed and frame[23] == socket.IPPROTO_UDP


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PERIOD_S)
    return True


def run(folder: Path, routing: Routing, starts: int) -> Outcome:
    """`starts` pods on node A, one after the other, each closed for a while and then given its policy."""
    with two_nodes(folder, routing, policy=True) as world, Senders() as senders:
        stranger, friend = world.pods["b1"], world.pods["a1"]
        policy = world.a.datapath.policy
        policy.apply(_rules())
        policy.put_identities({stranger.endpoint.ipv4: FORBIDDEN, friend.endpoint.ipv4: ALLOWED})
        for node in (world.a, world.b):
            for pod in node.pods:
                node.datapath.policy.set_endpoint(pod.endpoint.ifindex, EndpointPolicy(0, 0, enforce=False))
        with _sockets(stranger, friend) as (at_stranger, at_friend):
            forbidden = reached = 0
            for number in range(starts):
                got, was_reached = _one(world, senders, at_stranger, at_friend, 3 + number % 90)
                forbidden += got
                reached += was_reached
        rates = [rounds / span_s for rounds, span_s in senders.rates]
        rate_hz = sum(rounds for rounds, _ in senders.rates) / sum(span_s for _, span_s in senders.rates)
        return Outcome(starts, forbidden, senders.sent, reached, rate_hz, min(rates))


def _one(
    world: TwoNodes, senders: Senders, at_stranger: socket.socket, at_friend: socket.socket, index: int
) -> tuple[int, bool]:
    stranger, friend = world.pods["b1"].address(4), world.pods["a1"].address(4)
    address = f"10.0.1.{100 + index}"
    opened: list[socket.socket] = []

    def listen(pod_socket: Callable[..., socket.socket]) -> None:
        """In the pod's namespace, before its device is up."""
        opened.append(pod_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP)))
        opened.extend(pod_socket(socket.AF_INET, socket.SOCK_DGRAM, 0) for _ in range(2))
        for each in opened:
            each.setblocking(False)
        targets = {at_stranger: (address, PORT), at_friend: (address, PORT)}
        senders.start(targets | {opened[1]: (stranger, PORT), opened[2]: (friend, PORT)})

    pod = make_pod(world.a, world.fabric, f"p{index}", (index, 0), listen)
    try:
        before = senders.sent
        _until(lambda: senders.sent >= before + 80)  # 20 rounds while it is closed
        early = _drain(opened[0], lambda _: True)
        policy = world.a.datapath.policy
        policy.put_identities({pod.endpoint.ipv4: STARTED})
        policy.set_endpoint(pod.endpoint.ifindex, EndpointPolicy(7, STARTED))
        heard: list[bytes] = []

        def arrived() -> bool:
            with suppress(BlockingIOError):
                while True:
                    heard.append(opened[0].recv(2048))
            return any(map(_is_from(friend), heard))

        reached = _until(arrived)
        before = senders.sent
        _until(lambda: senders.sent >= before + 40)
        arrived()
        late = sum(map(_is_from(stranger), heard))
        from_pod = _drain(at_stranger, lambda _: True)
        _drain(at_friend, lambda _: True)
        return early + late + from_pod, reached
    finally:
        senders.end()
        for each in opened:
            each.close()
        remove_pod(world.a, world.fabric, pod)
