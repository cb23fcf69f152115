"""Numbers of ranges survive the process that gave them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from support.datapath.namespaces import Namespace
from support.datapath.world import World, world

from enitide_enidp.datapath import Routing
from enitide_enidp.datapath.addresses import Addresses
from enitide_policy.engine.engine import Engine
from enitide_policy.numbers import local_number

pytestmark = pytest.mark.bpf


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        yield made


def test_a_new_process_reads_back_the_named_ranges_and_not_the_clusters_own_inside_them(node: World) -> None:
    wide, narrow, cluster = (ip_network(text) for text in ("10.0.0.0/8", "10.9.0.0/16", "10.7.0.0/20"))
    node.datapath.policy.set_cluster_networks([cluster])
    node.datapath.policy.put_cidrs({wide: local_number(4), narrow: local_number(9)})
    known = Addresses(node.loaded.maps).known_cidrs()
    assert known == {wide: local_number(4), narrow: local_number(9)}
    assert Engine(known).cidrs.number_of(4, int(narrow.network_address)) == local_number(9)
