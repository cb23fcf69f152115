"""What a pod's network costs on its node: 110 pods one after the other, the real plugin against a real, warm agent."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.agent_node import CONFIG, PLUGIN, PRIMARY_MAC, SECOND_MAC, AgentNode, agent_node, interface

Row = dict[str, object]
PODS = 110
NAMES = ("cni_add_ms_p50", "cni_add_ms_p99", "cni_del_ms_p50", "cni_add_agent_cpu_ms", "agent_rss_mib")
Run = tuple[list[float], list[float], float, float]


def _once(command: str, environment: dict[str, str], config: int) -> float:
    """Wall time of one plugin process in ms, from spawn to exit, as a runtime sees it."""
    os.lseek(config, 0, os.SEEK_SET)
    actions = [
        (os.POSIX_SPAWN_DUP2, config, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    began = time.perf_counter()
    pid = os.posix_spawn(str(PLUGIN), [PLUGIN.name], environment | {"CNI_COMMAND": command}, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    took_ms = (time.perf_counter() - began) * 1000
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{command} {environment['CNI_CONTAINERID']} failed")
    return took_ms


def _sequence(node: AgentNode, command: str, paths: list[str], folder: Path) -> list[float]:
    config = folder / "config.json"
    config.write_text(json.dumps(CONFIG))
    fd = os.open(config, os.O_RDONLY)
    try:
        base = {"CNI_PATH": "/", "CNI_IFNAME": "eth0", "ENITIDE_SOCKET": str(node.run_dir / "agent.sock")}
        return [
            _once(command, base | {"CNI_CONTAINERID": f"c{i}", "CNI_NETNS": path}, fd) for i, path in enumerate(paths)
        ]
    finally:
        os.close(fd)


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def _cpu_ms(pid: int) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


async def _measure() -> Run:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        async with agent_node(folder / "node", "b") as node:
            node.add_eni("eth1", SECOND_MAC, 1)
            node.start("--log-level", "info")
            await node.registered()
            await node.publish(
                interface(0, PRIMARY_MAC, first=20, count=60), interface(1, SECOND_MAC, first=20, count=60)
            )
            await node.ready()
            paths = [node.pod_netns() for _ in range(PODS)]
            assert node.process is not None
            before_ms = _cpu_ms(node.process.pid)
            added = await asyncio.to_thread(_sequence, node, "ADD", paths, folder)
            cpu_ms = (_cpu_ms(node.process.pid) - before_ms) / PODS
            rss_mib = _rss_mib(node.process.pid)
            deleted = await asyncio.to_thread(_sequence, node, "DEL", paths, folder)
            return added, deleted, cpu_ms, rss_mib


@cache
def _run() -> Run:
    """One run serves all figures."""
    return asyncio.run(_measure())


def bench_agent() -> list[Row]:
    """All figures of one run."""
    added, deleted, cpu_ms, rss_mib = _run()
    how = f"{PODS} pods one by one on one node, warm agent, free addresses, both families; plugin process spawn to exit"
    p99 = statistics.quantiles(added, n=100)[98]
    return [
        {"name": "cni_add_ms_p50", "value": statistics.median(added), "unit": "ms", "peer": None, "method": how},
        {"name": "cni_add_ms_p99", "value": p99, "unit": "ms", "peer": None, "method": how},
        {"name": "cni_del_ms_p50", "value": statistics.median(deleted), "unit": "ms", "peer": None, "method": how},
        {
            "name": "cni_add_agent_cpu_ms",
            "value": cpu_ms,
            "unit": "ms",
            "peer": None,
            "method": f"user and system time of the agent process over {PODS} ADDs, per ADD; waiting does not count",
        },
        {
            "name": "agent_rss_mib",
            "value": rss_mib,
            "unit": "MiB",
            "peer": None,
            "method": f"VmRSS of the agent with {PODS} pods",
        },
    ]


bench_agent.names = NAMES  # type: ignore[attr-defined]
