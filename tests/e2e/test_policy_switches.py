"""What edits leave behind, and what passes in the blink of a switch: seen in the kernel's maps and by a flood.

Edits come with traffic in `test_policy_conformance`; its datagrams are milliseconds apart. Here one pair sends as fast
as it can, and the entries in the kernel are counted.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from e2e.test_policy_conformance import Theatre, ask, theatre
from support.conformance.edits import POD_A, block, letters
from support.conformance.flood import Flood
from support.conformance.prober import Probe
from support.lab import until, why_not
from unit.policy.test_networkpolicy import policy

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]
__all__ = ["theatre"]
FLIPS = 16
TWO = policy("podSelector: {}") + "---" + policy(
    "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]", "more"
)  # fmt: skip
LET_IN = Probe("x/c", "x/a", "UDP", 80)


async def holds(theatre: Theatre, may: bool) -> None:
    """The one who is let in by one label only is let in, or not."""

    async def done() -> bool:
        return not await asyncio.to_thread(ask, theatre.prober, {LET_IN: may})

    await until(done, 20.0, f"{LET_IN} is {'allowed' if may else 'denied'}")


async def test_no_packet_of_a_flood_passes_while_a_pod_switches_its_rule_set(theatre: Theatre) -> None:
    flood = Flood(theatre.prober, "x/b", "x/a")
    async with theatre.stage.lab.kube() as kube:
        await theatre.stage.apply(kube, "")
        with flood.flowing():
            await until(lambda: flood.arrived() > 100, 20.0, "the flood arrives where nothing forbids it")
            await theatre.stage.apply(kube, TWO)
            await holds(theatre, may=True)
            flood.arrived()
            before, passed = flood.sent(), 0
            for flip in range(FLIPS):
                await theatre.stage.label(kube, POD_A, {"pod": "d" if flip % 2 == 0 else "a"})
                await holds(theatre, may=flip % 2 == 1)
                passed += flood.arrived()
            assert flood.sent() - before > 1000 * FLIPS
            assert passed == 0


def entries(theatre: Theatre) -> dict[str, int]:
    """How many entries the kernel holds for each pod, on both nodes."""
    found = {}
    for name in ("node-1", "node-2"):
        paths = theatre.stage.lab.lab.paths.node(name)
        where = ("--pin-dir", str(paths.pin_dir), "--run-dir", str(paths.run_dir), "-o", "json")
        done = theatre.stage.lab.enitide("bpf", "policy", "list", *where)
        assert done.returncode == 0, done.stderr
        found |= {f"{name}:{row['endpoint']}": row["entries"] for row in json.loads(done.stdout)}
    return found


EDITS = {
    "exceptions of a range": [block(), block("10.0.2.0/24"), block("10.0.2.0/24", "10.0.3.0/24"), block("10.0.3.0/24")],
    "peers": [letters("b"), letters("b", "c"), letters("c")],
    "ranges inside the range of another policy": [
        block(),
        block() + "---" + policy("podSelector: {}\negress: [{to: [{ipBlock: {cidr: 10.0.2.0/24}}]}]", "more"),
    ],
}


@pytest.mark.parametrize("name", EDITS)
async def test_edits_that_lead_back_leave_no_entry_behind(theatre: Theatre, name: str) -> None:
    states = EDITS[name]
    async with theatre.stage.lab.kube() as kube:

        async def play() -> None:
            for text in [*states, states[0]]:
                await theatre.stage.apply(kube, text)
                await theatre.stage.read_by_agents(kube, await theatre.stage.objects(kube))

        await play()  # names every key, so that identities are cut to all of them
        await until(lambda: entries(theatre) == entries(theatre), 20.0, "the kernel's entries stand still")
        first = entries(theatre)
        assert any(first.values())
        await play()
        await until(lambda: entries(theatre) == first, 10.0, "the kernel holds what it held before the edits")
