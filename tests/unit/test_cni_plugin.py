"""The CNI plugin alone, against a socket that behaves and one that does not. Each case is a run of the real binary."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enitide_enidp.boot import Stamp
from enitide_enidp.spool import Spool

PLUGIN = Path(__file__).parents[2] / "build" / "cni" / "enitide-cni"
pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not PLUGIN.is_file(), reason="the CNI plugin is not built (make -C enidp/cni)"),
]
POD = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0"}
CONFIG = b'{"cniVersion":"1.0.0","name":"enitide"}'


def call(command: str, path: Path | str, stdin: bytes = CONFIG, **variables: str) -> tuple[int, Any]:
    """Exit code and JSON of one run."""
    environment = {"CNI_COMMAND": command, "ENITIDE_SOCKET": str(path)} | variables
    done = subprocess.run([PLUGIN], env=environment, input=stdin, capture_output=True, timeout=20, check=False)
    assert done.stderr == b""
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


class Peer:
    """A server that answers each connection with fixed bytes, in pieces of `piece` bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reply = b""
        self.piece = 1 << 20
        self.requests: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def says(self, status: int, body: bytes, length: int | None = None) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
        self.reply = head.encode() + body

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(self._whole(connection))
                for at in range(0, len(self.reply), self.piece):
                    connection.sendall(self.reply[at : at + self.piece])

    def _whole(self, connection: socket.socket) -> bytes:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += connection.recv(65536)
        head, _, body = raw.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path / "agent.sock")
    yield made
    made.close()


def test_it_posts_input_and_variables_and_prints_the_body(peer: Peer) -> None:
    peer.says(200, b'{"ips":[]}')
    peer.piece = 3
    assert call("ADD", peer.path, CNI_ARGS="K8S_POD_NAME=a;B=c", CNI_STRANGE_ONE="x", OTHER="y", **POD) == (
        0,
        {"ips": []},
    )
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/cni/ADD HTTP/1.1"
    assert {"Cni-ARGS: K8S_POD_NAME=a;B=c", "Cni-STRANGE-ONE: x", "Cni-CONTAINERID: c1"} <= set(lines)
    assert "OTHER" not in head.decode()
    assert body == CONFIG


def test_an_error_object_is_printed_and_the_exit_code_is_one(peer: Peer) -> None:
    peer.says(503, b'{"code":11,"msg":"m"}')
    assert call("ADD", peer.path, **POD) == (1, {"code": 11, "msg": "m"})


@pytest.mark.parametrize(
    "reply", [b"", b"garbage", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9"]
)
def test_half_an_answer_is_no_success(peer: Peer, reply: bytes) -> None:
    peer.reply = reply
    code, body = call("ADD", peer.path, **POD)
    assert (code, body["code"]) == (1, 11)


def test_a_body_shorter_than_announced_is_no_success(peer: Peer) -> None:
    peer.says(200, b'{"ips"', length=100)
    code, body = call("ADD", peer.path, **POD)
    assert (code, body["code"]) == (1, 11)


def test_version_needs_no_agent_and_speaks_of_what_is_served(tmp_path: Path) -> None:
    code, body = call("VERSION", tmp_path / "none")
    assert code == 0
    assert body["supportedVersions"] == ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]


@pytest.mark.parametrize(
    ("command", "variables", "named"),
    [
        ("", {}, "CNI_COMMAND"),
        ("add", {}, "CNI_COMMAND"),
        ("ADD", {"CNI_IFNAME": "eth0", "CNI_NETNS": "/n"}, "CNI_CONTAINERID"),
        ("ADD", POD | {"CNI_CONTAINERID": "../x"}, "CNI_CONTAINERID"),
        ("ADD", POD | {"CNI_CONTAINERID": "x" * 201}, "CNI_CONTAINERID"),
        ("ADD", POD | {"CNI_IFNAME": "a/b"}, "CNI_IFNAME"),
        ("ADD", POD | {"CNI_IFNAME": "sixteen-letters!"}, "CNI_IFNAME"),
        ("ADD", POD | {"CNI_NETNS": ""}, "CNI_NETNS"),
        ("CHECK", POD | {"CNI_NETNS": ""}, "CNI_NETNS"),
        ("DEL", {"CNI_IFNAME": "eth0"}, "CNI_CONTAINERID"),
        ("ADD", POD | {"CNI_ARGS": "a\r\nCni-Netns: /evil"}, "control character"),
    ],
)
def test_wrong_variables_are_named_with_code_4(
    tmp_path: Path, command: str, variables: dict[str, str], named: str
) -> None:
    code, body = call(command, tmp_path / "none", **variables)
    assert (code, body["code"]) == (1, 4)
    assert named in body["msg"]


