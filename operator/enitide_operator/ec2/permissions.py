"""May these credentials do what the operator does? By EC2's own dry runs, else by IAM's policy simulation.

A dry run asks for everything and does nothing: `DryRunOperation` is a yes, `UnauthorizedOperation` a no, and any other
answer says nothing of rights. Assigning and unassigning addresses know no dry run, and some verbs need an ENI of this
cluster to be asked about; there the caller's policies are simulated, where IAM allows that. What neither can tell is
not checked, and said so: it is no yes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from enitide_api.iam import ADDRESSES, CLUSTER_TAG, READS

_NO_DRY_RUN = "EC2 knows no dry run of it"


@dataclass(frozen=True, slots=True)
class Target:
    """What to ask about. `eni`, `attachment`: of an ENI that carries this cluster's tag, empty where there is none."""

    cluster: str
    subnet: str = ""
    instance: str = ""
    eni: str = ""
    attachment: str = ""


@dataclass(frozen=True, slots=True)
class Permission:
    """`allowed` None: not checked, `how` says why; else `how` it was found out."""

    verb: str
    allowed: bool | None
    how: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `source`: the principal whose policies IAM can simulate, '' where it could not be told."""

    arn: str
    account: str
    source: str


def caller_of(sts: Any) -> Caller:
    """Whose credentials these are; a role's session stands for the role."""
    found = sts.get_caller_identity()
    arn = str(found["Arn"])
    parts = arn.split(":")
    source = arn
    if len(parts) > 5 and parts[5].startswith("assumed-role/"):
        parts[2] = "iam"
        source = ":".join([*parts[:5], f"role/{parts[5].split('/')[1]}"])
    return Caller(arn, str(found["Account"]), "" if arn.endswith(":root") else source)


def permissions(ec2: Any, iam: Any, caller: Caller, region: str, target: Target) -> tuple[Permission, ...]:
    """One for each verb of the operator's policy (docs/iam.md)."""
    dry = _dry_runs(ec2, target)
    found: list[Permission] = []
    open_questions: dict[str, str] = {}
    for verb in (*READS, *ADDRESSES, *_OTHERS):
        allowed, how = _ask(dry[verb], reads=verb in READS) if verb in dry else (None, _missing(verb, target))
        if allowed is None:
            open_questions[verb] = how
        else:
            found.append(Permission(verb, allowed, how))
    return tuple(sorted((*found, *_simulated(iam, caller, region, target, open_questions)), key=lambda each: each.verb))


_OTHERS = (
    "AttachNetworkInterface",
    "CreateNetworkInterface",
    "CreateTags",
    "DeleteNetworkInterface",
    "DetachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
)
_WITH_OWN_ENI = frozenset(_OTHERS) - {"CreateNetworkInterface", "CreateTags"}


def _missing(verb: str, target: Target) -> str:
    if verb in _WITH_OWN_ENI and not target.eni:
        return f"no ENI with the tag of cluster {target.cluster or '(no name)'} to ask about"
    if verb in ADDRESSES:
        return _NO_DRY_RUN
    return "no subnet to ask about"


