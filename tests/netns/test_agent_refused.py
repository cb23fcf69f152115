"""The real `enitide agent` where it must not start: its exit code, its reason, and a node left as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network and mount namespaces"),
]

ENITIDE = Path(sys.executable).parent / "enitide"
NO_BTF = "mount -t tmpfs none /sys/kernel/btf"
AWS_RULE = "ip rule add from 10.0.0.5 lookup 2 priority 1536"
CILIUM_DEVICE = "ip link add cilium_host type veth peer name cilium_net"


def started(folder: Path, *options: str, before: str = "true", through: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and last line of an agent in namespaces of its own, where `before` was done first."""
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(document))
    command = [
        *("unshare", "--net", "--mount", "sh", "-c", f'{before} && exec "$@"', "sh", *through, str(ENITIDE), "agent"),
        *(
            "--kubeconfig",
            str(folder / "kubeconfig"),
            "--node-name",
            "none",
            "--metadata-endpoint",
            "http://127.0.0.1:9",
        ),
        *("--run-dir", str(folder / "node" / "run"), "--pin-dir", str(folder / "node" / "pins")),
        *("--cni-conf-dir", str(folder / "node" / "net.d"), "--cni-bin-dir", str(folder / "node" / "bin"), *options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("reason", "before", "through"),
    [
        ("KernelUnsupported: this kernel is 2.6", "true", ("setarch", "--uname-2.6")),
        ("KernelUnsupported: this kernel", NO_BTF, ()),
        ("ForeignManager: another program manages", AWS_RULE, ()),
        ("ForeignManager: another program manages", CILIUM_DEVICE, ()),
    ],
    ids=["old-kernel", "no-btf", "aws-rules", "cilium-device"],
)
def test_a_node_that_the_agent_must_not_touch_is_left_as_it_was(
    tmp_path: Path, reason: str, before: str, through: tuple[str, ...]
) -> None:
    code, said = started(tmp_path, before=before, through=through)
    assert code == 1
    assert said.startswith(f"enitide: {reason}")
    assert not (tmp_path / "node").exists()


def test_settings_that_cannot_be_used_end_it_with_code_2_before_anything_is_installed(tmp_path: Path) -> None:
    code, said = started(tmp_path, "--kubeconfig", str(tmp_path))
    assert code == 2
    assert said == f"enitide: SettingsInvalid: kubeconfig {tmp_path} cannot be used: Is a directory"
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == ["run"]
    assert not (tmp_path / "node" / "run" / "agent.sock").exists()
