"""The contract suite's control plane: no test knows which one it runs on.

Default: the embedded API server as a program of its own behind HTTP, and beside it the same store's Python face.
`--control-plane=real` starts the real one; `KUBECONFIG_UNDER_TEST=FILE` takes any cluster (it is written to).
"""

import asyncio
import os
import subprocess
import sys
import uuid
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.kube_contract import WIDGET, create_crd, until_exists, widget_crd
from support.started import started_until

from enitide_api.errors import KubeError, KubeNotFound
from enitide_kube.client import HttpKube
from enitide_kube.port import CRD, NAMESPACE
from enitide_lab.apistore import Store, StoreKube


def pytest_addoption(parser):
    parser.addoption(
        "--control-plane",
        choices=("embedded", "real"),
        default="embedded",
        help="what the contract suite in tests/kube runs on",
    )


# A connection whose task is cancelled in the one turn of the loop between its socket and its TLS handshake is left by
# Python 3.11 to the collector, which meets it in any later test. Only the real control plane speaks TLS.
LOST_IN_HANDSHAKE = (
    "ignore:Exception ignored in. <(function _SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"
)


def pytest_configure(config):
    if config.getoption("--control-plane", "embedded") == "real":
        config.addinivalue_line("filterwarnings", LOST_IN_HANDSHAKE)


def pytest_generate_tests(metafunc):
    if "plane" in metafunc.fixturenames:
        foreign = os.environ.get("KUBECONFIG_UNDER_TEST")
        real = metafunc.config.getoption("--control-plane", "embedded") == "real"
        faces = ["given"] if foreign else ["real"] if real else ["http", "python"]
        if "kubeconfig" in metafunc.fixturenames:
            faces = [face for face in faces if face != "python"]
        metafunc.parametrize("plane", faces, indirect=True, scope="session")


@dataclass
class Plane:
    """`kubeconfig` for whoever speaks HTTP, else `store` for the Python face."""

    kubeconfig: Path | None = None
    store: Store | None = None

    async def connect(self, stack, name="contract"):
        if self.store is not None:
            return StoreKube(self.store, name)
        return await stack.enter_async_context(HttpKube.connect(str(self.kubeconfig), name))


@contextmanager
def embedded(folder):
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-m", "enitide_lab.apiserver", "--kubeconfig-out", str(kubeconfig)]
    with started_until(command, kubeconfig.exists, subprocess.DEVNULL):
        yield Plane(kubeconfig=kubeconfig)


@contextmanager
def real(folder):
    from support.real import cluster_in

    with cluster_in(folder) as cluster:
        yield Plane(kubeconfig=cluster.kubeconfig)


@contextmanager
def face(name, folder):
    if name == "python":
        yield Plane(store=Store())
    elif name == "given":
        yield Plane(kubeconfig=Path(os.environ["KUBECONFIG_UNDER_TEST"]))
    else:
        with embedded(folder) if name == "http" else real(folder) as plane:
            yield plane


@pytest.fixture(scope="session")
def plane(request, tmp_path_factory):
    """The control plane with the suite's own custom resource installed."""
    with face(request.param, tmp_path_factory.mktemp("plane")) as plane:
        asyncio.run(_install(plane))
        yield plane
        asyncio.run(_remove(plane))


async def _install(plane):
    async with AsyncExitStack() as stack:
        kube = await plane.connect(stack)
        await create_crd(kube, widget_crd())
        await until_exists(kube, NAMESPACE, "default")


async def _remove(plane):
    async with AsyncExitStack() as stack:
        kube = await plane.connect(stack)
        await kube.delete(CRD, f"{WIDGET.plural}.{WIDGET.group}")


@pytest.fixture
async def kube(plane):
    """The port to the control plane."""
    async with AsyncExitStack() as stack:
        yield await plane.connect(stack)


@pytest.fixture
def kubeconfig(plane):
    """The path of a kubeconfig; only for tests of programs that speak HTTP."""
    return plane.kubeconfig


@pytest.fixture
def name():
    """A name that nobody else uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def cleanup(kube):
    """`cleanup(kind, name, namespace)`: deleted after the test, whatever became of it."""
    planned = []
    yield lambda kind, name, namespace="": planned.append((kind, name, namespace))
    for kind, obj_name, namespace in reversed(planned):
        try:
            await kube.delete(kind, obj_name, namespace=namespace, grace_period_s=0)
        except KubeNotFound:
            continue
        except KubeError as error:
            pytest.fail(f"{kind.kind} {obj_name} is left behind: {error}")
