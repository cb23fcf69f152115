"""The EC2 verbs that the model answers: boto3's parameters in, boto3's result out.

Each verb lists the parameters it honours; one that EC2 has and this server does not is refused by name
(UnsupportedOperation), never ignored. All rules are the model's; this is translation only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enitide_lab.ec2model import EC2Model, ModelError, listing
from enitide_lab.ec2model.errors import bad_combination, dry_run
from enitide_lab.ec2model.instances import STATE_CODES
from enitide_lab.ec2model.types import Instance
from enitide_lab.ec2server import wire
from enitide_lab.ec2server.motoworld import MotoWorld
from enitide_lab.ec2server.shapes import Shapes, tags

Params = Mapping[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What a verb works on."""

    model: EC2Model
    moto: MotoWorld
    shapes: Shapes


Handler = Callable[[Context, Params], Result]


def answer(context: Context, verb: str, params: Params) -> Result:
    """Answer `verb`. `ModelError` for what EC2 refuses."""
    handler, honoured = VERBS[verb]
    for name in params:
        if name not in honoured and name != "DryRun":
            raise ModelError("UnsupportedOperation", f"{verb}: the parameter {name} is not supported here")
    return handler(context, params)


def _filters(params: Params) -> dict[str, Sequence[str]]:
    return {entry["Name"]: entry.get("Values", []) for entry in params.get("Filters", [])}


def _paging(params: Params) -> dict[str, Any]:
    return {"max_results": params.get("MaxResults"), "next_token": params.get("NextToken")}


