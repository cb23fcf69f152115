"""Root, compiled objects, a namespace and a bpffs of its own for every test module; all gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.datapath.namespaces import Namespace

from enitide_api.errors import EnitideError
from enitide_enidp.datapath import bpffs, loader, objects


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if os.geteuid() == 0:
        return
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="eBPF programs can be loaded only by root"))


@pytest.fixture(scope="session", autouse=True)
def compiled_objects() -> None:
    try:
        objects.folder()
    except EnitideError as error:
        pytest.skip(str(error))


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    try:
        with made.entered():
            yield made
    finally:
        made.close()


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    pin_dir = tmp_path / "bpf"
    try:
        yield pin_dir
    finally:
        if bpffs.is_bpffs(pin_dir):
            loader.unload(pin_dir)
        bpffs.unmount(pin_dir)