def _dry_runs(ec2: Any, target: Target) -> dict[str, Callable[[], Any]]:
    """The calls that can be asked as dry runs with what there is."""
    calls: dict[str, Callable[[], Any]] = {
        "DescribeAddresses": lambda: ec2.describe_addresses(DryRun=True),
        "DescribeInstances": lambda: ec2.describe_instances(DryRun=True),
        "DescribeInstanceTypes": lambda: ec2.describe_instance_types(DryRun=True),
        "DescribeNetworkInterfaces": lambda: ec2.describe_network_interfaces(DryRun=True),
        "DescribeRouteTables": lambda: ec2.describe_route_tables(DryRun=True),
        "DescribeSecurityGroups": lambda: ec2.describe_security_groups(DryRun=True),
        "DescribeSubnets": lambda: ec2.describe_subnets(DryRun=True),
        "DescribeVpcs": lambda: ec2.describe_vpcs(DryRun=True),
    }
    if target.subnet:
        tags = [{"Key": CLUSTER_TAG, "Value": target.cluster}]
        made = {"TagSpecifications": [{"ResourceType": "network-interface", "Tags": tags}]} if target.cluster else {}
        create = lambda: ec2.create_network_interface(SubnetId=target.subnet, DryRun=True, **made)  # noqa: E731
        calls |= {"CreateNetworkInterface": create, "CreateTags": create}  # tags are put on in the same call
        calls["GetSubnetCidrReservations"] = lambda: ec2.get_subnet_cidr_reservations(
            SubnetId=target.subnet, DryRun=True
        )
    if target.eni:
        own = {"NetworkInterfaceId": target.eni, "DryRun": True}
        calls["DeleteNetworkInterface"] = lambda: ec2.delete_network_interface(**own)
        calls["AttachNetworkInterface"] = lambda: ec2.attach_network_interface(
            InstanceId=target.instance, DeviceIndex=15, **own
        )
        attachment = {"AttachmentId": target.attachment, "DeleteOnTermination": True}
        calls["ModifyNetworkInterfaceAttribute"] = lambda: ec2.modify_network_interface_attribute(
            Attachment=attachment, **own
        )
    if target.attachment:
        calls["DetachNetworkInterface"] = lambda: ec2.detach_network_interface(
            AttachmentId=target.attachment, DryRun=True
        )
    return calls


def _ask(call: Callable[[], Any], *, reads: bool) -> tuple[bool | None, str]:
    try:
        call()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "DryRunOperation":
            return True, "dry run"
        if code in {"UnauthorizedOperation", "AccessDenied", "AuthFailure"}:
            return False, "dry run"
        return None, f"the dry run was answered with {code}, which says nothing of rights"
    except BotoCoreError as error:
        return None, f"the dry run was not answered: {error}"
    if reads:
        return True, "the endpoint knows no dry run and answered the read"
    return None, "the endpoint took the dry run for a real call"


def _simulated(
    iam: Any, caller: Caller, region: str, target: Target, verbs: Mapping[str, str]
) -> tuple[Permission, ...]:
    """What IAM says of the rest; where it does not answer, why nothing is known."""
    if not verbs:
        return ()
    try:
        decisions = _decisions(iam, caller, region, target, tuple(verbs))
    except (ClientError, BotoCoreError) as error:
        code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else error
        why = f"iam:SimulatePrincipalPolicy: {code}"
        return tuple(Permission(verb, None, f"{how}; {why}") for verb, how in verbs.items())
    return tuple(
        Permission(verb, decisions[verb] == "allowed", "policy simulation")
        if verb in decisions
        else Permission(verb, None, f"{how}; the simulation left it out")
        for verb, how in verbs.items()
    )


def _decisions(iam: Any, caller: Caller, region: str, target: Target, verbs: tuple[str, ...]) -> dict[str, str]:
    """IAM's word on each verb, for an ENI of this account that carries the cluster's tag."""
    partition = caller.arn.split(":")[1]
    tag = {"ContextKeyType": "string", "ContextKeyValues": [target.cluster]}
    entries = [{"ContextKeyName": f"aws:{kind}/{CLUSTER_TAG}", **tag} for kind in ("ResourceTag", "RequestTag")]
    entries.append(
        {
            "ContextKeyName": "ec2:CreateAction",
            "ContextKeyType": "string",
            "ContextKeyValues": ["CreateNetworkInterface"],
        }
    )
    reply = iam.simulate_principal_policy(
        PolicySourceArn=caller.source,
        ActionNames=[f"ec2:{verb}" for verb in verbs],
        ResourceArns=[f"arn:{partition}:ec2:{region}:{caller.account}:network-interface/*"],
        ContextEntries=entries,
    )
    return {each["EvalActionName"].partition(":")[2]: each["EvalDecision"] for each in reply["EvaluationResults"]}
