"""Since when each ENI holds nothing but its own address: from the model's change feed, for `settle`."""

from __future__ import annotations

from enitide_ipam.capacity import NODE_PLACE
from enitide_lab.ec2model import EC2Model
from enitide_lab.ec2model.state import InstanceRecord

_CHANGES = frozenset({"unassigned", "attached", "assigned", "created"})


class IdleEnis:
    """Ask `due` as often as you like; it follows the feed on the way."""

    def __init__(self, model: EC2Model) -> None:
        self._model = model
        self._seen = 0
        self._since: dict[str, float] = {}

    def due(self, instance: InstanceRecord, delay_s: float) -> list[float]:
        """When each secondary ENI that is empty now will have been so for `delay_s`."""
        self._follow()
        return [
            self._since[record.id] + delay_s
            for place, record in instance.devices.items()
            if place != NODE_PLACE and record.id in self._since and not record.secondaries and not record.prefixes
        ]

    def _follow(self) -> None:
        events, _ = self._model.events(self._seen)
        for event in events:
            self._seen = event.number
            if event.kind in _CHANGES and event.interface_id:
                self._since[event.interface_id] = event.time_s
