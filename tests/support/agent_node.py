"""One node for tests: a namespace with ENIs, the embedded API server and instance metadata inside it, a real agent.

The test plays operator (it publishes status) and runtime (it runs the real plugin against real namespaces). Every name
carries the test's process id; `close` ends what was started and removes what was made, whatever happened before.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from enitide_api import resources
from enitide_api.crds import definitions
from enitide_api.resources import Capacity, ClassStatus, ENINode, ENINodeStatus, Interface, IPv6Facts
from enitide_enidp.datapath import bpffs
from enitide_kube.port import CRD, ENINODE, NODE, POD
from enitide_lab.apiserver.kubeconfig import write_kubeconfig
from enitide_lab.apiserver.server import ApiServer
from enitide_lab.apiserver.sockets import listen_socket, url_of
from enitide_lab.apistore.port import StoreKube

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "build" / "cni" / "enitide-cni"
INSTANCE = "i-0123456789abcdef0"
NODE_NAME = "node-a"
PRIMARY_MAC, SECOND_MAC = "0e:00:00:00:00:10", "0e:00:00:00:00:11"
CONFIG: dict[str, Any] = {"cniVersion": "1.0.0", "name": "enitide", "type": "enitide-cni"}


def run(*command: str, check: bool = True) -> str:
    """A command's output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


