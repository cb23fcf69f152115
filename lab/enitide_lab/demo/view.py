"""What the demo shows: a live picture at a terminal, plain lines elsewhere, tables at the end. Decides nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from enitide_lab.demo.proof import Proof
from enitide_lab.demo.workload import Cost, Running

_BAR = 34


@dataclass(frozen=True, slots=True)
class NodeLook:
    """One node at one moment. Counts are addresses; `running` pods of `wanted`."""

    name: str
    type: str
    ready: bool
    enis: int
    provisioned: int
    capacity: int
    running: int
    wanted: int
    reason: str


@dataclass(slots=True)
class Screen:
    """Where the demo speaks. `began`: of the whole demo, monotonic."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    began: float = field(default_factory=time.monotonic)
    _live: Live | None = None
    _last: str = ""

    def say(self, text: str) -> None:
        """One line, with the time since the beginning."""
        stamp = f"{time.monotonic() - self.began:5.1f}s"
        self.console.print(f"[dim]{stamp}[/]  {text}", soft_wrap=True)

    def heading(self, text: str) -> None:
        """Begins a part."""
        self.console.print()
        self.console.rule(f"[bold cyan]{text}", align="left")

    def open(self) -> None:
        """Begin the live picture."""
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=12, transient=True)
            self._live.start()

    def look(self, nodes: Sequence[NodeLook]) -> None:
        """Show the nodes as they are now; without a terminal only when something is different."""
        if self._live is not None:
            self._live.update(picture(nodes))
            return
        line = " · ".join(
            f"{n.name}{'' if n.ready else ' not ready'} {n.running}/{n.wanted} pods "
            f"{n.provisioned} addresses {n.enis} ENIs"
            f"{'' if n.reason in _QUIET else ' ' + n.reason}"
            for n in nodes
        )
        if line != self._last:
            self._last = line
            self.say(line)

    def close(self, nodes: Sequence[NodeLook] = ()) -> None:
        """End the live picture; its last state stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if nodes:
                self.console.print(picture(nodes))


_QUIET = ("", "PoolFilled")


def picture(nodes: Sequence[NodeLook]) -> RenderableType:
    """Pools as bars: pods, free addresses, what the instance could still hold."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for column in ("node", "type", "", "pool", "ENIs", "pods", "why"):
        table.add_column(column)
    for node in nodes:
        state = Text("●", "green" if node.ready else "yellow")
        why = Text(node.reason, "dim" if node.reason in _QUIET else "yellow")
        pods = Text(f"{node.running}/{node.wanted}", "green" if node.running == node.wanted else "yellow")
        table.add_row(node.name, node.type, state, _bar(node), str(node.enis), pods, why)
    legend = Text.assemble(("■ pods  ", "green"), ("■ free, at hand  ", "cyan"), ("· could still be had", "dim"))
    return Group(table, legend)


def _bar(node: NodeLook) -> Text:
    whole = max(node.capacity, node.provisioned, node.running, 1)

    def cells(count: int) -> int:
        return round(count * _BAR / whole)

    used, have = cells(node.running), cells(max(node.provisioned, node.running))
    bar = Text.assemble(("■" * used, "green"), ("■" * (have - used), "cyan"), ("·" * (_BAR - have), "dim"))
    bar.append(f" {node.provisioned}/{node.capacity}", "dim")
    return bar


def proof_table(proof: Proof) -> Table:
    """Every question with its count."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "asked", "answered", "in", ""):
        table.add_column(column, justify="left" if not column else "right")
    for question, matrix in proof.matrices.items():
        mark = "[green]✓[/]" if not matrix.missing else "[red]✗[/]"
        table.add_row(question, str(matrix.asked), str(matrix.answered), f"{matrix.took_s:.2f} s", mark)
    tried = len(proof.forgeries)
    mark = "[green]✓[/]" if proof.refused == tried else "[red]✗[/]"
    table.add_row("forged source", str(tried), f"{proof.refused} refused", "", mark)
    return table


def failures(proof: Proof, most: int = 12) -> list[str]:
    """What did not hold, as sentences."""
    missing = [
        f"{cell.source} → {cell.address} of {cell.target}, {cell.size} bytes: no answer"
        for matrix in proof.matrices.values()
        for cell in matrix.missing
    ]
    forged = [
        f"{f.source} as {f.pretended} to {f.target}: {f.outcome}" for f in proof.forgeries if f.outcome != "refused"
    ]
    more = len(missing) - most
    return [*missing[:most], *([f"and {more} more"] if more > 0 else []), *forged]


def cost_table(pods: Sequence[Running], burst: set[str], shared: Cost, single: dict[str, Cost]) -> Table:
    """One row a pod. Of a burst, each pod bears its part of the common calls and writes."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("pod", "address"):
        table.add_column(column)
    for column in ("CNI ms", "bound→running ms", "EC2 calls", "API writes"):
        table.add_column(column, justify="right")
    many = max(1, len(burst))
    for each in pods:
        box = each.sandbox
        calls = shared.ec2.total() / many if box.name in burst else float(single[box.name].ec2.total())
        writes = shared.writes.total() / many if box.name in burst else float(single[box.name].writes.total())
        numbers = [f"{box.add_ms:.1f}", f"{box.wait_ms:.0f}", f"{calls:.2f}", f"{writes:.2f}"]
        table.add_row(box.name, next(iter(box.addresses), ""), *numbers)
    add_ms = statistics.median(each.sandbox.add_ms for each in pods)
    wait_ms = statistics.median(each.sandbox.wait_ms for each in pods)
    table.add_section()
    table.add_row("median", "", f"{add_ms:.1f}", f"{wait_ms:.0f}", "", "", style="bold")
    return table
