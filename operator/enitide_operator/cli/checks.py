"""What `enitide preflight` concludes from what it read: one check a line. Pure.

A check is `ok`, `failing` or `not checked`; what could not be seen is never taken for well. `next` says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enitide_api.resources import VERSION, ENIClass, ENIClassSpec, InstanceFacts
from enitide_ipam.groups import choose as choose_groups
from enitide_ipam.limits import limits_for
from enitide_ipam.model import Attachment, EniView, GroupView, SubnetView
from enitide_ipam.subnets import choose, eligible
from enitide_operator.classes import problem_of

if TYPE_CHECKING:
    from enitide_operator.ec2.permissions import Permission

OK, FAILING, UNCHECKED = "ok", "failing", "not checked"
LEAST_KERNEL = (6, 1)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    area: str
    check: str
    state: str
    detail: str
    next: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node's instance as EC2 shows it, with its first ENI's groups, its class and its kernel."""

    node: str
    facts: InstanceFacts
    groups: tuple[str, ...]
    kernel: str
    class_name: str
    class_: ENIClassSpec


def iam_checks(found: Iterable[Permission]) -> list[Check]:
    """One check a verb that is refused or unknown; those that are allowed in one line."""
    known = tuple(found)
    allowed = [each.verb for each in known if each.allowed]
    checks = [Check("iam", f"{len(allowed)} verbs", OK, "allowed, by dry run or policy simulation")] if allowed else []
    for each in known:
        if each.allowed is False:
            checks.append(Check("iam", each.verb, FAILING, f"refused ({each.how})", "docs/iam.md has the whole policy"))
        elif each.allowed is None:
            checks.append(Check("iam", each.verb, UNCHECKED, each.how))
    return checks


def class_checks(classes: Iterable[ENIClass]) -> list[Check]:
    """Classes that contradict themselves."""
    found = [(each.metadata.name, problem_of(each.spec)) for each in classes]
    bad = [
        Check("classes", name, FAILING, problem, "docs/runbook.md#classinvalid") for name, problem in found if problem
    ]
    return bad or [Check("classes", f"{len(found)} ENIClasses", OK, "none contradicts itself")]


def subnet_checks(machines: Sequence[Machine], subnets: Sequence[SubnetView]) -> list[Check]:
    """For each zone and class: is there a subnet for a new ENI, and how much room."""
    checks = []
    for (zone, name), machine in sorted(_alike(machines).items()):
        selector = machine.class_.interfaces.subnet_selector
        chosen = choose(subnets, machine.facts, selector, addresses=1)
        what = f"class {name}, {zone}"
        if chosen.subnet is None:
            reason = str(chosen.reason)
            checks.append(
                Check("subnets", what, FAILING, f"{reason}: {chosen.message}", f"docs/runbook.md#{reason.lower()}")
            )
            continue
        usable = eligible(subnets, machine.facts, selector)
        free = sum(each.free for each in usable)
        names = ", ".join(f"{each.id} ({each.free} free)" for each in usable[:4])
        more = f" and {len(usable) - 4} more" if usable[4:] else ""
        checks.append(Check("subnets", what, OK, f"{free} addresses free in {len(usable)} subnets: {names}{more}"))
    return checks or [
        Check("subnets", "nodes", UNCHECKED, "no node's instance is known: nothing says which subnets count")
    ]


def group_checks(machines: Sequence[Machine], groups: Sequence[GroupView]) -> list[Check]:
    """For each class: do its security groups exist in the nodes' VPC."""
    checks = []
    for (vpc, name), machine in sorted({(each.facts.vpc_id, each.class_name): each for each in machines}.items()):
        first = EniView(id="eni", groups=machine.groups, attachment=Attachment.ATTACHED)
        chosen = choose_groups(groups, vpc, machine.class_.interfaces.security_group_selector, (first,))
        what = f"class {name}, {vpc}"
        if chosen.reason is not None:
            where = f"docs/runbook.md#{str(chosen.reason).lower()}"
            checks.append(Check("security groups", what, FAILING, f"{chosen.reason}: {chosen.message}", where))
        else:
            checks.append(Check("security groups", what, OK, ", ".join(chosen.ids)))
    return checks


