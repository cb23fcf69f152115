"""The operator's listener and the command that asks it, over loopback."""

import asyncio
import json
import urllib.request

import click
import pytest
from prometheus_client import CollectorRegistry

from enitide_api.errors import KubeUnavailable
from enitide_operator.cli.plan import ask
from enitide_operator.health import serve

pytestmark = pytest.mark.unit
NODE = {"name": "n", "planned": [], "underWay": [], "reason": None}


async def leading(node):
    return {"nodes": [NODE] if node in ("", "n") else [], "calls": {}, "gains": 0, "gives": 0, "budget": {}}


async def following(_node):
    return None


async def asked(preview, node=""):
    async with serve("127.0.0.1:0", CollectorRegistry(), lambda: True, preview) as port:
        return await asyncio.to_thread(ask, f"http://127.0.0.1:{port}", node)


async def test_the_leader_answers_with_its_plan():
    assert (await asked(leading, "n"))["nodes"] == [NODE]


async def test_an_unknown_node_is_a_usage_error():
    with pytest.raises(click.UsageError, match="no ENINode 'x'"):
        await asked(leading, "x")


async def test_a_follower_says_whom_to_ask():
    with pytest.raises(KubeUnavailable, match="this operator follows: ask the one that leads"):
        await asked(following)


async def test_where_nobody_answers_the_sentence_says_how_to_get_there():
    with pytest.raises(KubeUnavailable, match=r"no operator answers at .* port-forward"):
        await asyncio.to_thread(ask, "http://127.0.0.1:1", "")


async def test_what_is_no_url_is_refused_with_one():
    with pytest.raises(click.UsageError, match="write a URL"):
        ask("file:///etc/passwd", "")


async def test_the_listener_takes_no_writing_request():
    async with serve("127.0.0.1:0", CollectorRegistry(), lambda: True, leading) as port:
        url = f"http://127.0.0.1:{port}/debug/plan"

        def post():
            try:
                urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST"), timeout=5)
            except urllib.error.HTTPError as error:
                return error.code
            return 200

        assert await asyncio.to_thread(post) == 405
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
        assert json.loads(answer)["gains"] == 0