def test_too_long_a_socket_path_and_too_much_input_are_refused(tmp_path: Path) -> None:
    code, body = call("ADD", "/" + "x" * 120, **POD)
    assert (code, body["code"]) == (1, 4)
    code, body = call("ADD", tmp_path / "none", b"x" * (1 << 20) + b"y", **POD)
    assert (code, body["code"]) == (1, 6)


def test_quotes_in_a_variable_do_not_break_the_error_object(tmp_path: Path) -> None:
    code, body = call('A"DD\\', tmp_path / "none")
    assert (code, body["code"]) == (1, 4)


def test_a_del_without_an_agent_is_queued_once_and_succeeds(tmp_path: Path) -> None:
    socket_path = tmp_path / "run" / "agent.sock"
    for _ in range(2):
        assert call("DEL", socket_path, **POD) == (0, None)
    assert call("DEL", socket_path, **(POD | {"CNI_NETNS": "", "CNI_CONTAINERID": "c2"})) == (0, None)
    calls = [queued for _, queued in Spool(tmp_path / "run" / "spool").waiting()]
    assert [each.owner for each in calls] == ["c1/eth0", "c2/eth0"]
    assert oct((tmp_path / "run" / "spool").stat().st_mode & 0o777) == "0o700"


def test_a_del_that_cannot_be_queued_fails_so_that_it_comes_again(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    code, body = call("DEL", tmp_path / "run" / "agent.sock", **POD)
    assert (code, body["code"]) == (1, 11)


def test_a_queued_del_that_cannot_be_read_is_dropped_and_the_others_are_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool" / "bad@eth0").write_bytes(b"\xff\x00 no request")
    assert call("DEL", tmp_path / "agent.sock", **POD) == (0, None)
    assert [queued.owner for _, queued in spool.waiting()] == ["c1/eth0"]
    assert not (tmp_path / "spool" / "bad@eth0").exists()


def test_status_succeeds_for_120_s_after_the_agent_lived_in_this_boot(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    code, body = call("STATUS", path)
    assert (code, body["code"]) == (1, 50)
    stamp = Stamp(tmp_path / "alive")
    stamp.refresh()
    assert call("STATUS", path) == (0, None)
    boot, _, seconds = (tmp_path / "alive").read_text().partition(" ")
    (tmp_path / "alive").write_text(f"{boot} {int(seconds) - 119}\n")
    assert call("STATUS", path) == (0, None)
    for stale in (f"{boot} {int(seconds) - 122}\n", f"{'0' * 36} {seconds}", f"{boot}", ""):
        (tmp_path / "alive").write_text(stale)
        assert call("STATUS", path)[0] == 1, stale


def test_a_dead_agents_socket_file_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    code, body = call("ADD", path, **POD)
    assert (code, body["code"]) == (1, 11)
    assert "AgentUnreachable" in body["msg"]


def test_it_is_small_static_and_needs_nothing_of_the_host(tmp_path: Path) -> None:
    assert PLUGIN.stat().st_size < 800 << 10
    linked = subprocess.run(["ldd", PLUGIN], capture_output=True, text=True, check=False)
    assert "not a dynamic executable" in linked.stdout + linked.stderr
    assert os.access(PLUGIN, os.X_OK)
    del tmp_path
