"""Keeps the router as EC2 has it: full difference at the start and after every change, from whatever state it finds.

The order of events does not matter and a missed one changes nothing: an event only says that it is time to look. An
ENI's cable is plugged `appear_delay_s` after the daemon first saw it attached, as a hot-plugged card takes its time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from enitide_api.errors import LabFailed
from enitide_api.logging import get_logger
from enitide_lab.fabric import guest, kernel, plan
from enitide_lab.fabric.facts import EniFacts, Port, VpcState

WAIT_S = 1.0  # then look without a call from EC2: a node's reboot takes its devices, and EC2 knows nothing of it
RETRY_S = 0.25  # until something that did not work is tried again

log = get_logger(__name__)


class Feed(Protocol):
    """Where the truth comes from. Both raise `LabFailed` when EC2 does not answer."""

    def state(self) -> VpcState:
        """Everything now."""
        ...

    def wait(self, since: int, timeout_s: float) -> None:
        """Return when something has changed after `since`, or after `timeout_s`."""
        ...


class Daemon:
    """One VPC. Runs in the fabric's namespace; `instances` is the folder of the nodes' namespaces, by instance id."""

    def __init__(
        self,
        feed: Feed,
        instances: Path,
        *,
        appear_delay_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._instances = instances
        self._appear_delay_s = appear_delay_s
        self._clock = clock
        self._attached_at: dict[tuple[str, str], float] = {}
        self._unconfigured: dict[str, Port] = {}

    def run(self) -> None:
        """For ever."""
        since, settled = 0, False
        while True:
            try:
                if since:
                    self._feed.wait(since, WAIT_S if settled else RETRY_S)
                state = self._feed.state()
            except LabFailed as error:
                log.warning("ec2 does not answer", reason=error.reason, error=str(error))
                time.sleep(RETRY_S)
                continue
            since, settled = max(1, state.number), self.reconcile(state)

    def reconcile(self, state: VpcState) -> bool:
        """One pass; whether all that EC2 says is in place."""
        visible, coming = self._appeared(state)
        namespaces = {path.name for path in self._instances.iterdir() if path.name.startswith("i-")}
        want = plan.wanted(visible, namespaces)
        with IPRoute() as ipr:
            change = plan.changes(want, kernel.actual(ipr))
            troubles = kernel.apply(ipr, change, lambda instance_id: self._instances / instance_id)
        self._note(change.make, troubles)
        failed = {trouble.what for trouble in troubles}
        self._unconfigured |= {
            port.label: port for port in change.make if guest.is_primary(port) and port.label not in failed
        }
        self._configure_guests()
        homeless = any(eni.instance_id not in namespaces for eni in visible.enis)
        return not (troubles or coming or homeless or self._unconfigured)

    def _appeared(self, state: VpcState) -> tuple[VpcState, bool]:
        """The state with the cards that have had time to appear, and whether others are still coming."""
        now = self._clock()
        attached = {(eni.id, eni.instance_id) for eni in state.enis}
        self._attached_at = {key: self._attached_at.get(key, now) for key in attached}

        def here(eni: EniFacts) -> bool:
            booted_with = (eni.card, eni.index) == (0, 0)
            return booted_with or now - self._attached_at[eni.id, eni.instance_id] >= self._appear_delay_s

        visible = tuple(eni for eni in state.enis if here(eni))
        return dataclasses.replace(state, enis=visible), len(visible) < len(state.enis)

    def _configure_guests(self) -> None:
        for label, port in tuple(self._unconfigured.items()):
            namespace = self._instances / port.eni.instance_id
            if not namespace.exists():  # terminated meanwhile
                del self._unconfigured[label]
                continue
            try:
                guest.configure(port, namespace)
            except (NetlinkError, IndexError, OSError) as error:
                log.warning("the node's first card is not configured yet", eni=port.eni.id, error=str(error))
                continue
            del self._unconfigured[label]

    @staticmethod
    def _note(made: tuple[Port, ...], troubles: list[kernel.Trouble]) -> None:
        failed = {trouble.what: trouble.error for trouble in troubles}
        for port in made:
            if port.label not in failed:
                log.info("plugged", eni=port.eni.id, instance=port.eni.instance_id, index=port.eni.index)
        for what, error in failed.items():
            log.warning("not done, tried again", what=what, error=error)
