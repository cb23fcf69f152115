from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.datapath.btf import Btf

from enitide_enidp.datapath import cheader, codec, objects
from enitide_enidp.datapath.types import Endpoint, Hook, Onward

pytestmark = pytest.mark.bpf


@pytest.fixture(scope="module")
def compiled() -> list[Btf]:
    return [Btf(objects.folder() / name) for name in (*objects.SETS, objects.ENTRY)]


@pytest.mark.parametrize("layout", codec.LAYOUTS, ids=lambda layout: layout.name)
def test_python_and_c_agree_on_every_byte_of_a_structure(compiled: list[Btf], layout: codec.Layout) -> None:
    seen = 0
    for btf in compiled:
        try:
            size, fields = btf.structure(layout.name)
        except StopIteration:
            continue
        seen += 1
        assert layout.offsets() == fields
        assert layout.codec.size == size
    assert seen, f"no object holds struct {layout.name}"


def test_the_numbers_of_hooks_ways_and_marks_are_those_of_the_c_header() -> None:
    text = (objects.Path(__file__).parents[2] / "bpf" / "include" / "consts.h").read_text()
    defined = {
        line.split()[1]: line.split("/*")[0].split(None, 2)[2].strip()
        for line in text.splitlines()
        if line.startswith("#define ")
    }
    for hook in Hook:
        assert int(defined[f"HOOK_{hook.name}"]) == hook
    for onward in Onward:
        assert int(defined[f"PATH_{onward.name}"]) == onward
    assert int(defined["HOOKS"]) == codec.HOOKS
    assert int(defined["PATHS"]) == codec.PATHS
    assert int(defined["HALVES"]) == codec.HALVES
    assert int(defined["MAX_DROP_REASONS"]) == codec.MAX_DROP_REASONS
    assert int(defined["ENI_MARK_MASK"].rstrip("u"), 16) == 0x00FF0000
    assert max(Hook) < codec.HOOKS
    assert max(Onward) < codec.PATHS


def test_the_committed_reasons_header_is_the_generated_one() -> None:
    root = objects.Path(__file__).parents[2]
    assert (root / cheader.HEADER).read_text() == cheader.render()


macs = st.binary(min_size=6, max_size=6)
ipv4 = st.integers(1, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(1, 2**128 - 1).map(IPv6Address)


@given(
    st.builds(
        Endpoint,
        ifindex=st.integers(1, 2**31 - 1),
        endpoint_id=st.integers(1, 2**32 - 1),
        pod_mac=macs,
        host_mac=macs,
        eni_number=st.integers(1, 255),
        eni_ifindex=st.integers(0, 2**31 - 1),
        ipv4=ipv4,
        ipv6=st.none() | ipv6,
        gateway4=st.none() | ipv4,
        gateway6=st.none() | ipv6,
    )
)
def test_an_endpoint_survives_the_way_through_its_bytes(endpoint: Endpoint) -> None:
    assert codec.decode_endpoint(endpoint.ifindex, codec.encode_endpoint(endpoint)) == endpoint


@given(ipv4 | ipv6)
def test_an_address_survives_the_way_through_its_bytes(address: IPv4Address | IPv6Address) -> None:
    assert codec.decode_address(codec.encode_address(address)) == address


def test_an_ipv4_address_and_its_mapped_ipv6_address_are_different_keys() -> None:
    assert codec.encode_address(IPv4Address("10.0.0.5")) != codec.encode_address(IPv6Address("::ffff:10.0.0.5"))
