import pytest
from hypothesis import given
from hypothesis import strategies as st

from enitide_ipam.addresses import parse
from enitide_ipam.block_reading import block_map
from enitide_ipam.block_text import BROKEN, Cell, Look, cell, cells, read, write
from enitide_ipam.blocks import CidrReservation
from enitide_ipam.model import TAG_CLUSTER, Attachment, EniView

pytestmark = pytest.mark.unit


def eni(number, primary, *addresses, prefixes=(), cluster="mine"):
    return EniView(
        id=f"eni-{number}",
        primary=primary,
        addresses=addresses,
        prefixes=prefixes,
        tags={TAG_CLUSTER: cluster} if cluster else {},
        attachment=Attachment.ATTACHED,
    )


def full(block):
    return tuple(f"10.0.0.{16 * block + n}" for n in range(16))


def test_every_kind_of_block_has_a_look_of_its_own():
    enis = [
        eni(1, "10.0.0.4", "10.0.0.16", prefixes=("10.0.0.32/28",)),
        eni(2, "10.0.0.17", prefixes=("10.0.0.48/28",), cluster="theirs"),
        eni(3, *full(4)),
        eni(4, *full(5), cluster=""),
        eni(5, *full(6)[:8]),
        eni(6, *full(6)[8:], cluster="theirs"),
        eni(7, "10.0.0.113", cluster="theirs"),
    ]
    reservations = [
        CidrReservation("r-1", "10.0.0.128/28", "explicit"),
        CidrReservation("r-2", "10.0.0.144/28", "prefix"),
        CidrReservation("r-3", "10.0.0.160/29", "explicit"),
    ]
    text = write(block_map("10.0.0.0/24", enis, reservations, cluster="mine"))
    # AWS and ours; both; prefixes; full ones; theirs; reserved, kept, half reserved; whole; AWS's last address
    assert text == "obmePQOFMffRKa84waf"


def test_the_text_of_the_largest_subnet_fits_into_the_report_however_broken_it_is():
    enis = [eni(n, f"10.0.{n // 8}.{32 * (n % 8) + 7}", cluster="theirs") for n in range(2048)]
    text = write(block_map("10.0.0.0/16", enis, [], cluster="mine"))
    assert len(text) <= 16384
    assert len(read(text)) == 4096


def test_an_empty_map_is_a_short_text():
    assert write(block_map("10.0.0.0/20", [], [], cluster="mine")) == "ac254waf"


@given(st.lists(st.tuples(st.sampled_from(Look), st.integers(1, 15)), max_size=60))
def test_what_is_written_reads_back(blocks):
    given_cells = tuple(
        Cell(look, free if look in BROKEN else 16 if look is Look.WHOLE else 0) for look, free in blocks
    )
    assert read("".join(each.text for each in given_cells)) == given_cells


def test_a_broken_text_is_refused_where_it_breaks():
    with pytest.raises(ValueError, match="character 3: 'x9'"):
        read("12wx9")


def test_reading_the_text_gives_the_blocks_of_the_map():
    blocks = block_map("10.0.0.0/22", [eni(1, "10.0.1.7", "10.0.1.9", prefixes=("10.0.2.0/28",))], [], cluster="mine")
    assert read(write(blocks)) == tuple(cell(each) for each in blocks.blocks())


ADDRESS = st.integers(4, 16 * 16 - 2).map(lambda n: f"10.0.0.{n}")
BLOCK = st.integers(1, 14).map(lambda n: f"10.0.0.{16 * n}/28")


@given(
    st.lists(st.tuples(ADDRESS, st.sampled_from(["mine", "theirs", ""])), max_size=120),
    st.lists(st.tuples(BLOCK, st.sampled_from(["mine", "theirs"])), max_size=4),
    st.lists(st.tuples(BLOCK, st.sampled_from(["prefix", "explicit"])), max_size=3),
    st.lists(ADDRESS, max_size=4),
)
def test_the_quick_way_by_words_and_the_plain_way_by_addresses_agree(singles, prefixes, reserved, doubts):
    enis = [eni(n, address, cluster=owner) for n, (address, owner) in enumerate(singles)]
    enis += [eni(f"p{n}", "", prefixes=(cidr,), cluster=owner) for n, (cidr, owner) in enumerate(prefixes)]
    reservations = [CidrReservation(f"r-{n}", cidr, kind) for n, (cidr, kind) in enumerate(reserved)]
    blocks = block_map("10.0.0.0/24", enis, reservations, cluster="mine").doubted([parse(each) for each in doubts])
    assert tuple(cells(blocks)) == tuple(cell(each) for each in blocks.blocks())