async def until(check: Callable[[], Any], what: str, within_s: float = 20.0) -> Any:
    """The first truthy answer of a function, or of a coroutine function."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        answer = check()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {within_s:g} s: {what}")


def interface(
    index: int, mac: str, *, first: int, count: int, ipv6: bool = True, primary: str | None = None
) -> Interface:
    """A published ENI with `count` addresses 10.0.INDEX.FIRST and following."""
    return Interface(
        id=f"eni-{index}",
        mac=mac,
        card=0,
        index=index,
        subnet_id="subnet-a",
        primary=primary or f"10.0.0.{10 + index}",
        cidr="10.0.0.0/16",
        gateway="10.0.0.1",
        addresses=tuple(f"10.0.{index}.{first + i}" for i in range(count)),
        ipv6=IPv6Facts(cidr="2600:db8::/64", gateway="2600:db8::1", prefixes=(f"2600:db8:0:0:{index}::/80",))
        if ipv6
        else None,
    )


@dataclass
class Answer:
    """What the plugin did. `body` is its JSON, None for no output."""

    code: int
    body: Any
    took_ms: float


class AgentNode:
    """See the module. `folder` holds the run folder, pins and CNI folders. `far`: the API server is behind the ENI."""

    def __init__(self, folder: Path, name: str = "", *, far: bool = False) -> None:
        self.folder = folder
        self.far = far
        self.tag = f"ea{os.getpid() % 100000}{name}"
        self.netns = self.tag
        self.fabric = f"{self.tag}f"
        self.pods: list[str] = []
        self._made = 0
        self._round = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.run_dir = folder / "run"
        self.conf_dir, self.bin_dir = folder / "net.d", folder / "bin"
        self.pin_dir = folder / "bpf"
        self.server = ApiServer()
        self.kube = StoreKube(self.server.store)
        self.instance = INSTANCE
        self.extra: list[str] = []
        self.policy = "off"  # no operator is here that would make identities
        self.metadata_up = True
        self._stack = AsyncExitStack()

    # --- the world -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Namespaces, primary ENI, API server, metadata, Node."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for netns in (self.netns, self.fabric):
            run("ip", "netns", "add", netns)
            run("ip", "-n", netns, "link", "set", "lo", "up")
        self.ip("netns", "exec", self.netns, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", raw=True)
        run(
            "ip",
            "netns",
            "exec",
            self.fabric,
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        )
        self.add_eni("eth0", PRIMARY_MAC, 0)
        self.ip("address", "add", "10.0.0.10/16", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")
        self.ip("route", "add", "default", "via", "10.0.0.1")
        where = ("10.0.0.1", self.fabric) if self.far else ("127.0.0.1", self.netns)
        api = listen_socket(where[0], 0, netns=f"/run/netns/{where[1]}")
        await self._stack.enter_async_context(self.server.serve([api]))
        self.kubeconfig = self.folder / "kubeconfig"
        self.api_port = int(api.getsockname()[1])
        write_kubeconfig(self.kubeconfig, url_of(api))
        await self._open_metadata()
        for crd in definitions().values():
            await self.kube.create(CRD, crd)
        await self.kube.create(
            NODE, {"metadata": {"name": NODE_NAME}, "spec": {"providerID": f"aws:///us-west-2a/{INSTANCE}"}}
        )

    async def _open_metadata(self) -> None:
        sock = listen_socket("127.0.0.1", 0, netns=f"/run/netns/{self.netns}")
        self.metadata_url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        runner = web.ServerRunner(web.Server(self._metadata))
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, sock).start()

    async def _metadata(self, request: web.BaseRequest) -> web.Response:
        if not self.metadata_up:
            return web.Response(status=503)
        if request.method == "PUT":
            return web.Response(text="token")
        base = f"network/interfaces/macs/{PRIMARY_MAC}"
        items = {
            "instance-id": self.instance,
            "instance-type": "m5.large",
            "placement/availability-zone": "us-west-2a",
            "mac": PRIMARY_MAC,
            f"{base}/vpc-id": "vpc-1",
            f"{base}/subnet-id": "subnet-a",
        }
        return web.Response(text=items[request.path.removeprefix("/latest/meta-data/")])

    async def close(self) -> None:
        self.kill()
        await self._stack.aclose()
        for netns in (*self.pods, self.netns, self.fabric):
            run("ip", "netns", "del", netns, check=False)
        bpffs.unmount(self.pin_dir)

    def ip(self, *arguments: str, raw: bool = False) -> str:
        """`ip` inside the node."""
        return run("ip", *arguments) if raw else run("ip", "-n", self.netns, *arguments)

    def inside(self, netns: str, *command: str, check: bool = True) -> str:
        return run("nsenter", f"--net=/run/netns/{netns}", *command, check=check)

    def add_eni(self, device: str, mac: str, index: int) -> None:
        """A device of the node, its other end in the fabric with the gateway's address."""
        port = f"port{index}"
        run("ip", "-n", self.fabric, "link", "add", port, "mtu", "9001", "type", "veth", "peer", "name", "tmp0")
        run("ip", "-n", self.fabric, "link", "set", "tmp0", "netns", self.netns)
        self.ip("link", "set", "tmp0", "name", device, "address", mac, "mtu", "9001" if index == 0 else "1500")
        run("ip", "-n", self.fabric, "address", "add", "10.0.0.1/32", "dev", port)
        run("ip", "-n", self.fabric, "address", "add", "2600:db8::1/128", "dev", port, "nodad")
        run("ip", "-n", self.fabric, "link", "set", port, "up")
        own, local = f"10.0.0.{10 + index}", f"fe80::c00:ff:fe00:{int(mac[-2:], 16):x}"
        run("ip", "-n", self.fabric, "route", "add", f"{own}/32", "dev", port)
        run("ip", "-n", self.fabric, "route", "add", f"10.0.{index}.0/24", "via", own, "dev", port, "onlink")
        run("ip", "-n", self.fabric, "route", "add", f"2600:db8:0:0:{index}::/80", "via", local, "dev", port)

    def pod_netns(self) -> str:
        """A fresh namespace, as a runtime makes one; its path."""
        name = f"{self.tag}p{self._made}"
        self._made += 1
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        self.pods.append(name)
        return f"/run/netns/{name}"

    # --- operator and API server -----------------------------------------------------------------------------------

    async def publish(self, *interfaces: Interface, conditions: tuple[Any, ...] = (), **more: Any) -> None:
        """Write ENINode.status as the operator does."""
        held = sum(len(each.addresses) + 16 * len(each.prefixes) for each in interfaces)
        status = ENINodeStatus(
            instance_id=INSTANCE,
            class_=ClassStatus(report_interval="1s", cooldown="1s"),
            capacity=Capacity(slots=200, used_slots=held, provisioned=held),
            interfaces=interfaces,
            conditions=conditions,
            **more,
        )
        await self.kube.patch(ENINODE, NODE_NAME, {"status": resources.builtins(status)}, subresource="status")

    async def eninode(self) -> ENINode | None:
        from enitide_api.errors import KubeNotFound

        try:
            return resources.decode(await self.kube.get(ENINODE, NODE_NAME), ENINode)
        except KubeNotFound:
            return None

    async def registered(self) -> ENINode:
        """Wait for the agent's ENINode."""
        for _ in range(500):
            found = await self.eninode()
            if found is not None:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"no ENINode; the agent said:\n{self.log()}")

    async def bind_pod(self, name: str, namespace: str = "default") -> str:
        """A pod that is bound to this node; its uid."""
        raw = await self.kube.create(
            POD,
            {
                "metadata": {"name": name},
                "spec": {"nodeName": NODE_NAME, "containers": [{"name": "c", "image": "i"}]},
            },
            namespace=namespace,
        )
        uid: str = json.loads(raw)["metadata"]["uid"]
        return uid

    # --- the agent -------------------------------------------------------------------------------------------------

    def start(self, *arguments: str) -> None:
        """Start the agent, whatever became of the one before."""
        self.kill()
        self.log_path = self.folder / "agent.log"
        command = [
            "nsenter", f"--net=/run/netns/{self.netns}", str(Path(sys.executable).with_name("enitide")), "agent",
            "--node-name", NODE_NAME, "--run-dir", str(self.run_dir), "--pin-dir", str(self.pin_dir),
            "--metadata-endpoint", self.metadata_url, "--kubeconfig", str(self.kubeconfig),
            "--cni-conf-dir", str(self.conf_dir), "--cni-bin-dir", str(self.bin_dir), "--log-level", "debug",
            "--log-format", "json", "--policy", self.policy, *arguments, *self.extra,
        ]  # fmt: skip
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def log(self) -> str:
        return self.log_path.read_text()

    async def ready(self) -> None:
        """Wait until the runtime would call the node ready."""
        conflist = self.conf_dir / "05-enitide.conflist"
        try:
            await until(conflist.exists, "conflist")
        except AssertionError as error:
            raise AssertionError(f"{error}; the agent said:\n{self.log()}") from error

    async def restored(self) -> None:
        """Wait until a restarted agent serves calls."""

        async def ask() -> bool:
            try:
                return bool((await self.get("/v1/status"))["restored"])
            except OSError:
                return False

        deadline = time.monotonic() + 15
        while not await ask():
            if time.monotonic() > deadline:
                raise AssertionError(f"not restored; the agent said:\n{self.log()}")
            await asyncio.sleep(0.02)

    async def get(self, path: str) -> Any:
        """A view of the socket."""
        reader, writer = await asyncio.open_unix_connection(self.run_dir / "agent.sock")
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: agent\r\n\r\n".encode())
            raw = await reader.read()
        finally:
            writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise AssertionError(raw.decode())
        return json.loads(body)

    async def clear(self) -> None:
        """No pod left, neither here nor at the API server."""
        for row in (await self.get("/v1/endpoints"))["endpoints"]:
            await self.cni("DEL", row["containerID"].partition(".")[0])
        for raw in (await self.kube.list(POD)).items:
            meta = json.loads(raw)["metadata"]
            await self.kube.delete(POD, meta["name"], namespace=meta["namespace"], grace_period_s=0)
        for netns in self.pods:
            run("ip", "netns", "del", netns, check=False)
        self.pods.clear()
        self._round += 1

    def container_id(self, name: str) -> str:
        """A container's id in this round: ids that were deleted are refused for a while, as they must be."""
        return f"{name}.{self._round}" if self._round else name

    # --- the runtime -----------------------------------------------------------------------------------------------

    async def cni(
        self,
        command: str,
        container: str = "",
        netns: str = "",
        *,
        config: dict[str, Any] | bytes | None = None,
        ifname: str = "eth0",
        pod: tuple[str, str, str] | None = None,
    ) -> Answer:
        """Run the plugin once."""
        env = {
            "CNI_COMMAND": command,
            "CNI_PATH": str(self.bin_dir),
            "ENITIDE_SOCKET": str(self.run_dir / "agent.sock"),
        }
        if command in ("ADD", "DEL", "CHECK"):
            env |= {"CNI_CONTAINERID": self.container_id(container), "CNI_NETNS": netns, "CNI_IFNAME": ifname}
        if pod is not None:
            namespace, name, uid = pod
            env["CNI_ARGS"] = (
                f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};"
                f"K8S_POD_INFRA_CONTAINER_ID={container};K8S_POD_UID={uid}"
            )
        body = config if isinstance(config, bytes) else json.dumps(CONFIG | (config or {})).encode()
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            str(PLUGIN), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(body)
        took_ms = (time.perf_counter() - began) * 1000
        return Answer(process.returncode or 0, json.loads(out) if out.strip() else None, took_ms)


@asynccontextmanager
async def agent_node(folder: Path, name: str = "", *, far: bool = False) -> AsyncIterator[AgentNode]:
    """A node without an agent yet."""
    node = AgentNode(folder, name, far=far)
    try:
        await node.open()
        yield node
    finally:
        await node.close()
        shutil.rmtree(folder, ignore_errors=True)
