"""The embedded API server's faults on command, as an HTTP client meets them, and what it is to start it."""

import asyncio
import re
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from support.kube_contract import until
from support.started import started_until

from enitide_api.errors import KubeConflict, KubeForbidden, KubeGone, KubeThrottled, KubeUnavailable
from enitide_kube.client import HttpKube
from enitide_kube.port import LEASE, NODE
from enitide_lab.apiserver import ApiServer, listen_socket
from enitide_lab.apiserver.kubeconfig import write_kubeconfig
from enitide_lab.apiserver.sockets import url_of
from enitide_lab.apistore import Fault
from enitide_lab.apistore.faults import verbs

pytestmark = pytest.mark.kube

BODY = {"metadata": {"name": "x"}, "spec": {"leaseTransitions": 1}}


@asynccontextmanager
async def serving(tmp_path, token=""):
    server = ApiServer(token=token)
    sockets = [listen_socket("127.0.0.1", 0), listen_socket("127.0.0.1", 0)]
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, url_of(sockets[1]), token)
    async with server.serve(sockets), HttpKube.connect(str(kubeconfig), "tester/1.0") as kube:
        yield server.store, kube


@asynccontextmanager
async def commanding(kube):
    async with aiohttp.ClientSession() as session:

        async def command(body, code=200):
            async with session.post(f"{kube.server}/_lab/faults", json=body) as response:
                assert response.status == code, await response.text()
                return await response.json()

        yield command


async def test_a_fault_refuses_as_often_as_told_and_then_no_more(tmp_path):
    async with serving(tmp_path) as (store, kube), commanding(kube) as command:
        await command({"fail": {"kind": "Lease", "verbs": ["create"], "code": 409, "times": 2}})
        for _ in range(2):
            with pytest.raises(KubeConflict):
                await kube.create(LEASE, BODY, namespace="default")
        await kube.create(LEASE, BODY, namespace="default")
        assert store.requests["tester/1.0", "create", "Lease", "409"] == 2
        assert store.requests["tester/1.0", "create", "Lease", "ok"] == 1


async def test_a_throttling_answer_says_when_to_come_back(tmp_path):
    async with serving(tmp_path) as (store, kube):
        store.faults.add(Fault(kind="*", verbs=verbs(["read"]), code=429, retry_after_s=7))
        with pytest.raises(KubeThrottled) as caught:
            await kube.get(NODE, "x")
        assert caught.value.retry_after_s == 7


async def test_a_lost_answer_has_taken_effect(tmp_path):
    async with serving(tmp_path) as (store, kube):
        store.faults.add(Fault(kind="Lease", code=504, lost=True))
        with pytest.raises(KubeUnavailable):
            await kube.create(LEASE, BODY, namespace="default")
        assert await kube.get(LEASE, "x", namespace="default")


async def test_dropped_watches_end_and_expired_ones_end_with_410(tmp_path):
    async with serving(tmp_path) as (store, kube), commanding(kube) as command:
        page = await kube.list(LEASE)

        async def watch():
            async for _ in kube.watch(LEASE, resource_version=page.resource_version):
                pytest.fail("nothing has happened")

        async def begun():
            task = asyncio.create_task(watch())
            table = store.catalog.tables[LEASE.group, LEASE.plural]
            await until(lambda: asyncio.sleep(0, table.watchers), "the watch does not begin")
            return task

        task = await begun()
        assert (await command({"drop_watches": "Lease"}))["watches_ended"] == 1
        await asyncio.wait_for(task, 5)
        task = await begun()
        await command({"expire_watches": "*"})
        with pytest.raises(KubeGone):
            await asyncio.wait_for(task, 5)


