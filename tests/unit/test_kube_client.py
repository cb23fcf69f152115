"""The HTTP client at its edges: credentials, tokens that rotate, and answers that are no answers."""

import asyncio
import base64
import os
import ssl
from contextlib import asynccontextmanager

import pytest
import yaml
from aiohttp import web

from enitide_api.errors import (
    KubeConflict,
    KubeExists,
    KubeForbidden,
    KubeGone,
    KubeInvalid,
    KubeNotFound,
    KubeThrottled,
    KubeUnavailable,
    SettingsInvalid,
)
from enitide_kube.client import HttpKube, path_of
from enitide_kube.credentials import FileToken, load
from enitide_kube.port import NODE, POD
from enitide_kube.status import Status, StatusCause, StatusDetails, error_of

pytestmark = pytest.mark.unit


def kubeconfig(path, user=None, **cluster):
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"} | cluster}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


@asynccontextmanager
async def answering(tmp_path, handler):
    """A client whose server answers by `handler`."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        config = kubeconfig(tmp_path / "config", server=f"http://{host}:{port}")
        async with HttpKube.connect(config, "tester") as kube:
            yield kube
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("code", "reason", "leaf"),
    [
        (400, "BadRequest", KubeInvalid),
        (401, "Unauthorized", KubeForbidden),
        (403, "Forbidden", KubeForbidden),
        (404, "NotFound", KubeNotFound),
        (409, "Conflict", KubeConflict),
        (409, "AlreadyExists", KubeExists),
        (410, "Expired", KubeGone),
        (413, "RequestEntityTooLarge", KubeInvalid),
        (415, "UnsupportedMediaType", KubeInvalid),
        (422, "Invalid", KubeInvalid),
        (429, "TooManyRequests", KubeThrottled),
        (500, "InternalError", KubeUnavailable),
        (503, "ServiceUnavailable", KubeUnavailable),
    ],
)
def test_each_status_has_its_leaf(code, reason, leaf):
    error = error_of(Status(code, reason, "words"), "get x")
    assert type(error) is leaf
    assert error.status == code


def test_a_json_patch_that_lost_its_race_is_told_from_one_that_breaks_the_schema_by_its_causes():
    cause = StatusDetails(causes=[StatusCause("FieldValueInvalid", "no", "spec.x")])
    assert type(error_of(Status(422, "Invalid", ""), "patch", is_json_patch=True)) is KubeConflict
    assert type(error_of(Status(422, "Invalid", "", cause), "patch", is_json_patch=True)) is KubeInvalid
    assert type(error_of(Status(422, "Invalid", ""), "patch")) is KubeInvalid


@pytest.mark.parametrize("answer", [b"", b"<html>no</html>", b'{"kind": "Status"', b"[]"])
async def test_an_error_page_of_a_proxy_is_judged_by_its_status_alone(tmp_path, answer):
    async def handler(_request):
        return web.Response(status=503, body=answer, headers={"Retry-After": "3"})

    async with answering(tmp_path, handler) as kube:
        with pytest.raises(KubeUnavailable) as caught:
            await kube.get(NODE, "x")
        assert caught.value.status == 503


@pytest.mark.parametrize("answer", [b"", b"garbage", b'{"items": 7}', b'{"metadata": {}, "items": ["cut'])
async def test_a_list_that_is_no_list_is_unavailable_not_an_empty_one(tmp_path, answer):
    async def handler(_request):
        return web.Response(body=answer)

    async with answering(tmp_path, handler) as kube:
        with pytest.raises(KubeUnavailable):
            await kube.list(NODE)


async def test_watch_lines_are_put_together_however_the_network_cuts_them(tmp_path):
    events = [b'{"type":"ADDED","object":{"metadata":{"name":"n%d"}}}\n' % number for number in range(50)]
    stream = b"".join(events)

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(stream), 37):
            await response.write(stream[start : start + 37])
        await response.write(b'{"type":"ADDED","object":{"metadata":{"na')
        return response

    async with answering(tmp_path, handler) as kube:
        seen = [event.object async for event in kube.watch(NODE, resource_version="1")]
    assert seen == [b'{"metadata":{"name":"n%d"}}' % number for number in range(50)]


async def test_an_error_inside_the_stream_is_its_leaf(tmp_path):
    async def handler(_request):
        status = b'{"kind":"Status","code":410,"reason":"Expired","message":"too old"}'
        return web.Response(body=b'{"type":"ERROR","object":' + status + b"}\n")

    async with answering(tmp_path, handler) as kube:
        with pytest.raises(KubeGone):
            async for _ in kube.watch(NODE, resource_version="1"):
                pass


async def test_nobody_there_is_unavailable_with_status_zero(tmp_path):
    async with HttpKube.connect(kubeconfig(tmp_path / "config"), "tester") as kube:
        with pytest.raises(KubeUnavailable) as caught:
            await kube.get(NODE, "x")
        assert caught.value.status == 0
        assert "http://127.0.0.1:1" in str(caught.value)
        assert "--kubeconfig" in caught.value.sentence()


async def test_a_server_that_hangs_is_unavailable_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("enitide_kube.client.REQUEST_TIMEOUT_S", 0.05)
    ends = asyncio.Event()

    async def handler(_request):
        await ends.wait()
        return web.Response(body=b"{}")

    async with answering(tmp_path, handler) as kube:
        with pytest.raises(KubeUnavailable, match="no answer in time"):
            await kube.get(NODE, "x")
        ends.set()


async def test_a_rotated_token_is_used_from_the_next_request_on(tmp_path):
    seen = []

    async def handler(request):
        seen.append(request.headers["Authorization"])
        return web.Response(body=b"{}")

    token = tmp_path / "token"
    token.write_text("one\n")
    async with answering(tmp_path, handler) as kube:
        config = kubeconfig(tmp_path / "file", {"tokenFile": "token"}, server=kube.server)
        async with HttpKube.connect(config, "tester") as rotating:
            await rotating.get(NODE, "x")
            fresh = tmp_path / "fresh"
            fresh.write_text("two")
            fresh.replace(token)
            await rotating.get(NODE, "x")
            token.unlink()
            with pytest.raises(KubeUnavailable, match="token"):
                await rotating.get(NODE, "x")
    assert seen == ["Bearer one", "Bearer two"]


async def test_a_token_file_is_not_read_again_without_need(tmp_path):
    token = tmp_path / "token"
    token.write_text("one")
    source = FileToken(token)
    assert await source.token() == "one"
    facts = token.stat()
    token.write_text("two")
    os.utime(token, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert await source.token() == "one"


async def test_an_exec_plugin_is_left_to_the_official_loader(tmp_path):
    script = tmp_path / "plugin"
    credential = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"made"}}'
    script.write_text(f"#!/bin/sh\necho '{credential}'\n")
    script.chmod(0o700)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script),
        "interactiveMode": "Never",
    }
    credentials = load(kubeconfig(tmp_path / "config", {"exec": plugin}))
    assert await credentials.token_source.token() == "made"


def test_in_a_pod_the_service_account_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr("enitide_kube.credentials.SERVICE_ACCOUNT", tmp_path)
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    with pytest.raises(SettingsInvalid, match=r"ca\.crt is missing"):
        load(None, environment)
    authority = ssl.create_default_context().get_ca_certs(binary_form=True)[0]
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(authority).decode()}-----END CERTIFICATE-----\n"
    (tmp_path / "ca.crt").write_text(pem)
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("enitide\n")
    credentials = load(None, environment)
    assert (credentials.server, credentials.namespace) == ("https://[fd00::1]:6443", "enitide")
    assert credentials.tls is not None


@pytest.mark.parametrize("text", ["", "[]", "current-context: x", "{", "clusters: 5\ncurrent-context: y"])
def test_a_kubeconfig_that_is_none_says_so(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(SettingsInvalid, match="cannot be used"):
        load(str(path))


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"certificate-authority": "none.crt"}, r"none\.crt: No such file"),
        ({"certificate-authority-data": "!!!"}, "certificate-authority-data is no base64"),
        ({"server": "127.0.0.1"}, "must be a URL"),
    ],
)
def test_a_kubeconfig_whose_parts_are_missing_or_broken_names_the_part(tmp_path, cluster, expected):
    path = kubeconfig(tmp_path / "config", **{"server": "https://127.0.0.1:1"} | cluster)
    with pytest.raises(SettingsInvalid, match=expected):
        load(path)


def test_a_kubeconfig_that_may_not_be_read_or_is_a_folder_is_refused_with_the_systems_word(tmp_path, monkeypatch):
    with pytest.raises(SettingsInvalid, match="Is a directory"):
        load(str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path / "config"))

    path = kubeconfig(tmp_path / "config")
    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(SettingsInvalid, match="config cannot be used: Permission denied"):
        load(path)


def test_without_any_kubeconfig_it_says_where_one_is_looked_for(tmp_path):
    with pytest.raises(SettingsInvalid, match="--kubeconfig or KUBECONFIG"):
        load(str(tmp_path / "none"), {})


def test_paths_follow_group_namespace_and_subresource():
    assert path_of(NODE, name="n") == "/api/v1/nodes/n"
    assert path_of(POD, "default", "p", "status") == "/api/v1/namespaces/default/pods/p/status"
    assert path_of(POD) == "/api/v1/pods"