def _tags_for(params: Params, kind: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in params.get("TagSpecifications", []):
        if entry.get("ResourceType") != kind:
            words = f"'{entry.get('ResourceType')}' is not a valid taggable resource type for this operation."
            raise ModelError("InvalidParameterValue", words)
        found |= {tag["Key"]: tag.get("Value", "") for tag in entry.get("Tags", [])}
    return found


def _refuse_dry(params: Params) -> None:
    if params.get("DryRun"):
        raise dry_run()


# --- ENIs ---


def create_network_interface(context: Context, params: Params) -> Result:
    """CreateNetworkInterface."""
    listed = params.get("PrivateIpAddresses", [])
    primaries = [entry["PrivateIpAddress"] for entry in listed if entry.get("Primary")]
    if len(primaries) > 1 or (primaries and params.get("PrivateIpAddress")):
        raise bad_combination("Only one primary private IP address can be specified.")
    made = context.model.create_network_interface(
        params["SubnetId"],
        groups=params.get("Groups", []),
        description=params.get("Description", ""),
        address=params.get("PrivateIpAddress") or (primaries[0] if primaries else None),
        addresses=[entry["PrivateIpAddress"] for entry in listed],
        secondary_count=params.get("SecondaryPrivateIpAddressCount", 0),
        prefix_count=params.get("Ipv4PrefixCount", 0),
        prefixes=[entry["Ipv4Prefix"] for entry in params.get("Ipv4Prefixes", [])],
        ipv6_count=params.get("Ipv6AddressCount", 0),
        ipv6_addresses=[entry["Ipv6Address"] for entry in params.get("Ipv6Addresses", [])],
        ipv6_prefix_count=params.get("Ipv6PrefixCount", 0),
        ipv6_prefixes=[entry["Ipv6Prefix"] for entry in params.get("Ipv6Prefixes", [])],
        interface_type=params.get("InterfaceType", "interface"),
        tags=_tags_for(params, "network-interface"),
        client_token=params.get("ClientToken"),
        dry=params.get("DryRun", False),
    )
    return {"NetworkInterface": context.shapes.interface(made), "ClientToken": params.get("ClientToken")}


def delete_network_interface(context: Context, params: Params) -> Result:
    """DeleteNetworkInterface."""
    context.model.delete_network_interface(params["NetworkInterfaceId"], dry=params.get("DryRun", False))
    context.moto.drop_twins()
    return {}


def describe_network_interfaces(context: Context, params: Params) -> Result:
    """DescribeNetworkInterfaces."""
    _refuse_dry(params)
    page = context.model.describe_network_interfaces(
        params.get("NetworkInterfaceIds", []), _filters(params), **_paging(params)
    )
    shapes = [context.shapes.interface(view) for view in page.items]
    return {"NetworkInterfaces": shapes, "NextToken": page.next_token}


def attach_network_interface(context: Context, params: Params) -> Result:
    """AttachNetworkInterface."""
    made = context.model.attach_network_interface(
        params["NetworkInterfaceId"],
        params["InstanceId"],
        params["DeviceIndex"],
        card=params.get("NetworkCardIndex", 0),
        dry=params.get("DryRun", False),
    )
    return {"AttachmentId": made.id, "NetworkCardIndex": made.card}


def detach_network_interface(context: Context, params: Params) -> Result:
    """DetachNetworkInterface."""
    context.model.detach_network_interface(
        params["AttachmentId"], force=params.get("Force", False), dry=params.get("DryRun", False)
    )
    return {}


def modify_network_interface_attribute(context: Context, params: Params) -> Result:
    """ModifyNetworkInterfaceAttribute."""
    attachment = params.get("Attachment", {})
    context.model.modify_network_interface_attribute(
        params["NetworkInterfaceId"],
        groups=params.get("Groups"),
        description=params.get("Description", {}).get("Value"),
        source_dest_check=params.get("SourceDestCheck", {}).get("Value"),
        attachment_id=attachment.get("AttachmentId"),
        delete_on_termination=attachment.get("DeleteOnTermination"),
        dry=params.get("DryRun", False),
    )
    return {}


def describe_network_interface_attribute(context: Context, params: Params) -> Result:
    """DescribeNetworkInterfaceAttribute."""
    shape = context.shapes.interface(context.model.view(context.model.interface_record(params["NetworkInterfaceId"])))
    result: Result = {"NetworkInterfaceId": params["NetworkInterfaceId"]}
    match params.get("Attribute"):
        case "description":
            result["Description"] = {"Value": shape["Description"]}
        case "groupSet":
            result["Groups"] = shape["Groups"]
        case "sourceDestCheck":
            result["SourceDestCheck"] = {"Value": shape["SourceDestCheck"]}
        case "attachment":
            result["Attachment"] = shape.get("Attachment")
        case other:
            raise ModelError("InvalidParameterValue", f"Value ({other}) for parameter attribute is invalid.")
    return result


def reset_network_interface_attribute(context: Context, params: Params) -> Result:
    """ResetNetworkInterfaceAttribute: the source/destination check comes back."""
    context.model.modify_network_interface_attribute(
        params["NetworkInterfaceId"], source_dest_check=True, dry=params.get("DryRun", False)
    )
    return {}


# --- addresses ---


def assign_private_ip_addresses(context: Context, params: Params) -> Result:
    """AssignPrivateIpAddresses."""
    made = context.model.assign_private_ip_addresses(
        params["NetworkInterfaceId"],
        count=params.get("SecondaryPrivateIpAddressCount", 0),
        addresses=params.get("PrivateIpAddresses", []),
        prefix_count=params.get("Ipv4PrefixCount", 0),
        prefixes=params.get("Ipv4Prefixes", []),
        allow_reassignment=params.get("AllowReassignment", False),
    )
    return {
        "NetworkInterfaceId": made.interface_id,
        "AssignedPrivateIpAddresses": [{"PrivateIpAddress": address} for address in made.addresses],
        "AssignedIpv4Prefixes": [{"Ipv4Prefix": prefix} for prefix in made.prefixes],
    }


def unassign_private_ip_addresses(context: Context, params: Params) -> Result:
    """UnassignPrivateIpAddresses."""
    context.model.unassign_private_ip_addresses(
        params["NetworkInterfaceId"],
        addresses=params.get("PrivateIpAddresses", []),
        prefixes=params.get("Ipv4Prefixes", []),
    )
    return {}


def assign_ipv6_addresses(context: Context, params: Params) -> Result:
    """AssignIpv6Addresses."""
    made = context.model.assign_ipv6_addresses(
        params["NetworkInterfaceId"],
        count=params.get("Ipv6AddressCount", 0),
        addresses=params.get("Ipv6Addresses", []),
        prefix_count=params.get("Ipv6PrefixCount", 0),
        prefixes=params.get("Ipv6Prefixes", []),
    )
    return {
        "NetworkInterfaceId": made.interface_id,
        "AssignedIpv6Addresses": list(made.addresses),
        "AssignedIpv6Prefixes": list(made.prefixes),
    }


def unassign_ipv6_addresses(context: Context, params: Params) -> Result:
    """UnassignIpv6Addresses."""
    gone = context.model.unassign_ipv6_addresses(
        params["NetworkInterfaceId"],
        addresses=params.get("Ipv6Addresses", []),
        prefixes=params.get("Ipv6Prefixes", []),
    )
    return {
        "NetworkInterfaceId": gone.interface_id,
        "UnassignedIpv6Addresses": list(gone.addresses),
        "UnassignedIpv6Prefixes": list(gone.prefixes),
    }


# --- instances, types, subnets ---


def reservations(context: Context, views: Sequence[Instance]) -> list[Result]:
    """Instances grouped by the reservation they were launched in."""
    grouped: dict[str, list[Result]] = {}
    known, places = context.moto.instances(), context.moto.reservation_ids()
    for view in views:
        place = places.get(view.id, f"r-{view.id.partition('-')[2]}")
        shape = context.shapes.instance(view, context.moto.extras(known.get(view.id)))
        grouped.setdefault(place, []).append(shape)
    return [
        {"ReservationId": name, "OwnerId": context.model.owner, "Groups": [], "Instances": instances}
        for name, instances in grouped.items()
    ]


def describe_instances(context: Context, params: Params) -> Result:
    """DescribeInstances; pages count instances."""
    _refuse_dry(params)
    page = context.model.describe_instances(params.get("InstanceIds", []), _filters(params), **_paging(params))
    return {"Reservations": reservations(context, page.items), "NextToken": page.next_token}


def terminate_instances(context: Context, params: Params) -> Result:
    """TerminateInstances."""
    _refuse_dry(params)
    changes = context.moto.terminate(params["InstanceIds"])
    context.moto.drop_twins()
    return {
        "TerminatingInstances": [
            {"InstanceId": name, "PreviousState": _state(before), "CurrentState": _state(now)}
            for name, before, now in changes
        ]
    }


def _state(name: str) -> Result:
    return {"Code": STATE_CODES[name], "Name": name}


def describe_instance_types(context: Context, params: Params) -> Result:
    """DescribeInstanceTypes by name or all; a filter `instance-type` names types too."""
    _refuse_dry(params)
    filters = _filters(params)
    names = list(params.get("InstanceTypes", []))
    if set(filters) - {"instance-type"}:
        raise ModelError(
            "UnsupportedOperation", f"DescribeInstanceTypes: filters {sorted(filters)} are not supported here"
        )
    page = context.model.describe_instance_types(names, patterns=filters.get("instance-type", ()), **_paging(params))
    shape = wire.service().shape_for("InstanceTypeInfo")
    return {"InstanceTypes": [wire.known_part(shape, item) for item in page.items], "NextToken": page.next_token}


def describe_subnets(context: Context, params: Params) -> Result:
    """DescribeSubnets."""
    _refuse_dry(params)
    page = context.model.describe_subnets(params.get("SubnetIds", []), _filters(params), **_paging(params))
    return {"Subnets": [context.shapes.subnet(view) for view in page.items], "NextToken": page.next_token}


def get_subnet_cidr_reservations(context: Context, params: Params) -> Result:
    """GetSubnetCidrReservations (IPv4)."""
    _refuse_dry(params)
    found = {each.id: each for each in context.model.get_subnet_cidr_reservations(params["SubnetId"])}
    page = listing.cut(found, found.get, listing.window(**_paging(params)))
    shown = [context.shapes.reservation(view) for view in page.items]
    return {"SubnetIpv4CidrReservations": shown, "NextToken": page.next_token}


def create_tags(context: Context, params: Params) -> Result:
    """CreateTags."""
    _refuse_dry(params)
    context.model.create_tags(params["Resources"], {tag["Key"]: tag.get("Value", "") for tag in params["Tags"]})
    return {}


def delete_tags(context: Context, params: Params) -> Result:
    """DeleteTags; without tags all of them go."""
    _refuse_dry(params)
    for resource in params["Resources"]:
        named = {tag["Key"]: tag.get("Value") for tag in params.get("Tags", [])}
        context.model.delete_tags([resource], named or dict.fromkeys(context.model.tags.get(resource, {})))
    return {}


_PAGED = frozenset({"Filters", "MaxResults", "NextToken"})
_CREATE = frozenset(
    {
        "SubnetId", "Groups", "Description", "PrivateIpAddress", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount",
        "Ipv4PrefixCount", "Ipv4Prefixes", "Ipv6AddressCount", "Ipv6Addresses", "Ipv6PrefixCount", "Ipv6Prefixes",
        "InterfaceType", "TagSpecifications", "ClientToken",
    }
)  # fmt: skip
_ASSIGN = frozenset(
    {
        "NetworkInterfaceId", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount", "Ipv4PrefixCount", "Ipv4Prefixes",
        "AllowReassignment",
    }
)  # fmt: skip
_MODIFY = frozenset({"NetworkInterfaceId", "Groups", "Description", "SourceDestCheck", "Attachment"})
_IPV6 = frozenset({"NetworkInterfaceId", "Ipv6AddressCount", "Ipv6Addresses", "Ipv6PrefixCount", "Ipv6Prefixes"})

VERBS: Mapping[str, tuple[Handler, frozenset[str]]] = {
    "CreateNetworkInterface": (create_network_interface, _CREATE),
    "DeleteNetworkInterface": (delete_network_interface, frozenset({"NetworkInterfaceId"})),
    "DescribeNetworkInterfaces": (describe_network_interfaces, _PAGED | {"NetworkInterfaceIds"}),
    "AttachNetworkInterface": (
        attach_network_interface,
        frozenset({"NetworkInterfaceId", "InstanceId", "DeviceIndex", "NetworkCardIndex"}),
    ),
    "DetachNetworkInterface": (detach_network_interface, frozenset({"AttachmentId", "Force"})),
    "ModifyNetworkInterfaceAttribute": (modify_network_interface_attribute, _MODIFY),
    "DescribeNetworkInterfaceAttribute": (
        describe_network_interface_attribute,
        frozenset({"NetworkInterfaceId", "Attribute"}),
    ),
    "ResetNetworkInterfaceAttribute": (
        reset_network_interface_attribute,
        frozenset({"NetworkInterfaceId", "SourceDestCheck"}),
    ),
    "AssignPrivateIpAddresses": (assign_private_ip_addresses, _ASSIGN),
    "UnassignPrivateIpAddresses": (
        unassign_private_ip_addresses,
        frozenset({"NetworkInterfaceId", "PrivateIpAddresses", "Ipv4Prefixes"}),
    ),
    "AssignIpv6Addresses": (assign_ipv6_addresses, _IPV6),
    "UnassignIpv6Addresses": (unassign_ipv6_addresses, _IPV6 - {"Ipv6AddressCount", "Ipv6PrefixCount"}),
    "DescribeInstances": (describe_instances, _PAGED | {"InstanceIds"}),
    "TerminateInstances": (terminate_instances, frozenset({"InstanceIds"})),
    "DescribeInstanceTypes": (describe_instance_types, _PAGED | {"InstanceTypes"}),
    "DescribeSubnets": (describe_subnets, _PAGED | {"SubnetIds"}),
    "GetSubnetCidrReservations": (
        get_subnet_cidr_reservations,
        frozenset({"SubnetId", "MaxResults", "NextToken"}),
    ),
    "CreateTags": (create_tags, frozenset({"Resources", "Tags"})),
    "DeleteTags": (delete_tags, frozenset({"Resources", "Tags"})),
}

__all__ = ["VERBS", "Context", "answer", "reservations", "tags"]
