"""Tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from enitide_lab.up.report import LabReport


def show_status(report: LabReport) -> None:
    """The whole report on standard output."""
    console = Console(highlight=False)
    state = "[green]healthy[/]" if report.healthy else "[red]not healthy[/]"
    console.print(f"lab [bold]{report.name}[/] · {report.kubernetes} Kubernetes · {state}")
    nodes = Table("node", "type", "instance", "address", "ready", "pods", "ENIs", "pod addresses", box=None)
    for node in report.nodes:
        ready = "?" if node.ready is None else "[green]yes[/]" if node.ready else "[red]no[/]"
        counts = [str(node.pods), *("?" if n is None else str(n) for n in (node.enis, node.addresses))]
        nodes.add_row(node.name, node.type, node.instance, node.address, ready, *counts)
    console.print(nodes)
    alive = " ".join(f"[{'green' if up else 'red'}]{name}[/]" for name, up in report.programs.items())
    console.print(f"programs: {alive}")
    console.print(f"export KUBECONFIG={report.kubeconfig}  AWS: {report.endpoints.get('ec2', '')}", soft_wrap=True)
    for trouble in report.troubles:
        console.print(f"[red]✗[/] {trouble}", soft_wrap=True)
