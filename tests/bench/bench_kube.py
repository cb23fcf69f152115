"""What the Kubernetes port costs an agent, and what the embedded API server costs the lab."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from enitide_kube.client import HttpKube
from enitide_kube.objects import decode_pod
from enitide_kube.port import NODE

_RSS = "print(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])"


def _rss_kib(imports: str) -> int:
    done = subprocess.run([sys.executable, "-c", f"{imports}\n{_RSS}"], check=True, capture_output=True, text=True)
    return int(done.stdout)


def bench_kube_port_rss_mib() -> list[dict[str, object]]:
    """What importing all of the port adds to a bare interpreter."""
    bare = _rss_kib("pass")
    ours = _rss_kib("import enitide_kube.client, enitide_kube.reflector, enitide_kube.lease, enitide_kube.events")
    theirs = _rss_kib("import kubernetes.client as c; c.CoreV1Api; c.V1Pod; c.CustomObjectsApi")
    method = "VmRSS after the imports minus that of a bare interpreter; peer: the official client with three classes"
    value, peer = (ours - bare) / 1024, (theirs - bare) / 1024
    return [{"name": "kube_port_rss_mib", "value": value, "unit": "MiB", "peer": peer, "method": method}]


def bench_pod_decode_us() -> list[dict[str, object]]:
    """One pod of about 3 KB from bytes to the slim struct."""
    env = [{"name": f"VARIABLE_{number}", "value": "v" * 40} for number in range(30)]
    pod = {
        "metadata": {"name": "p", "namespace": "d", "uid": "u" * 36, "resourceVersion": "1", "labels": {"a": "b"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "env": env}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    }
    raw = msgspec.json.encode(pod)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(2000):
            decode_pod(raw)
        times.append((time.perf_counter() - started) / 2000 * 1e6)
    method = f"fastest of 9 rounds of 2,000 decodes of {len(raw)} bytes"
    return [{"name": "pod_decode_us", "value": min(times), "unit": "us", "peer": None, "method": method}]


def bench_apiserver() -> list[dict[str, object]]:
    """From start to the first answer, memory then, and requests one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        started = time.perf_counter()
        command = [sys.executable, "-m", "enitide_lab.apiserver", "--kubeconfig-out", str(kubeconfig)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                while not kubeconfig.exists():
                    time.sleep(0.002)
                start_ms = (time.perf_counter() - started) * 1000
                status = Path(f"/proc/{process.pid}/status").read_text()
                rss_kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
                patches = asyncio.run(_patches_per_s(kubeconfig))
            finally:
                process.terminate()
    return [
        {
            "name": "apiserver_start_ms",
            "value": start_ms,
            "unit": "ms",
            "peer": None,
            "method": "from the start of the process until its kubeconfig is there",
        },
        {
            "name": "apiserver_rss_mib",
            "value": rss_kib / 1024,
            "unit": "MiB",
            "peer": None,
            "method": "VmRSS at that moment",
        },
        {
            "name": "apiserver_patches_s",
            "value": patches,
            "unit": "1/s",
            "peer": None,
            "method": "1,000 merge patches of a node's status, one after the other, by our own client",
        },
    ]


async def _patches_per_s(kubeconfig: Path) -> float:
    async with HttpKube.connect(str(kubeconfig), "bench") as kube:
        await kube.create(NODE, {"metadata": {"name": "n"}})
        started = time.perf_counter()
        for number in range(1000):
            await kube.patch(NODE, "n", {"status": {"phase": str(number)}}, subresource="status")
        return 1000 / (time.perf_counter() - started)


bench_apiserver.names = (  # type: ignore[attr-defined]
    "apiserver_start_ms",
    "apiserver_rss_mib",
    "apiserver_patches_s",
)
