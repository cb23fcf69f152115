"""`enitide ipam show` at its edges: a state that is none, an agent that does not answer, asked for or not."""

import socket

import pytest
from click.testing import CliRunner

from enitide_api.errors import AgentUnreachable
from enitide_operator.cli import ipam
from enitide_operator.cli.collect import Cluster

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def empty_cluster(monkeypatch, tmp_path):
    monkeypatch.setattr(ipam, "read", lambda *_args, **_flags: Cluster((), (), (), (), "op", ""))
    monkeypatch.setattr(ipam, "DEFAULT_RUN_DIR", tmp_path)
    monkeypatch.delenv("ENITIDE_RUN_DIR", raising=False)


def show(*arguments):
    return CliRunner().invoke(ipam.show, list(arguments))


def test_a_state_that_does_not_exist_is_wrong_use_and_lists_those_that_do():
    done = show("--state", "blah")
    assert done.exit_code == 2
    assert "in-use" in done.output


def test_a_state_that_no_address_is_in_is_no_error():
    done = show("--state", "cooling")
    assert done.exit_code == 0
    assert "0 addresses cooling" in done.output


def test_an_agent_asked_for_that_does_not_answer_is_an_error(tmp_path):
    done = show("--run-dir", str(tmp_path))
    assert isinstance(done.exception, AgentUnreachable)


def test_a_dead_agents_socket_at_the_default_place_is_mentioned_and_the_resources_still_answer(tmp_path):
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "agent.sock"))
    done = show("-o", "json")
    assert done.exit_code == 0
    assert done.stdout.strip() == "[]"
    assert "without since: no agent answers" in done.stderr


def test_without_any_agent_nothing_is_said_of_it():
    assert show("-o", "json").stderr == ""


def test_the_agent_is_asked_where_the_environment_says_that_it_runs(tmp_path, monkeypatch):
    asked = []

    def answer(folder, path):
        asked.append((folder, path))
        return {"addresses": []}

    monkeypatch.setattr(ipam, "ask_agent", answer)
    monkeypatch.setenv("ENITIDE_RUN_DIR", str(tmp_path / "node"))
    assert show().exit_code == 0
    assert show("--run-dir", str(tmp_path / "flag")).exit_code == 0
    assert asked == [(tmp_path / "node", "/v1/addresses"), (tmp_path / "flag", "/v1/addresses")]