def limit_checks(machines: Iterable[Machine], described: Mapping[str, bool]) -> list[Check]:
    """Are the limits of each type known. `described`: types outside the shipped table, and whether EC2 knows them."""
    types = sorted({each.facts.type for each in machines})
    checks = []
    shipped = [each for each in types if limits_for(each) is not None]
    if shipped:
        checks.append(Check("limits", f"{len(shipped)} types", OK, f"in the shipped table: {', '.join(shipped[:6])}"))
    for name in (each for each in types if limits_for(each) is None):
        if described.get(name):
            checks.append(Check("limits", name, OK, "not in the shipped table; EC2 describes it"))
        else:
            where = "docs/runbook.md#limitsunknown"
            checks.append(Check("limits", name, FAILING, "neither the shipped table nor EC2 knows it", where))
    return checks


def kernel_checks(machines: Iterable[Machine]) -> list[Check]:
    """The version that each kubelet reports; BTF and the kernel's configuration are seen by the agent alone."""
    old = sorted(
        f"{each.node} ({each.kernel})" for each in machines if (v := _version(each.kernel)) and v < LEAST_KERNEL
    )
    unknown = sorted(each.node for each in machines if _version(each.kernel) is None)
    checks = []
    if old:
        detail = f"below {'.'.join(map(str, LEAST_KERNEL))}: {', '.join(old[:5])}"
        checks.append(Check("kernel", f"{len(old)} nodes", FAILING, detail, "docs/runbook.md#kernelunsupported"))
    if unknown:
        checks.append(
            Check("kernel", f"{len(unknown)} nodes", UNCHECKED, f"no version reported: {', '.join(unknown[:5])}")
        )
    if not old and not unknown:
        checks.append(Check("kernel", "versions", OK, "all 6.1 or newer"))
    detail = "BTF and the kernel's configuration cannot be seen from here: the agent checks them where it starts"
    return [*checks, Check("kernel", "features", UNCHECKED, detail)]


def crd_checks(
    installed: Mapping[str, Mapping[str, Any] | None], wanted: Mapping[str, Mapping[str, Any]]
) -> list[Check]:
    """By name of the definition: is it there, does it serve our version, has it every field of ours."""
    do = "kubectl apply -f charts/enitide/crds (Helm installs definitions, but never updates them)"
    checks = []
    for name, body in sorted(wanted.items()):
        found = installed.get(name)
        if found is None:
            checks.append(Check("crds", name, FAILING, "not installed", do))
            continue
        served = next((v for v in found["spec"]["versions"] if v["name"] == VERSION and v.get("served")), None)
        if served is None:
            checks.append(Check("crds", name, FAILING, f"does not serve {VERSION}", do))
            continue
        ours = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        missing = sorted(_paths(ours) - _paths(served["schema"]["openAPIV3Schema"]))
        if missing:
            detail = f"lacks {', '.join(missing[:4])}" + (f" and {len(missing) - 4} more" if missing[4:] else "")
            checks.append(Check("crds", name, FAILING, detail, do))
        else:
            checks.append(Check("crds", name, OK, f"{VERSION}, every field of this version"))
    return checks


def _paths(schema: Mapping[str, Any], at: str = "") -> set[str]:
    """Every property of a schema by its path."""
    found = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {f"{at}.{name}"} | _paths(inner, f"{at}.{name}")
    items = schema.get("items")
    return found | (_paths(items, f"{at}[]") if isinstance(items, dict) else set())


def _alike(machines: Iterable[Machine]) -> dict[tuple[str, str], Machine]:
    """One of those that are alike in what subnets depend on."""
    found: dict[tuple[str, str], Machine] = {}
    for each in machines:
        selector = each.class_.interfaces.subnet_selector
        own = "" if selector.ids or selector.tags else f" from {each.facts.subnet_id}"
        found.setdefault((f"{each.facts.availability_zone}{own}", each.class_name), each)
    return found


def _version(kernel: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", kernel)
    return (int(found[1]), int(found[2])) if found else None
