"""The agent's edges to others: instance metadata, the HTTP server of its socket, identity, CNI words."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from enitide_api.errors import CniError, IdentityEmpty, InstanceMismatch, MetadataUnavailable, NotRoot
from enitide_api.reasons import Reason
from enitide_api.settings import AgentSettings
from enitide_enidp import identity, probes
from enitide_enidp.agent import Agent
from enitide_enidp.cni import result
from enitide_enidp.cni.request import parse_args, parse_call
from enitide_enidp.cni.result import Interfaces
from enitide_enidp.metadata import Metadata
from enitide_enidp.server.http import MAX_BODY, MAX_HEAD, Request, Response, Server

pytestmark = pytest.mark.unit


class Service:
    """Instance metadata as far as a test wants it. `ttl_s`: tokens it accepts live this long."""

    def __init__(self) -> None:
        base = "network/interfaces/macs/0e:00:00:00:00:01"
        self.items = {
            "mac": "0e:00:00:00:00:01",
            "instance-id": "i-1",
            "instance-type": "m5.large",
            "placement/availability-zone": "us-west-2a",
            f"{base}/vpc-id": "vpc-1",
            f"{base}/subnet-id": "subnet-1",
        }
        self.tokens = 0
        self.valid = ""
        self.puts_fail = False

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.method == "PUT":
            if self.puts_fail or "X-aws-ec2-metadata-token-ttl-seconds" not in request.headers:
                return web.Response(status=403)
            self.tokens += 1
            self.valid = f"token-{self.tokens}"
            return web.Response(text=self.valid)
        if request.headers.get("X-aws-ec2-metadata-token") != self.valid:
            return web.Response(status=401)
        item = self.items.get(request.path.removeprefix("/latest/meta-data/"))
        return web.Response(status=404) if item is None else web.Response(text=item)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, Metadata]]:
    made = Service()
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        yield made, Metadata(session, f"http://127.0.0.1:{port}/")
    await runner.cleanup()


async def test_metadata_gives_the_whole_instance_with_one_token(service: tuple[Service, Metadata]) -> None:
    made, metadata = service
    facts = await metadata.instance()
    assert (facts.id, facts.type, facts.vpc_id, facts.subnet_id) == ("i-1", "m5.large", "vpc-1", "subnet-1")
    await metadata.instance()
    assert made.tokens == 1


async def test_a_token_that_is_refused_is_fetched_anew_once(service: tuple[Service, Metadata]) -> None:
    made, metadata = service
    await metadata.instance()
    made.valid = "another"
    assert (await metadata.instance()).id == "i-1"
    assert made.tokens == 2


@pytest.mark.parametrize("item", ["instance-id", "mac", "placement/availability-zone"])
@pytest.mark.parametrize("value", ["", "  \n", None])
async def test_an_empty_or_absent_item_is_never_published(
    service: tuple[Service, Metadata], item: str, value: str | None
) -> None:
    made, metadata = service
    if value is None:
        del made.items[item]
    else:
        made.items[item] = value
    with pytest.raises(IdentityEmpty, match=item):
        await metadata.instance()


async def test_no_token_and_no_service_are_told_apart_from_an_empty_identity(
    service: tuple[Service, Metadata], unused_tcp_port: int
) -> None:
    made, metadata = service
    made.puts_fail = True
    with pytest.raises(MetadataUnavailable, match="no token"):
        await metadata.instance()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(MetadataUnavailable, match="does not answer"):
            await Metadata(session, f"http://127.0.0.1:{unused_tcp_port}").instance()


def test_a_node_is_its_instance_only_if_its_provider_id_says_so() -> None:
    identity.verify("aws:///us-west-2a/i-1", "i-1", "n")
    for provider in ("", "aws:///us-west-2a/i-2", "gce:///z/i-1", "aws:///i-1", "i-1", "aws:///z/i-1/x"):
        with pytest.raises(InstanceMismatch):
            identity.verify(provider, "i-1", "n")


def test_only_root_may_run_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotRoot):
        probes.require_root()


async def ask(path: Path, raw: bytes, *, close: bool = True) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw)
    if close:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Path]:
    async def handler(request: Request) -> Response:
        if request.head.path == "/bug":
            raise KeyError("bug")
        return Response(request.body + request.head.headers.get("x", "").encode())

    path = tmp_path / "s"
    async with await asyncio.start_unix_server(Server(handler), path, limit=MAX_HEAD):
        yield path


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 200),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (f"POST / HTTP/1.1\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode(), 413),
        (b"GET /" + b"x" * (2 * MAX_HEAD) + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n", 400),
        (b"GET /bug HTTP/1.1\r\n\r\n", 500),
    ],
)
async def test_every_request_gets_its_status_and_none_ends_the_server(echo: Path, raw: bytes, status: int) -> None:
    assert (await ask(echo, raw)).startswith(f"HTTP/1.1 {status} ".encode())
    assert (await ask(echo, b"GET / HTTP/1.1\r\nX: ok\r\n\r\n")).endswith(b"ok")


async def test_a_body_in_pieces_and_a_client_that_only_connects(echo: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(echo)
    for piece in (b"POST / HT", b"TP/1.1\r\nContent-Le", b"ngth: 6\r\n\r", b"\nabc", b"def"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.read()).endswith(b"\r\n\r\nabcdef")
    writer.close()
    assert await ask(echo, b"") == b""


def headers(**more: str) -> dict[str, str]:
    return {"cni-containerid": "c1", "cni-ifname": "eth0", "cni-netns": "/n"} | {f"cni-{k}": v for k, v in more.items()}


def test_cni_arguments_name_the_pod_and_nothing_has_to() -> None:
    body = json.dumps({"cniVersion": "1.0.0", "name": "n", "unknown": {"x": 1}}).encode()
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=u;OTHER=1"
    call = parse_call("ADD", headers(args=args), body)
    assert (call.pod.namespace, call.pod.name, call.pod.uid) == ("a", "b", "u")
    assert call.owner == "c1/eth0"
    assert parse_call("ADD", headers(), body).pod.name == ""
    with pytest.raises(CniError) as caught:
        parse_args("K8S_POD_NAME")
    assert caught.value.cni_code == 4
    with pytest.raises(CniError, match="the call is DEL"):
        parse_call("DEL", headers(command="ADD"), body)


def test_results_name_families_only_up_to_0_4_0_and_ipv4_comes_first() -> None:
    ends = Interfaces("etd0", "0a:00:00:00:00:01", "eth0", "0a:00:00:00:00:02", "/n", 9001)
    both = [ip_address("10.0.0.7"), ip_address("2600::7")]
    old, new = (json.loads(result.success(version, ends, both)) for version in ("0.4.0", "1.1.0"))
    assert [ip.get("version") for ip in old["ips"]] == ["4", "6"]
    assert [ip.get("version") for ip in new["ips"]] == [None, None]
    assert [ip["address"] for ip in new["ips"]] == ["10.0.0.7/32", "2600::7/128"]
    assert new["interfaces"][1]["mtu"] == 9001
    assert "mtu" not in old["interfaces"][1]
    assert result.addresses_of(json.dumps(new).encode()) == ("10.0.0.7", "2600::7")
    assert result.addresses_of(b"") is None


def test_a_stamp_that_cannot_be_written_is_told_and_does_not_end_the_agent(tmp_path: Path) -> None:
    agent = Agent(AgentSettings(run_dir=tmp_path), "n")
    (tmp_path / "alive.new").mkdir()
    agent._refresh_stamp()
    assert [(wait.subject, wait.reason) for wait in agent.waits.all()] == [("alive", Reason.JOURNAL_FAILED)]
    (tmp_path / "alive.new").rmdir()
    agent._refresh_stamp()
    assert agent.waits.all() == ()
    assert (tmp_path / "alive").exists()
