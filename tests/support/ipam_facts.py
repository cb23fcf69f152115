"""Small worlds for the tests of enitide_ipam: a node, its ENIs, its subnets."""

from __future__ import annotations

from enitide_api.resources import (
    Demand,
    ENIClassSpec,
    InstanceFacts,
    InterfacePolicy,
    PoolLevels,
    Selector,
)
from enitide_ipam.limits import InstanceLimits, limits_for
from enitide_ipam.model import Attachment, EniView, GroupView, NodeSnapshot, PlanSettings, SubnetView

VPC = "vpc-1"
ZONE = "us-west-1a"
INSTANCE = InstanceFacts(id="i-1", type="m5.large", availability_zone=ZONE, vpc_id=VPC, subnet_id="s-1")
SETTINGS = PlanSettings(cluster_name="demo", nonce="n")
GROUPS = (GroupView("sg-a", VPC, {"team": "a"}), GroupView("sg-b", VPC, {"team": "a"}), GroupView("sg-c", VPC))


def subnet(name: str = "s-1", *, free: int = 1000, whole: int | None = None, **more) -> SubnetView:
    facts = {"vpc_id": VPC, "zone": ZONE, "cidr": "10.0.0.0/20", "route_table": "rt-1", **more}
    return SubnetView(id=name, free=free, whole_prefixes=whole, **facts)


def eni(name: str = "eni-0", *, index: int = 0, singles: int = 0, prefixes: int = 0, **more) -> EniView:
    """An attached ENI; addresses are numbered by its index so that no two ENIs share one."""
    base = index + 16 * more.get("card", 0)
    facts = {
        "subnet_id": "s-1",
        "mac": f"02:00:00:00:00:{base:02x}",
        "primary": f"10.0.{base}.4",
        "groups": ("sg-a",),
        "instance_id": "i-1",
        "attachment": Attachment.ATTACHED,
        "attachment_id": f"attach-{name}",
        "addresses": tuple(f"10.0.{base}.{5 + each}" for each in range(singles)),
        "prefixes": tuple(f"10.0.{base}.{64 + 16 * each}/28" for each in range(prefixes)),
        **more,
    }
    return EniView(id=name, index=index, **facts)


def eni_class(
    *,
    pool: PoolLevels | None = None,
    prefixes: bool = False,
    subnets: Selector | None = None,
    groups: Selector | None = None,
    **interfaces,
) -> ENIClassSpec:
    policy = InterfacePolicy(
        subnet_selector=subnets or Selector(), security_group_selector=groups or Selector(), **interfaces
    )
    return ENIClassSpec(pool=pool or PoolLevels(), prefix_delegation=prefixes, interfaces=policy)


def node(*enis: EniView, bound: int = 0, demand: Demand | None = None, **more) -> NodeSnapshot:
    facts = {
        "name": "node-1",
        "instance": INSTANCE,
        "limits": limits_for("m5.large"),
        "class_": eni_class(),
        "enis_asked_at": 1000.0,
        **more,
    }
    return NodeSnapshot(enis=enis or (eni(),), bound=bound, demand=demand or Demand(), **facts)


def shape(cards: tuple[int, ...] = (3,), per_eni: int = 10, *, hypervisor: str = "nitro") -> InstanceLimits:
    return InstanceLimits("test.type", cards, per_eni, per_eni, hypervisor, hypervisor != "xen")
