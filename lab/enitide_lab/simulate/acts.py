"""What each event does to the world. Nothing here takes time; what EC2 refuses to a hand is told with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from enitide_api.resources import Demand
from enitide_kube.port import ENICLASS
from enitide_lab.apistore import faults as kube_faults
from enitide_lab.ec2model import Effect, Fault, ModelError
from enitide_lab.ec2model.state import InterfaceRecord
from enitide_lab.simulate import ground
from enitide_lab.simulate.events import (
    Announce,
    Crash,
    Ec2Fault,
    EndWatches,
    Event,
    Hand,
    KubeFault,
    Pods,
    Restart,
    SetAgent,
    SetClass,
    SetSubnet,
    Terminate,
    Use,
)
from enitide_lab.simulate.located import unknown
from enitide_lab.simulate.simulation import Simulation


class Acts:
    """`do` one event that takes no time."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._by_kind: dict[type[Event], Callable[[Any], None]] = {
            Announce: self._announce,
            Use: self._use,
            Pods: self._pods,
            SetAgent: self._agent,
            SetClass: self._set_class,
            SetSubnet: self._set_subnet,
            Ec2Fault: self._ec2,
            KubeFault: self._kube,
            EndWatches: self._end_watches,
            Terminate: self._terminate,
            Hand: self._hand,
            Restart: lambda _event: self._sim.restart_operator(),
            Crash: self._crash,
        }

    def do(self, event: Event) -> None:
        """Now."""
        self._by_kind[type(event)](event)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _announce(self, event: Announce) -> None:
        for node in event.nodes:
            self._sim.announce(node)

    def _use(self, event: Use) -> None:
        for node in event.nodes:
            self._sim.use(node, Demand(in_use=event.in_use, cooling=event.cooling, waiting=event.waiting))

    def _pods(self, event: Pods) -> None:
        for node in event.nodes:
            self._sim.bind(node, pending=event.pending, holding=event.holding, host_network=event.host_network)

    def _agent(self, event: SetAgent) -> None:
        for node in event.nodes:
            agent = self._sim.agent(node)
            if event.yielded is not None or event.as_it_would:
                agent.yields(event.yielded)
            if event.silent is not None:
                agent.silence(silent=event.silent)

    def _terminate(self, event: Terminate) -> None:
        for node in event.nodes:
            instance = ground.instance_id(node)
            if instance in self._sim.model.instances:
                self._sim.model.terminate_instances([instance])
            self._sim.agent(node).end()

    # --- classes and subnets -----------------------------------------------------------------------------------------

    def _set_class(self, event: SetClass) -> None:
        self._sim.change(ENICLASS, event.name, {"spec": dict(event.patch)})

    def _set_subnet(self, event: SetSubnet) -> None:
        try:
            self._sim.model.subnets[event.subnet].map.change_room(event.free, event.whole_prefixes)
        except ValueError as error:
            event.place.refuse(f"subnet {event.subnet}: {error}")

    # --- faults ------------------------------------------------------------------------------------------------------

    def _ec2(self, event: Ec2Fault) -> None:
        effect = Effect.REFUSE if event.code else Effect.DELAY
        if event.empty:
            effect = Effect.EMPTY
        elif event.lost:
            effect = Effect.REFUSE_AFTER if event.code else Effect.LOST
        self._sim.physics.add(
            Fault(
                event.verb,
                effect,
                code=event.code or "InternalError",
                times=event.times,
                for_s=event.for_s,
                every=event.every,
                delay_s=event.delay_s,
                subjects=frozenset(ground.instance_id(node) for node in event.nodes),
            )
        )

    def _kube(self, event: KubeFault) -> None:
        faults = self._sim.store.faults
        fault = faults.add(
            kube_faults.Fault(
                kind=event.kind, code=event.code, times=event.times, delay_s=event.delay_s, lost=event.lost
            )
        )
        if event.for_s is not None:
            self._sim.loop.call_later(event.for_s, faults.remove, fault)

    def _end_watches(self, event: EndWatches) -> None:
        store = self._sim.store
        (store.expire_watches if event.gone else store.drop_watches)(event.kind)

    def _crash(self, event: Crash) -> None:
        self._sim.physics.add(Fault(event.after, Effect.CRASH, nth=event.nth))

    # --- by hand -----------------------------------------------------------------------------------------------------

    def _hand(self, event: Hand) -> None:
        try:
            for node in event.nodes:
                self._unassign(node, event)
                self._assign(node, event)
            if event.detach:
                self._detach(event)
        except ModelError as error:
            event.place.refuse(f"EC2 would refuse this: {error.code}: {error.message}")

    def _enis(self, node: str, event: Event) -> list[InterfaceRecord]:
        instance = self._sim.view.instance(node)
        if instance is None:
            event.place.refuse(f"the instance of {node} is gone")
        return [record for _, record in sorted(instance.devices.items())]

    def _unassign(self, node: str, event: Hand) -> None:
        """The newest first: those that are last in use."""
        wanted, left = set(event.unassign_named), event.unassign
        for record in reversed(self._enis(node, event)):
            gone = [cidr for cidr in (*record.secondaries, *record.prefixes) if cidr in wanted]
            wanted -= set(gone)
            some = list(reversed([*_cidrs(record)]))[: max(0, left)]
            left -= len(some)
            self._take_away(record, [*gone, *(cidr for cidr in some if cidr not in gone)])
        if wanted or left > 0:
            missing = ", ".join(sorted(wanted)) or f"{left} more"
            event.place.refuse(f"{node} does not have {missing} to unassign")

    def _take_away(self, record: InterfaceRecord, cidrs: list[str]) -> None:
        prefixes = [cidr for cidr in cidrs if "/" in cidr]
        addresses = [cidr for cidr in cidrs if "/" not in cidr]
        if prefixes:
            self._sim.model.unassign_private_ip_addresses(record.id, prefixes=prefixes)
        if addresses:
            self._sim.model.unassign_private_ip_addresses(record.id, addresses=addresses)

    def _assign(self, node: str, event: Hand) -> None:
        instance = self._sim.view.instance(node)
        if instance is None or not (event.assign or event.assign_named):
            return
        per_eni, left = self._sim.model.limits_of(instance.type).ipv4, event.assign
        for record in self._enis(node, event):
            some = min(left, per_eni - record.slots)
            if some > 0 and record.primary is not None:
                self._sim.model.assign_private_ip_addresses(record.id, count=some)
                left -= some
        for cidr in event.assign_named:
            prefixes, addresses = ([cidr], []) if "/" in cidr else ([], [cidr])
            record = next(each for each in self._enis(node, event) if each.primary is not None)
            self._sim.model.assign_private_ip_addresses(record.id, prefixes=prefixes, addresses=addresses)
        if left:
            event.place.refuse(f"{node} has no slot for {left} of these addresses")

    def _detach(self, event: Hand) -> None:
        record = self._sim.model.interfaces.get(event.detach)
        if record is None:
            event.place.refuse(unknown("ENI", event.detach, list(self._sim.model.interfaces)))
        if record.attachment is None:
            event.place.refuse(f"{record.id} hangs on nothing")
        owners = [ground.instance_id(node) for node in event.nodes]
        if owners and record.attachment.instance.id not in owners:
            event.place.refuse(f"{record.id} is not on {', '.join(event.nodes)}: leave out node, or name its own")
        self._sim.model.detach_network_interface(record.attachment.id, force=True)


def _cidrs(record: InterfaceRecord) -> Iterator[str]:
    """Prefixes before singles, so that singles go first from the end."""
    yield from record.prefixes
    yield from record.secondaries