async def test_an_outage_refuses_or_hangs_until_it_is_over(tmp_path):
    async with serving(tmp_path) as (_, kube), commanding(kube) as command:
        await command({"outage": {"mode": "refuse"}})
        with pytest.raises(KubeUnavailable):
            await kube.list(NODE)
        await command({"outage": {"mode": "hang"}})
        waiting = asyncio.create_task(kube.list(NODE))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        await command({"outage": {"mode": "hang"}})
        await command({"clear": True})
        assert (await asyncio.wait_for(waiting, 5)).items == ()


async def test_a_command_with_an_unknown_key_verb_or_kind_is_refused(tmp_path):
    async with serving(tmp_path) as (_, kube), commanding(kube) as command:
        await command({"fial": {}}, 400)
        await command({"fail": {"verbs": ["wriet"]}}, 400)
        await command({"compact": "Leese"}, 400)


async def test_a_slow_watcher_loses_its_connection_and_no_other_waits(tmp_path):
    async with serving(tmp_path) as (store, kube):
        await kube.create(LEASE, BODY, namespace="default")
        path = "/apis/coordination.k8s.io/v1/leases?watch=1"
        host, port = re.fullmatch(r"http://([\d.]+):(\d+)", kube.server).groups()
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**12)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: slow\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        table = store.catalog.tables[LEASE.group, LEASE.plural]
        assert len(table.watchers) == 1
        big = "x" * 200_000
        rounds = 0
        while table.watchers:
            rounds += 1
            assert rounds < 500
            patch = {"metadata": {"annotations": {"big": f"{rounds}{big}"}}}
            await kube.patch(LEASE, "x", patch, namespace="default")
        assert rounds > 10
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_watcher_that_goes_away_is_forgotten(tmp_path):
    async with serving(tmp_path) as (store, kube):
        table = store.catalog.tables[LEASE.group, LEASE.plural]
        watch = kube.watch(LEASE, resource_version=str(store.version))
        task = asyncio.create_task(anext(watch))
        await until(lambda: asyncio.sleep(0, table.watchers), "the watch does not begin")
        task.cancel()
        await until(lambda: asyncio.sleep(0, not table.watchers), "the watcher is not forgotten")


async def test_without_its_token_nobody_is_let_in_but_health_is_told(tmp_path):
    async with serving(tmp_path, token="right") as (_, kube):
        await kube.list(NODE)
        write_kubeconfig(tmp_path / "wrong", kube.server, "wrong")
        async with HttpKube.connect(str(tmp_path / "wrong"), "stranger") as stranger:
            with pytest.raises(KubeForbidden) as caught:
                await stranger.list(NODE)
            assert caught.value.status == 401
            assert await stranger.request("GET", "/readyz") == b"ok"


def test_the_program_writes_its_kubeconfig_when_it_answers_and_ends_cleanly(tmp_path):
    kubeconfig = tmp_path / "kubeconfig"
    command = [sys.executable, "-m", "enitide_lab.apiserver", "--listen", "127.0.0.1:0", "--listen", "[::1]:0"]
    with started_until(
        [*command, "--kubeconfig-out", str(kubeconfig)], kubeconfig.exists, subprocess.DEVNULL
    ) as process:
        process.terminate()
        assert process.wait(10) == 0


def test_an_address_that_cannot_be_used_ends_the_program_with_a_sentence():
    for listen, sentence in (("here", "write ADDRESS:PORT"), ("192.0.2.1:1", "assign")):
        command = [sys.executable, "-m", "enitide_lab.apiserver", "--listen", listen]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert sentence in done.stderr


@pytest.mark.parametrize("body", [b"", b"k8s\x00\x0a\xff", b"k8s\x00\x0a\x0e\x0a\x02v1\x12\x08Whatever", b"\x00" * 40])
async def test_protobuf_that_cannot_be_read_is_refused_with_a_way_out(tmp_path, body):
    async with serving(tmp_path) as (_, kube), aiohttp.ClientSession() as session:
        headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}
        async with session.post(f"{kube.server}/api/v1/namespaces", data=body, headers=headers) as response:
            assert response.status == 415
            assert "kubectl apply -f" in (await response.json())["message"]
