"""Builds the Go programs of `lab/kubernetes` once, into a cache outside the tree, and says where they are.

A program's file name carries a hash of everything that decides its content, so a change of version builds anew and
an unchanged one is found without starting Go at all. Two callers at once build once: the second waits on a lock.
It never touches the tree and never downloads by itself: Go's own module client does, checked against `go.sum`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from enitide_api.errors import LabFailed

_MODULES = Path(__file__).resolve().parents[2] / "kubernetes"
_FLAGS = ("-trimpath", "-buildvcs=false")
_LINK = "-s -w"
_PROGRESS_EVERY_S = 15.0
_OLDEST_GO = (1, 21)  # the first that fetches the newer tool chain that a go.mod asks for


@dataclass(frozen=True, slots=True)
class Program:
    """One Go program: the folder of its `go.mod`, the package to build, and how long a cold build takes (2 cores)."""

    name: str
    module: Path
    package: str
    cold_build: str
    versioned: bool = False

    def flags(self) -> tuple[str, ...]:
        """Flags of `go build`. A Kubernetes binary is told its version, as a release build is: clients ask for it."""
        link = _LINK
        if self.versioned:
            found = re.search(
                r"^\s*(?:require )?k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)$", self._go_mod(), re.MULTILINE
            )
            if found is None:
                raise LabFailed(f"{self.module / 'go.mod'} requires no release of k8s.io/kubernetes")
            words = {"gitVersion": f"v{found[1]}.{found[2]}.{found[3]}", "gitMajor": found[1], "gitMinor": found[2]}
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
                link += "".join(f" -X {package}.{name}={value}" for name, value in words.items())
        return (*_FLAGS, f"-ldflags={link}")

    def path(self) -> Path:
        """Where it is, or will be, in the cache."""
        digest = hashlib.sha256()
        for part in (platform.machine(), self.package, *self.flags()):
            digest.update(part.encode() + b"\0")
        for source in sorted((*self.module.glob("*.go"), self.module / "go.mod", self.module / "go.sum")):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return cache_folder() / f"{self.name}-{digest.hexdigest()[:16]}"

    def _go_mod(self) -> str:
        return (self.module / "go.mod").read_text()


KUBE = Program("kube", _MODULES, ".", "about 7 minutes", versioned=True)
HELM = Program("helm", _MODULES / "tools", "helm.sh/helm/v3/cmd/helm", "about 2 minutes")
CNITOOL = Program("cnitool", _MODULES / "tools", "github.com/containernetworking/cni/cnitool", "seconds")
PROGRAMS: Mapping[str, Program] = {program.name: program for program in (KUBE, HELM, CNITOOL)}


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/enitide`, by default `~/.cache/enitide`; outside the tree so that `make clean` keeps it."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "enitide"


def built(program: Program) -> Path | None:
    """The program's file if it is in the cache; never builds."""
    if not (program.module / "go.mod").exists():
        return None
    path = program.path()
    return path if path.exists() else None


def ensure_built(program: Program) -> Path:
    """The program's file, built now if it has to be. `LabFailed` says what is missing and what else would do."""
    if not (program.module / "go.mod").exists():
        raise LabFailed(
            f"{program.name} is built from lab/kubernetes of a source checkout, and this installation has none; "
            "run from a checkout, or set KUBECONFIG or KUBEBUILDER_ASSETS"
        )
    path = program.path()
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(f"{program.name}.lock")):
        if not path.exists():
            _build(program, path)
    return path


def why_not_buildable() -> str:
    """Why this machine cannot build Go programs, or ''."""
    go = shutil.which("go")
    if go is None:
        return "no `go` on PATH (1.21 or newer is needed)"
    version = subprocess.run((go, "env", "GOVERSION"), capture_output=True, text=True, check=False, timeout=60).stdout
    found = re.match(r"go(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_GO:
        return f"`go` on PATH is {version.strip() or 'of unknown version'}; 1.21 or newer is needed"
    return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{path.stem} is being built by another process; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(program: Program, path: Path) -> None:
    reason = why_not_buildable()
    if reason:
        raise LabFailed(f"cannot build {program.name}: {reason}; or set KUBECONFIG or KUBEBUILDER_ASSETS")
    _say(f"building {program.name} into {path.parent} ({program.cold_build} the first time on 2 cores)")
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    command = ("go", "build", "-v", *program.flags(), "-o", str(unfinished), program.package)
    with subprocess.Popen(
        ("nice", *command), cwd=program.module, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            tail = _follow(program, process)
        except BaseException:
            process.kill()
            unfinished.unlink(missing_ok=True)
            raise
    if process.returncode != 0:
        unfinished.unlink(missing_ok=True)
        raise LabFailed(f"building {program.name} failed:\n" + "\n".join(tail))
    unfinished.rename(path)


def _follow(program: Program, process: subprocess.Popen[str]) -> list[str]:
    """Print progress until the build ends; the last lines it printed, which on failure say why."""
    assert process.stderr is not None
    began = said = time.monotonic()
    tail: list[str] = []
    for compiled, line in enumerate(process.stderr, start=1):
        tail = [*tail[-19:], line.rstrip()]
        now = time.monotonic()
        if now - said >= _PROGRESS_EVERY_S:
            said = now
            _say(f"{program.name}: {compiled} steps after {now - began:.0f} s, now {line.strip()}")
    process.wait()
    _say(f"{program.name}: build ended after {time.monotonic() - began:.0f} s")
    return tail


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
