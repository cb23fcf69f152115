"""Keeps moto's world and the model coherent.

moto owns VPCs, subnets, groups, route tables, reservations, tags, images, volumes and Elastic IPs; the model owns
addresses, ENIs and what hangs on instances. So moto's objects are mirrored into the model after every change
(`mirror.py`), and moto's own makers of ENIs and instances (RunInstances,
autoscaling groups, NAT gateways, …) are led to the model. Where moto needs an ENI object, it gets a `twin`: inert,
with the facts of the model's ENI. Tags are one and the same dictionary on both sides.

moto keeps one backend per account and Region in a process, so only one such world can be bound at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moto.backends import get_backend
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix

from enitide_lab.ec2model import EC2Model, ModelError
from enitide_lab.ec2model.types import NicSpec, Tags
from enitide_lab.ec2server.mirror import true
from enitide_lab.ec2server.motofacts import MotoFacts

_bound: dict[int, MotoWorld] = {}
Twin: Any = NetworkInterface
MotoInstance: Any = Instance
_moto_prep_nics = MotoInstance.prep_nics


def _prep_nics(  # noqa: PLR0917 - moto's signature
    instance: Any,
    nic_spec: list[dict[str, Any]],
    private_ip: str | None = None,
    associate_public_ip: bool | None = None,
    security_groups: list[Any] | None = None,
    ipv6_address_count: int | None = None,
) -> None:
    """Moto's maker of an instance's ENIs, led to the model where its backend is bound."""
    world = _bound.get(id(instance.ec2_backend))
    if world is None:
        _moto_prep_nics(instance, nic_spec, private_ip, associate_public_ip, security_groups, ipv6_address_count)
        return
    try:
        world.launch(
            instance, nic_spec, private_ip, [group.id for group in security_groups or []], ipv6_address_count or 0
        )
    except ModelError as exc:
        raise EC2ClientError(exc.code, exc.message) from exc


MotoInstance.prep_nics = _prep_nics


class MotoWorld(MotoFacts):
    """The binding of one model to moto's backend of its account and Region."""

    def __init__(self, model: EC2Model) -> None:
        super().__init__(model, ec2_backends[model.owner][model.region])
        self.secondary_association = {}
        self._interface_tags: Tags = {}
        self._made: set[str] = set()  # ENIs that moto made for itself
        if any(world.model.region == model.region for world in _bound.values()):
            raise RuntimeError(f"moto's {model.region} is already bound to another model in this process")
        self.backend.reset()
        self._bind()

    def close(self) -> None:
        """Let moto's backend go, empty."""
        _bound.pop(id(self.backend), None)
        self.backend.reset()

    def reset(self) -> None:
        """Both sides as new."""
        self.model.clear()
        self._mirrored.clear()
        self.secondary_association.clear()
        self._made.clear()
        self.backend.reset()
        self._bind()

    def _bind(self) -> None:
        backend = self.backend
        _bound[id(backend)] = self
        for resource_id, tags in backend.tags.items():
            self.model.tags[resource_id].update(tags)
        backend.tags = self.model.tags
        for name in (
            "create_network_interface",
            "get_network_interface",
            "delete_network_interface",
            "run_instances",
            "terminate_instances",
            "describe_tags",
        ):
            setattr(self, f"_moto_{name}", getattr(backend, name))
            setattr(backend, name, getattr(self, f"_{name}"))
        self.sync()

    # --- instances -----------------------------------------------------------------------------------------------

    def launch(
        self,
        instance: Any,
        nics: Sequence[Mapping[str, Any]],
        private_ip: str | None,
        groups: Sequence[str],
        ipv6_count: int,
    ) -> None:
        """Hang ENIs of the model on a new moto instance."""
        self.sync()
        instance.nics = {}
        subnet_id = instance.subnet_id or self._default_subnet(instance)
        specs = [nic_spec(nic, private_ip if int(nic.get("DeviceIndex", 0)) == 0 else None) for nic in nics]
        if not specs:
            specs = [NicSpec(subnet_id=subnet_id, groups=tuple(groups), address=private_ip, ipv6_count=ipv6_count)]
        record = self.model.launch(
            instance.id,
            instance.instance_type,
            subnet_id,
            groups=groups,
            nics=specs,
            image_id=instance.image_id or "ami-00000000000000000",
            interface_tags=self._interface_tags,
        )
        instance._subnet_id = subnet_id  # noqa: SLF001
        for (card, index), interface in sorted(record.devices.items()):
            if card == 0:
                instance.nics[index] = self.twin(interface.id)

    def _default_subnet(self, instance: Any) -> str:
        defaults = self.backend.get_default_subnets()
        zone = instance.placement.zone
        if zone not in defaults:
            raise ModelError("MissingInput", f"No default subnet for availability zone: '{zone}'.")
        return str(defaults[zone].id)

    def _run_instances(self, *args: Any, **kwargs: Any) -> Any:
        before = set(self.backend.reservations)
        self._interface_tags = (kwargs.get("tags") or {}).get("network-interface", {})
        try:
            return self._moto_run_instances(*args, **kwargs)  # type: ignore[attr-defined]
        except Exception:
            # moto leaves what it had made before the refusal; EC2 launches all or none
            for name in set(self.backend.reservations) - before:
                for instance in self.backend.reservations.pop(name).instances:
                    self.model.vanish(instance.id)
            raise
        finally:
            self._interface_tags = {}

    def _terminate_instances(self, instance_ids: list[str]) -> Any:
        ended = self._moto_terminate_instances(instance_ids)  # type: ignore[attr-defined]
        self.model.terminate_instances([i for i in instance_ids if i in self.model.instances])
        return ended

    def terminate(self, instance_ids: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
        """TerminateInstances over both sides: (id, state before, state now) each."""
        for instance_id in instance_ids:
            self.model.instance_record(instance_id)
        before = {i: self.model.instances[i].state for i in instance_ids}
        known = [i for i in instance_ids if i in self.instances()]
        if known:
            try:
                self.backend.terminate_instances(known)
            except EC2ClientError as exc:
                raise ModelError(exc.code, exc.message) from exc
            for service in ("autoscaling", "elbv2"):
                follower: Any = get_backend(service)[self.model.owner][self.model.region]
                follower.notify_terminate_instances(known)
        self.model.terminate_instances([i for i in instance_ids if i not in known])
        return tuple((i, before[i], self.model.instances[i].state) for i in instance_ids)

    # --- ENIs that moto makes or asks for --------------------------------------------------------------------------

    def _create_network_interface(  # noqa: PLR0917 - moto's signature
        self,
        subnet: Any,
        private_ip_address: str | list[str] | None = None,
        private_ip_addresses: list[Any] | None = None,
        group_ids: list[str] | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        delete_on_termination: bool | None = False,  # noqa: ARG002 - moto's signature
        **_kwargs: Any,
    ) -> Any:
        self.sync()
        del private_ip_address, private_ip_addresses  # moto's guesses; the model's map knows what is free
        subnet_id = subnet if isinstance(subnet, str) else subnet.id
        try:
            made = self.model.place_interface(
                subnet_id, groups=group_ids or (), description=description or "", tags=tags, requester_managed=True
            )
        except ModelError as exc:
            raise EC2ClientError(exc.code, exc.message) from exc
        self._made.add(made.id)
        return self.twin(made.id)

    def sync(self) -> None:
        """The mirror, and the end of ENIs whose maker in moto has gone (moto tells nobody)."""
        ended = self._made - self.backend.enis.keys()
        ended |= {gateway._eni.id for gateway in self.backend.nat_gateways.values() if gateway.state == "deleted"}  # noqa: SLF001
        for interface_id in ended & self.model.interfaces.keys():
            self._delete_network_interface(interface_id)
        self._made -= ended
        super().sync()

    def _get_network_interface(self, eni_id: str) -> Any:
        if eni_id in self.model.interfaces:
            return self.twin(eni_id)
        return self._moto_get_network_interface(eni_id)  # type: ignore[attr-defined]

    def _delete_network_interface(self, eni_id: str) -> None:
        self.backend.enis.pop(eni_id, None)
        record = self.model.interface_record(eni_id)
        if record.attachment is not None:
            self.model.unhang(record, record.attachment)
        self.model.drop(record)

    def twin(self, interface_id: str) -> Any:
        """Moto's object for an ENI of the model, with its facts of now. It deletes nothing by itself."""
        record = self.model.interface_record(interface_id)
        twin = self.backend.enis.get(interface_id)
        if twin is None:
            twin = Twin(self.backend, record.subnet.id, record.primary or "")
            twin.id, twin.mac_address, twin.delete_on_termination = record.id, record.mac, False
            self.backend.enis[interface_id] = twin
        twin.description = record.description
        twin.private_ip_addresses = [
            {"PrivateIpAddress": address, "Primary": address == record.primary}
            for address in (*filter(None, (record.primary,)), *record.secondaries)
        ]
        twin._group_set = [  # noqa: SLF001
            group for i in record.groups if (group := self.backend.get_security_group_from_id(i)) is not None
        ]
        attachment = record.attachment
        twin.instance = None if attachment is None else self.instances().get(attachment.instance.id)
        twin.attachment_id = attachment.id if attachment is not None and twin.instance is not None else None
        twin.device_index = None if attachment is None else attachment.index
        twin.status = "available" if attachment is None else "in-use"
        return twin

    def drop_twins(self) -> None:
        """Forget twins of ENIs that have gone."""
        for gone in self.backend.enis.keys() - self.model.interfaces.keys():
            del self.backend.enis[gone]

    def _describe_tags(self, filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
        if (
            filters is None
            or list(filters) != ["resource-id"]
            or any("*" in i or "?" in i for i in filters["resource-id"])
        ):
            found: list[dict[str, str]] = self._moto_describe_tags(filters)  # type: ignore[attr-defined]
            return found
        # moto asks for one resource's tags very often, and would look at every tag of the account each time
        return [
            {
                "resource_id": i,
                "key": key,
                "value": value,
                "resource_type": EC2_PREFIX_TO_RESOURCE.get(get_prefix(i), ""),
            }
            for i in filters["resource-id"]
            for key, value in self.model.tags.get(i, {}).items()
        ]


def nic_spec(nic: Mapping[str, Any], private_ip: str | None = None) -> NicSpec:
    """A `NetworkInterface` entry of RunInstances (boto3's names) as the model takes it."""
    named = [str(entry["PrivateIpAddress"]) for entry in nic.get("PrivateIpAddresses", [])]
    first = [
        str(entry["PrivateIpAddress"]) for entry in nic.get("PrivateIpAddresses", []) if true(entry.get("Primary"))
    ]
    address = private_ip or nic.get("PrivateIpAddress") or (first[0] if first else None)
    return NicSpec(
        index=int(nic.get("DeviceIndex", 0)),
        card=int(nic.get("NetworkCardIndex", 0)),
        interface_id=nic.get("NetworkInterfaceId"),
        subnet_id=nic.get("SubnetId"),
        groups=tuple(nic.get("Groups") or ()),
        address=address,
        addresses=tuple(named),
        secondary_count=int(nic.get("SecondaryPrivateIpAddressCount", 0)),
        prefix_count=int(nic.get("Ipv4PrefixCount", 0)),
        prefixes=tuple(str(entry["Ipv4Prefix"]) for entry in nic.get("Ipv4Prefixes", [])),
        ipv6_count=int(nic.get("Ipv6AddressCount", 0)),
        ipv6_prefix_count=int(nic.get("Ipv6PrefixCount", 0)),
        description=str(nic.get("Description", "")),
        interface_type=str(nic.get("InterfaceType", "interface")),
        delete_on_termination=true(nic.get("DeleteOnTermination", True)),
    )
