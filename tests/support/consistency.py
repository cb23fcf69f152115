"""Does everybody who remembers an address remember the same: EC2, ENINode, agent, journal, kernel, kubelet, pods.

Reads what each of them holds and compares; it changes nothing and knows no way how it came about. Meant for a lab at
rest: what is on its way somewhere shows as a difference, so tests wait until there is none and fail with the last ones.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from enitide_enidp.boot import boottime_s
from enitide_enidp.datapath import views
from enitide_enidp.journal import replay
from enitide_ipam.pool import Pool
from enitide_kube.port import ENINODE, POD
from enitide_lab.kubelet.sandbox import Sandbox, read_all
from support.lab import LabDriver, until

Foreign = Mapping[str, Mapping[str, str]]
_PASSING = ("claimed", "vanished", "not-ready")


@dataclass(slots=True)
class Told:
    """What one node's parts say. `enis`: attached in EC2; `rows`: the agent's addresses; `holders`: who should hold."""

    name: str
    enis: dict[str, dict[str, Any]]
    resource: dict[str, Any]
    rows: list[dict[str, Any]]
    holders: dict[str, str]
    sandboxes: list[Sandbox]
    journal: dict[str, str]
    kernel: set[str]
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Note a difference."""
        if found != wanted:
            self.problems.append(f"{self.name}: {what}: {found} instead of {wanted}")


async def settle(lab: LabDriver, timeout_s: float = 30.0, foreign: Foreign | None = None) -> None:
    """Wait until nobody contradicts anybody. `foreign`: containers not of the kubelet, by node: id to address."""
    last: list[str] = []

    async def quiet() -> bool:
        last[:] = await problems(lab, foreign or {})
        return not last

    try:
        await until(quiet, timeout_s)
    except AssertionError:
        raise AssertionError("\n".join(last)) from None


async def problems(lab: LabDriver, foreign: Foreign) -> list[str]:
    """Every contradiction, as sentences."""
    enis = lab.enis()
    async with lab.kube() as kube:
        resources = {}
        for raw in (await kube.list(ENINODE)).items:
            found = msgspec.json.decode(raw)
            resources[found["metadata"]["name"]] = found
        pods = [msgspec.json.decode(raw) for raw in (await kube.list(POD)).items]
    told = [_told(lab, node.name, enis, resources[node.name], foreign) for node in lab.lab.record.nodes]
    for each in told:
        _compare(each)
    return [*_of_ec2(enis), *_of_pods(pods, told), *(text for each in told for text in each.problems)]


def _told(
    lab: LabDriver, name: str, enis: Iterable[dict[str, Any]], resource: dict[str, Any], foreign: Foreign
) -> Told:
    instance, folders = lab.node(name).instance_id, lab.lab.paths.node(name)
    sandboxes = [each for each in read_all(folders.pods) if not each.host_network]
    holders = {each.addresses[0]: each.container_id for each in sandboxes if each.addresses}
    holders |= {address: container for container, address in foreign.get(name, {}).items()}
    pool = Pool(instance)
    pool.restore(replay((folders.run_dir / "journal").read_bytes()).records, boottime_s())
    with views.opened(folders.pin_dir) as fds:
        kernel = {row["ipv4"] for row in views.view("endpoints").rows(fds)}
    return Told(
        name,
        {eni["id"]: eni for eni in enis if (eni["attachment"] or {}).get("instance_id") == instance},
        resource,
        (lab.agent(name, "/v1/addresses") or {"addresses": []})["addresses"],
        holders,
        sandboxes,
        {held.address: held.owner for held in pool.ledger.held.values()},
        kernel,
    )


def _of_ec2(enis: list[dict[str, Any]]) -> list[str]:
    found = [f"{eni['id']} is attached to nothing" for eni in enis if eni["attachment"] is None]
    counted = Counter(address for eni in enis for address in eni["addresses"])
    found += [f"EC2 has {address} on {times} ENIs" for address, times in counted.items() if times > 1]
    for eni in (each for each in enis if each["attachment"]):
        if eni["attachment"]["status"] != "attached" or not eni["attachment"]["delete_on_termination"]:
            found.append(f"{eni['id']} is half made: {eni['attachment']}")
    return found


def _of_pods(pods: list[dict[str, Any]], told: list[Told]) -> list[str]:
    shown = {
        pod["metadata"]["uid"]: [each["ip"] for each in pod["status"].get("podIPs", ())]
        for pod in pods
        if pod.get("status", {}).get("phase") == "Running" and not pod["spec"].get("hostNetwork")
    }
    run = {each.uid: list(each.addresses) for node in told for each in node.sandboxes}
    found = [] if shown == run else [f"the API server shows pods {shown}, the kubelets run {run}"]
    counted = Counter(address for addresses in run.values() for address in addresses)
    return found + [f"{times} pods have {address}" for address, times in counted.items() if times > 1]


def _compare(node: Told) -> None:
    status = node.resource.get("status", {})
    for half in ("pending", "releasing"):
        node.expect(half, status.get(half) or [], [])
    published = {each["id"]: each for each in status.get("interfaces", ())}
    node.expect("published ENIs", sorted(published), sorted(node.enis))
    for each in published.values():
        eni = node.enis.get(each["id"])
        if eni is not None:
            node.expect(f"addresses of {each['id']}", sorted(each.get("addresses", ())), sorted(eni["addresses"][1:]))
            node.expect(f"prefixes of {each['id']}", sorted(each.get("prefixes", ())), sorted(eni["prefixes"]))
    known = {row["address"]: row for row in node.rows}
    node.expect("addresses that the agent knows", sorted(known), sorted(_usable(published.values())))
    node.expect("passing states", [row for row in node.rows if row["state"] in _PASSING], [])
    held = {address: row["containerID"] for address, row in known.items() if row["state"] == "in-use"}
    node.expect("holders", held, node.holders)
    node.expect("addresses in the journal", sorted(node.journal), sorted(a for a, r in known.items() if r["owner"]))
    node.expect("endpoints in the kernel", sorted(node.kernel), sorted(held))
    for sandbox in node.sandboxes:
        _same_eni(node, sandbox, known)


def _usable(published: Iterable[Mapping[str, Any]]) -> set[str]:
    """Addresses for pods: what each ENI has beside its own, and whole prefixes."""
    found: set[str] = set()
    for each in published:
        found |= set(each.get("addresses", ()))
        found |= {str(address) for prefix in each.get("prefixes", ()) for address in ipaddress.ip_network(prefix)}
    return found


def _same_eni(node: Told, sandbox: Sandbox, known: Mapping[str, Mapping[str, Any]]) -> None:
    """A pod's IPv6 address comes from the ENI of its IPv4 address."""
    row = known.get(sandbox.addresses[0]) if sandbox.addresses else None
    eni = node.enis.get(row["eni"]) if row else None
    for address in sandbox.addresses[1:]:
        inside = eni is not None and any(
            ipaddress.IPv6Address(address) in ipaddress.IPv6Network(prefix) for prefix in eni["ipv6_prefixes"]
        )
        node.expect(f"{sandbox.key}: {address} within its ENI", inside, True)
