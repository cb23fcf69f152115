"""The contract between engine and datapath: packed keys and values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enitide_policy.mapstate import (
    Action,
    Changes,
    Direction,
    Peer,
    RuleKey,
    RuleValue,
    pack_key,
    pack_value,
    unpack_key,
    unpack_value,
)

pytestmark = pytest.mark.unit

KEYS = st.builds(
    RuleKey,
    st.sampled_from(Direction),
    st.sampled_from(Peer),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.integers(0, 16),
)
VALUES = st.builds(
    RuleValue,
    st.sampled_from(Action),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from(Action),
    st.integers(0, 2**32 - 1),
)


@given(KEYS)
def test_a_key_comes_back_from_its_number_and_the_number_is_the_kernels_bytes(key):
    packed = pack_key(key)
    assert unpack_key(packed) == key
    port, identity = key.port.to_bytes(2, "little"), key.identity.to_bytes(4, "little")
    tail = bytes((key.direction, key.peer, key.protocol, key.port_bits))
    assert (packed << 16 | 7).to_bytes(12, "little") == b"\x07\x00" + port + identity + tail


@given(VALUES)
def test_a_value_comes_back_from_its_number_and_the_number_is_the_kernels_bytes(value):
    packed = pack_value(value)
    assert unpack_value(packed) == value
    numbers = value.admin_precedence.to_bytes(4, "little") + value.baseline_precedence.to_bytes(4, "little")
    middle = (1 if value.deny else 0) | (2 if value.allow else 0)
    assert packed.to_bytes(12, "little") == numbers + bytes((value.admin, value.baseline, middle, 0))


def test_changes_are_true_when_there_are_any():
    assert not Changes()
    assert Changes(dropped=(1,))
