"""Run, terminate and describe instances; describe instance types.

An instance here is what ENIs hang on: a type, a zone, a state and a time. TerminateInstances deletes the ENIs that
are to go with it and frees the others; a terminated instance stays visible for an hour, as in EC2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from enitide_lab.ec2model import limits, listing
from enitide_lab.ec2model.attachments import AttachmentVerbs
from enitide_lab.ec2model.errors import ModelError, bad_value, in_use, unknown
from enitide_lab.ec2model.state import InstanceRecord, InterfaceRecord
from enitide_lab.ec2model.types import Instance, NicSpec, Page, Tags

TYPES_PER_PAGE = 100
STATE_CODES: Mapping[str, int] = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}

INSTANCE_FILTERS: Mapping[str, listing.Reader[Instance]] = {
    "instance-id": lambda i: i.id,
    "instance-type": lambda i: i.type,
    "instance-state-name": lambda i: i.state,
    "instance-state-code": lambda i: str(STATE_CODES[i.state]),
    "image-id": lambda i: i.image_id,
    "availability-zone": lambda i: i.zone,
    "subnet-id": lambda i: i.subnet_id,
    "vpc-id": lambda i: i.vpc_id,
    "private-ip-address": lambda i: i.interfaces[0].primary if i.interfaces else None,
    "instance.group-id": lambda i: i.interfaces[0].groups if i.interfaces else (),
    "network-interface.network-interface-id": lambda i: [n.id for n in i.interfaces],
    "network-interface.subnet-id": lambda i: [n.subnet_id for n in i.interfaces],
    "network-interface.vpc-id": lambda i: [n.vpc_id for n in i.interfaces],
    "network-interface.group-id": lambda i: [g for n in i.interfaces for g in n.groups],
    "network-interface.mac-address": lambda i: [n.mac for n in i.interfaces],
    "network-interface.status": lambda i: [n.status for n in i.interfaces],
    "network-interface.addresses.private-ip-address": lambda i: [a for n in i.interfaces for a in n.addresses],
    "network-interface.attachment.attachment-id": lambda i: [n.attachment.id for n in i.interfaces if n.attachment],
    "network-interface.attachment.instance-id": lambda i: [i.id] if i.interfaces else [],
    "network-interface.attachment.device-index": lambda i: [
        str(n.attachment.index) for n in i.interfaces if n.attachment
    ],
}


class InstanceVerbs(AttachmentVerbs):
    """RunInstances and its kin."""

    def run_instances(
        self,
        instance_type: str,
        subnet_id: str,
        *,
        count: int = 1,
        groups: Sequence[str] = (),
        nics: Sequence[NicSpec] = (),
        image_id: str = "ami-00000000000000000",
        tags: Tags | None = None,
        interface_tags: Tags | None = None,
        ids: Sequence[str] = (),
    ) -> tuple[Instance, ...]:
        """RunInstances: all `count` or none. Without `nics`, one primary ENI in `subnet_id`. `ids` is for scenarios."""
        self.advance()
        made: list[InstanceRecord] = []
        try:
            for place in range(count):
                name = ids[place] if ids else self.new_id("i")
                record = self.launch(
                    name,
                    instance_type,
                    subnet_id,
                    groups=groups,
                    nics=nics,
                    image_id=image_id,
                    interface_tags=interface_tags,
                )
                made.append(record)
        except ModelError:
            for record in made:
                self.vanish(record.id)
            raise
        for record in made:
            self._tag(record.id, tags)
        return tuple(self._instance(record) for record in made)

    def launch(
        self,
        instance_id: str,
        instance_type: str,
        subnet_id: str,
        *,
        groups: Sequence[str] = (),
        nics: Sequence[NicSpec] = (),
        image_id: str = "ami-00000000000000000",
        interface_tags: Tags | None = None,
    ) -> InstanceRecord:
        """One instance with its ENIs, or nothing."""
        self.limits_of(instance_type)
        specs = nics or (NicSpec(subnet_id=subnet_id, groups=tuple(groups)),)
        if not any((spec.card, spec.index) == (0, 0) for spec in specs):
            raise bad_value("A network interface at device index 0 is required")
        record = InstanceRecord(instance_id, instance_type, image_id, self.subnet_record(subnet_id), self.clock())
        self.instances[instance_id] = record
        try:
            for spec in sorted(specs, key=lambda s: (s.card, s.index)):
                self._hang_spec(record, spec, groups, interface_tags)
        except ModelError:
            self.vanish(instance_id)
            raise
        self.tell("running", instance_id=instance_id, subnet_id=record.subnet.id)
        return record

    def _hang_spec(
        self, instance: InstanceRecord, spec: NicSpec, groups: Sequence[str], interface_tags: Tags | None
    ) -> None:
        if spec.interface_id is not None:
            interface = self.interface_record(spec.interface_id)
            if interface.attachment is not None:
                raise in_use(f"Interface: [{spec.interface_id}] in use.")
            keep = True
        else:
            made = self.create_network_interface(
                spec.subnet_id or instance.subnet.id,
                groups=spec.groups or groups,
                description=spec.description,
                address=spec.address,
                addresses=spec.addresses,
                secondary_count=spec.secondary_count,
                prefix_count=spec.prefix_count,
                prefixes=spec.prefixes,
                ipv6_count=spec.ipv6_count,
                ipv6_prefix_count=spec.ipv6_prefix_count,
                interface_type=spec.interface_type,
                tags={**(interface_tags or {}), **spec.tags},
            )
            interface = self.interfaces[made.id]
            keep = False
        try:
            self.require_place(interface, instance, spec.card, spec.index)
        except ModelError:
            if not keep:
                self.drop(interface)
            raise
        self.hang(
            interface, instance, spec.card, spec.index, delete_on_termination=spec.delete_on_termination and not keep
        )

    def vanish(self, instance_id: str) -> None:
        """EC2 forgets the instance at once: its ENIs go or come free, and no read knows it any more."""
        record = self.instance_record(instance_id)
        self._release_devices(record)
        self.instances.pop(instance_id, None)
        self.tags.pop(instance_id, None)

    def terminate_instances(self, instance_ids: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
        """TerminateInstances: (id, state before, state now) each. InvalidInstanceID.NotFound names none terminated."""
        self.advance()
        records = [self.instance_record(i) for i in instance_ids]
        changes = []
        for record in records:
            before = record.state
            if before not in ("shutting-down", "terminated"):
                record.state = "shutting-down"
                self.later(self.terminate_delay_s, partial(self._terminated, record))
            changes.append((record.id, before, record.state))
        return tuple(changes)

    def _terminated(self, record: InstanceRecord) -> None:
        record.state = "terminated"
        self._release_devices(record)
        self.tell("terminated", instance_id=record.id, subnet_id=record.subnet.id)
        self.later(self.terminated_visible_s, lambda: self._forget(record))

    def _forget(self, record: InstanceRecord) -> None:
        if self.instances.get(record.id) is record:
            del self.instances[record.id]
            self.tags.pop(record.id, None)

    def _release_devices(self, record: InstanceRecord) -> None:
        for interface in list(record.devices.values()):
            attachment = interface.attachment
            if attachment is not None:
                self.unhang(interface, attachment)
                if attachment.delete_on_termination:
                    self.drop(interface)

    def set_instance_state(self, instance_id: str, state: str) -> None:
        """Stopped and running, as Stop- and StartInstances do."""
        self.instance_record(instance_id).state = state

    def describe_instances(
        self,
        instance_ids: Sequence[str] = (),
        filters: listing.Filters | None = None,
        *,
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> Page[Instance]:
        """DescribeInstances. Ids unknown: InvalidInstanceID.NotFound."""
        self.advance()
        wanted = filters or {}
        listing.check_names(wanted, INSTANCE_FILTERS)
        window = listing.window(
            ids=instance_ids, ids_name="instancesSet", max_results=max_results, next_token=next_token, default=1000
        )

        def show(instance_id: str) -> Instance | None:
            view = self._instance(self.instance_record(instance_id))
            return view if listing.fits(view, wanted, INSTANCE_FILTERS, lambda i: i.tags) else None

        return listing.cut(set(instance_ids) or self.instances, show, window)

    def describe_instance_types(
        self,
        names: Sequence[str] = (),
        *,
        patterns: Sequence[str] = (),
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> Page[Mapping[str, Any]]:
        """DescribeInstanceTypes, documents as EC2's; pages of 100 even when none are asked for. InvalidInstanceType."""
        known = {**limits.documents(), **self.extra_types}
        missing = [name for name in names if name not in known]
        if missing:
            raise unknown("type", ", ".join(missing))
        window = listing.window(
            ids=names,
            ids_name="InstanceTypes",
            max_results=max_results,
            next_token=next_token,
            most=TYPES_PER_PAGE,
            default=TYPES_PER_PAGE,
        )
        wanted = {"instance-type": patterns} if patterns else {}

        def show(name: str) -> Mapping[str, Any] | None:
            return known[name] if listing.fits(name, wanted, {"instance-type": str}, lambda _: {}) else None

        return listing.cut(set(names) or known, show, window)

    def _instance(self, record: InstanceRecord) -> Instance:
        shown: dict[tuple[int, int], InterfaceRecord] = dict(sorted(record.devices.items()))
        return Instance(
            id=record.id,
            type=record.type,
            image_id=record.image_id,
            subnet_id=record.subnet.id,
            vpc_id=record.subnet.vpc.id,
            zone=record.subnet.zone,
            state=record.state,
            launch_time_s=record.launch_time_s,
            interfaces=tuple(self.view(interface) for interface in shown.values() if not interface.hidden),
            tags=dict(self.tags.get(record.id, {})),
        )
