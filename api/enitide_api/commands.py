"""The command table as data: name -> where its code is and one line of help.

Data, so that this floor never imports a higher one: the target is imported only when its command runs, and
`enitide --help` reads nothing but this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """`target` is "module:attribute" of a click command; `needs` an optional extra that must be installed."""

    name: str
    target: str
    help: str
    group: str
    needs: str = ""


COMMANDS: tuple[Command, ...] = (
    Command("status", "enitide_operator.cli.status:main", "Is the cluster's network healthy, and if not, why.", "Look"),
    Command("node", "enitide_operator.cli.node:main", "Nodes: their pools, ENIs and reasons (list, show).", "Look"),
    Command("ipam", "enitide_operator.cli.ipam:main", "Every address: owner, ENI, state, since (show).", "Look"),
    Command("why", "enitide_operator.cli.why:main", "Why a pod has no address: the chain down to the subnet.", "Look"),
    Command("who", "enitide_operator.cli.who:main", "Whose an address is: pod, ENI, node, since; last holder.", "Look"),
    Command("plan", "enitide_operator.cli.plan:main", "What the operator would do next, and what it costs.", "Look"),
    Command("frag", "enitide_operator.cli.frag:main", "Subnets' /28s: whole, broken, whose; a picture of one.", "Look"),
    Command("forecast", "enitide_operator.cli.forecast:main", "When subnets and the cluster run full.", "Look"),
    Command(
        "preflight",
        "enitide_operator.cli.preflight:main",
        "Is everything there: IAM, subnets, CRDs, rights.",
        "Look",
    ),
    Command("gc", "enitide_operator.cli.gc:main", "Leaked ENIs: show them (--dry-run), or delete them once.", "Act"),
    Command("monitor", "enitide_enidp.cli.monitor:main", "Follow what this node's datapath drops, and why.", "Look"),
    Command("bpf", "enitide_enidp.cli.bpf:main", "This node's eBPF state (policy, ct, ipcache, map, prog).", "Look"),
    Command("packet", "enitide_enidp.cli.packet:main", "What would become of this packet here, and why.", "Look"),
    Command("trace", "enitide_enidp.cli.trace:main", "Drops and connects of the whole kernel, live (bcc).", "Look"),
    Command("policy", "enitide_enidp.cli.policy:main", "Who may talk to whom (verdict, trace, get, …).", "Look"),
    Command("identity", "enitide_operator.cli.identity:main", "Who is who: identities and who has them.", "Look"),
    Command("endpoint", "enitide_enidp.cli.endpoint:main", "This node's pods: identity, rule set, state.", "Look"),
    Command("operator", "enitide_operator.main:main", "Run the operator: EC2, pools, leases.", "Run"),
    Command("agent", "enitide_enidp.main:main", "Run the agent of this node: addresses, routes, eBPF.", "Run"),
    Command("lab", "enitide_lab.cli:main", "A VPC on this machine (up, status, exec, env, down).", "Try", "lab"),
    Command(
        "simulate",
        "enitide_lab.simulate.command:main",
        "Ask the engine: a scenario in, pools, calls and reasons out; hours in seconds.",
        "Try",
        "lab",
    ),
    Command("demo", "enitide_lab.demo:main", "A tour: pools fill, pods start, packets pass.", "Try", "lab"),
)
