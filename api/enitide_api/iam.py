"""The operator's IAM policy, from one list of verbs; nodes need none.

Narrower than AWS's own CNI policy, which allows any change to any ENI of the account: an ENI may be made only with
this cluster's tag in the request, and detached, deleted or marked only if it carries that tag. Addresses may be put on
and taken from every ENI of our instances, because the first ENI of an instance is not made by us and has no tag.
"""

from __future__ import annotations

from typing import Any

CLUSTER_TAG = "enitide.io/cluster"

READS = (
    "DescribeAddresses",
    "DescribeInstances",
    "DescribeInstanceTypes",
    "DescribeNetworkInterfaces",
    "DescribeRouteTables",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeVpcs",
    "GetSubnetCidrReservations",
)
ADDRESSES = (
    "AssignIpv6Addresses",
    "AssignPrivateIpAddresses",
    "UnassignIpv6Addresses",
    "UnassignPrivateIpAddresses",
)
OWN_INTERFACES = (
    "DeleteNetworkInterface",
    "DetachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
)


def policy(cluster: str) -> dict[str, Any]:
    """The policy document for a cluster's operator. `cluster` is `--cluster-name`."""
    of_cluster = {"StringEquals": {f"aws:ResourceTag/{CLUSTER_TAG}": cluster}}
    in_request = {"StringEquals": {f"aws:RequestTag/{CLUSTER_TAG}": cluster}}
    elastic = "arn:aws:ec2:*:*:elastic-ip/*"
    eni, instance = "arn:aws:ec2:*:*:network-interface/*", "arn:aws:ec2:*:*:instance/*"
    others = ["arn:aws:ec2:*:*:subnet/*", "arn:aws:ec2:*:*:security-group/*"]
    tagging = {"StringEquals": {"ec2:CreateAction": "CreateNetworkInterface"}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("Read", READS, ["*"]),
            _allow("Addresses", ADDRESSES, [eni]),
            _allow("StaticAddress", ("AssociateAddress",), [elastic, eni, instance]),
            _allow("CreateWithClusterTag", ("CreateNetworkInterface",), [eni], in_request),
            _allow("CreateIn", ("CreateNetworkInterface",), others),
            _allow("TagAtCreation", ("CreateTags",), [eni], tagging),
            _allow("AttachOwn", ("AttachNetworkInterface",), [eni], of_cluster),
            _allow("AttachTo", ("AttachNetworkInterface", "DetachNetworkInterface"), [instance]),
            _allow("ChangeOwn", OWN_INTERFACES, [eni], of_cluster),
        ],
    }


def _allow(
    sid: str, verbs: tuple[str, ...], resources: list[str], condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": [f"ec2:{v}" for v in verbs]}
    statement["Resource"] = resources
    return statement | ({"Condition": condition} if condition else {})
