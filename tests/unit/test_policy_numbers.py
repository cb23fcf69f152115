"""Identity numbers: layout, bounds, words."""

import pytest

from enitide_policy.numbers import LOCAL_BIT, Reserved, identity_number, is_local, local_number

pytestmark = pytest.mark.unit


def test_a_cluster_has_more_than_a_million_numbers_and_none_of_them_is_local_or_reserved():
    assert identity_number(511, (1 << 22) - 1) == LOCAL_BIT - 1
    assert identity_number(0, 256) == 256
    assert (1 << 22) - 256 > 1_000_000
    assert not is_local(identity_number(511, 256))


@pytest.mark.parametrize(("cluster", "number"), [(-1, 256), (512, 256), (0, 255), (0, 1 << 22)])
def test_a_number_outside_the_layout_is_refused_with_the_bounds(cluster, number):
    with pytest.raises(ValueError, match="write 0 to 511 and 256 to 4194303"):
        identity_number(cluster, number)


def test_local_numbers_carry_bit_31():
    assert local_number(1) == LOCAL_BIT + 1
    assert is_local(local_number(5))
    with pytest.raises(ValueError, match="no node-local number"):
        local_number(0)


def test_reserved_words_are_those_that_policies_use():
    assert [each.word for each in Reserved] == [
        "unknown", "host", "world", "unmanaged", "health", "init", "remote-node", "kube-apiserver", "ingress",
    ]  # fmt: skip
