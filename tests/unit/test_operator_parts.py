"""Small parts of the operator: merged reads, class choice, bound pods, identity, troubles, errors, views."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from support.virtual_loop import run_virtual, virtual_loop

from enitide_api.errors import (
    EC2Ambiguous,
    EC2Error,
    EC2IndexOccupied,
    EC2NotFound,
    EC2Refused,
    EC2Throttled,
    NotLeading,
    SettingsInvalid,
)
from enitide_api.resources import ENIClass, ENIClassSpec, LabelRequirement, LabelSelector, Metadata, PoolLevels
from enitide_ipam.model import EniView
from enitide_kube.objects import Node, NodeSpec, instance_of
from enitide_operator.classes import BUILT_IN, ClassBook, matches, problem_of
from enitide_operator.decision import mismatch
from enitide_operator.ec2 import views
from enitide_operator.ec2.merge import InterfaceReader
from enitide_operator.ec2.port import InterfaceQuery, Read, Verb, refusal
from enitide_operator.health import host_and_port
from enitide_operator.pods import BoundPods, decode_slim
from enitide_operator.term import Term, TermGate
from enitide_operator.trouble import Troubles

pytestmark = pytest.mark.unit


# --- merged reads ----------------------------------------------------------------------------------------------------


class Listing:
    """Answers queries after 100 ms; remembers them."""

    def __init__(self) -> None:
        self.queries: list[InterfaceQuery] = []
        self.error: Exception | None = None
        self.bad: set[str] = set()

    async def __call__(self, query: InterfaceQuery) -> Read[EniView]:
        self.queries.append(query)
        asked_at = virtual_loop().time()
        await asyncio.sleep(0.1)
        if self.error is not None:
            raise self.error
        if self.bad & set(query.instance_ids):
            raise EC2Ambiguous("no answer for this one")
        return Read(tuple(EniView(id=f"eni-{i}", instance_id=i) for i in query.instance_ids), asked_at)


def test_readers_within_250_ms_share_one_call_and_each_gets_its_own() -> None:
    async def scenario() -> None:
        listing = Listing()
        reader = InterfaceReader(listing)
        names = [f"i-{number:03}" for number in range(50)]
        found = await asyncio.gather(*(reader.of_instance(name) for name in names), reader.of_instance("i-000"))
        assert len(listing.queries) == 1
        assert [each.items[0].instance_id for each in found] == [*names, "i-000"]
        assert found[0].asked_at == pytest.approx(0.25)

    run_virtual(scenario())


def test_who_asks_while_a_call_is_under_way_gets_a_later_one() -> None:
    async def scenario() -> None:
        listing = Listing()
        reader = InterfaceReader(listing)
        first = asyncio.create_task(reader.of_instance("i-1"))
        await asyncio.sleep(0.3)
        assert listing.queries
        second = await reader.of_instance("i-1")
        assert (await first).asked_at < 0.3 < second.asked_at

    run_virtual(scenario())


def test_more_than_200_askers_make_more_calls() -> None:
    async def scenario() -> None:
        listing = Listing()
        reader = InterfaceReader(listing)
        await asyncio.gather(*(reader.of_instance(f"i-{number}") for number in range(450)))
        assert sorted(len(query.instance_ids) for query in listing.queries) == [50, 200, 200]

    run_virtual(scenario())


def test_what_fails_for_one_of_a_hundred_keeps_no_other_waiting() -> None:
    async def scenario() -> None:
        listing = Listing()
        listing.bad = {"i-61"}
        reader = InterfaceReader(listing)
        names = [f"i-{number}" for number in range(100)]
        asked = [reader.of_instance(name) for name in names]
        results = await asyncio.gather(*asked, return_exceptions=True)
        failed = [name for name, each in zip(names, results, strict=True) if isinstance(each, EC2Ambiguous)]
        assert failed == ["i-61"]
        assert len(listing.queries) <= 1 + 2 * 7
        assert virtual_loop().time() < 1.5

    run_virtual(scenario())


def test_where_everything_fails_nobody_is_singled_out() -> None:
    async def scenario() -> None:
        listing = Listing()
        listing.error = EC2Ambiguous("no answer at all")
        reader = InterfaceReader(listing)
        asked = [reader.of_instance(f"i-{number}") for number in range(100)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, EC2Ambiguous) for each in results)
        assert len(listing.queries) == 3

    run_virtual(scenario())


def test_while_nothing_is_answered_askers_are_gathered_for_longer() -> None:
    async def scenario() -> None:
        listing = Listing()
        listing.error = EC2Ambiguous("no answer at all")
        reader = InterfaceReader(listing)

        async def asks(name: str) -> None:
            while True:
                try:
                    await reader.of_instance(name)
                except EC2Ambiguous:
                    await asyncio.sleep(1)
                else:
                    return

        tasks = [asyncio.create_task(asks(f"i-{number}")) for number in range(100)]
        await asyncio.sleep(300)
        assert len(listing.queries) < 3 * 300 / 8
        listing.error = None
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        began_s = virtual_loop().time()
        await reader.of_instance("i-1")
        assert virtual_loop().time() - began_s < 0.5

    run_virtual(scenario())


def test_an_error_reaches_every_asker_and_one_that_gave_up_takes_nothing_from_the_others() -> None:
    async def scenario() -> None:
        listing = Listing()
        reader = InterfaceReader(listing)
        gone = asyncio.create_task(reader.of_instance("i-1"))
        stays = asyncio.create_task(reader.of_instance("i-1"))
        await asyncio.sleep(0.1)
        gone.cancel()
        assert len((await stays).items) == 1
        listing.error = EC2Throttled("slow down")
        results = await asyncio.gather(reader.of_instance("a"), reader.of_token("b"), return_exceptions=True)
        assert [type(each) for each in results] == [EC2Throttled, EC2Throttled]

    run_virtual(scenario())


# --- classes ---------------------------------------------------------------------------------------------------------


def klass(name: str, weight: int = 0, generation: int = 1, **labels: str) -> ENIClass:
    spec = ENIClassSpec(weight=weight, node_selector=LabelSelector(match_labels=labels))
    return ENIClass(metadata=Metadata(name=name, generation=generation), spec=spec)


def test_an_empty_selector_selects_nothing_and_expressions_all_must_hold() -> None:
    assert not matches(LabelSelector(), {"a": "b"})
    picky = LabelSelector(
        match_labels={"a": "b"},
        match_expressions=(
            LabelRequirement(key="c", operator="In", values=("d", "e")),
            LabelRequirement(key="f", operator="DoesNotExist"),
            LabelRequirement(key="g", operator="NotIn", values=("h",)),
        ),
    )
    assert matches(picky, {"a": "b", "c": "d"})
    assert not matches(picky, {"a": "b", "c": "x"})
    assert not matches(picky, {"a": "b", "c": "d", "f": ""})
    assert not matches(picky, {"a": "b", "c": "d", "g": "h"})


def test_the_heaviest_fitting_class_governs_then_the_first_by_name_then_default_then_the_built_in_one() -> None:
    book = ClassBook()
    assert book.governing({"a": "b"}) == BUILT_IN
    for each in (klass("default"), klass("light", 1, a="b"), klass("y", 5, a="b"), klass("x", 5, a="b")):
        book.on_change(each.metadata.name, None, each)
    assert book.governing({"a": "b"}).name == "x"
    assert book.governing({"a": "c"}).name == "default"
    book.on_change("x", klass("x", 5, a="b"), None)
    assert book.governing({"a": "b"}).name == "y"


def test_a_contradictory_class_is_not_used_and_its_last_sound_version_stays() -> None:
    book = ClassBook()
    bad = ENIClass(
        metadata=Metadata(name="default", generation=2),
        spec=ENIClassSpec(pool=PoolLevels(min_allocate=9, max_allocate=3)),
    )
    book.on_change("default", None, bad)
    assert "minAllocate 9" in book.governing({}).problem
    book.on_change("default", bad, klass("default", generation=3))
    book.on_change("default", klass("default", generation=3), bad)
    assert (book.governing({}).generation, book.governing({}).problem) == (3, "")


@pytest.mark.parametrize(
    "spec",
    [
        ENIClassSpec(cooldown="soon"),
        ENIClassSpec(node_selector=LabelSelector(match_expressions=(LabelRequirement(key="a", operator="Like"),))),
        ENIClassSpec(pool=PoolLevels(pre_allocate=-1)),
    ],
)
def test_each_contradiction_is_told_with_what_to_write_instead(spec: ENIClassSpec) -> None:
    assert "write" in problem_of(spec)


# --- pods, identity, terms -------------------------------------------------------------------------------------------


def pod(**more: object) -> bytes:
    import msgspec

    spec = {"nodeName": more.get("node", ""), "hostNetwork": more.get("host", False)}
    status = {"phase": more.get("phase", "Pending")}
    return msgspec.json.encode({"metadata": {"name": "p", "namespace": "d"}, "spec": spec, "status": status})


def test_only_bound_living_pods_outside_the_hosts_network_count_and_only_differences_are_told() -> None:
    told: list[str] = []
    bound = BoundPods(told.append)
    pending, on_n = decode_slim(pod()), decode_slim(pod(node="n"))
    bound.on_change("d/p", None, pending)
    assert told == []
    bound.on_change("d/p", pending, on_n)
    bound.on_change("d/p", on_n, decode_slim(pod(node="n", phase="Running")))
    bound.on_change("d/q", None, decode_slim(pod(node="n", host=True)))
    assert (bound.count("n"), told) == (1, ["n"])
    bound.on_change("d/p", on_n, decode_slim(pod(node="n", phase="Succeeded")))
    assert (bound.count("n"), told) == (0, ["n", "n"])


@pytest.mark.parametrize(
    ("provider", "instance"),
    [
        ("aws:///us-west-2a/i-0abc", "i-0abc"),
        ("aws:////i-0abc", "i-0abc"),
        ("aws://us-west-2a/i-0abc", ""),
        ("aws:///us-west-2a/i-0abc/x", ""),
        ("gce:///z/i-0abc", ""),
        ("aws:///us-west-2a/fargate-1", ""),
        ("", ""),
    ],
)
def test_the_instance_of_a_provider_id(provider: str, instance: str) -> None:
    assert instance_of(provider) == instance


def test_a_node_that_names_another_instance_or_none_is_not_acted_on() -> None:
    node = Node(spec=NodeSpec(provider_id="aws:///z/i-1"))
    assert not mismatch(node, "i-1")
    assert "i-2" in mismatch(node, "i-2")
    assert mismatch(node, "")
    assert "no Node" in mismatch(None, "i-1")
    assert "empty" in mismatch(Node(), "i-1")


def test_an_ended_term_never_holds_again_and_between_terms_nothing_passes() -> None:
    may = [True]
    gate = TermGate()
    with pytest.raises(NotLeading):
        gate.require()
    gate.current = term = Term(lambda: may[0])
    gate.require()
    may[0] = False
    with pytest.raises(NotLeading):
        gate.require()
    may[0] = True
    gate.require()
    term.end()
    with pytest.raises(NotLeading):
        gate.require()


# --- troubles, errors, views -----------------------------------------------------------------------------------------


def test_failures_hold_back_longer_and_longer_until_the_whole_has_worked() -> None:
    troubles, key, rng = Troubles(), ("CreateInterface", "s"), Random(1)
    holds = [troubles.failed(key, EC2Throttled("x"), 1000.0, rng) - 1000.0 for _ in range(5)]
    assert holds == sorted(holds)
    assert troubles.holds(key, 1000.5)
    assert not troubles.holds(("CreateInterface", "other"), 1000.5)
    troubles.waiting(key, EC2Throttled("x"))
    troubles.eased(key, 1000.0)
    assert troubles.failed(key, EC2Throttled("x"), 1000.0, rng) - 1000.0 > holds[-1]
    troubles.worked(key)
    assert troubles.worst(1000.0) is None
    assert troubles.failed(key, EC2Throttled("x"), 1000.0, rng) - 1000.0 < 2


@pytest.mark.parametrize(
    ("error", "at_five_minutes", "after_an_hour"),
    [(EC2Ambiguous, 20, 300), (EC2NotFound, 40, 300), (EC2Throttled, 20, 20), (EC2Refused, 600, 600)],
)
def test_what_fails_for_long_is_tried_less_often_once_five_minutes_are_over(
    error: type[EC2Error], at_five_minutes: float, after_an_hour: float
) -> None:
    troubles, rng = Troubles(), Random(1)

    def longest(at: float) -> float:
        return max(troubles.failed(("a", "b"), error("x"), at, rng) - at for _ in range(50))

    troubles.failed(("a", "b"), error("x"), 1000.0, rng)
    assert 0.9 * at_five_minutes <= longest(1300.0) <= at_five_minutes
    troubles.waiting(("a", "b"), error("x"))  # a retry inside the gateway does not begin it anew
    assert 0.9 * after_an_hour <= longest(4600.0) <= after_an_hour


def test_a_request_that_is_wrong_in_itself_is_repeated_seldom() -> None:
    troubles, rng = Troubles(), Random(1)
    assert troubles.failed(("a", "b"), EC2Refused("x"), 0.0, rng) >= 15


def test_one_code_means_different_things_for_different_verbs() -> None:
    assert type(refusal(Verb.ATTACH, "InvalidParameterValue", "m", 400)) is EC2IndexOccupied
    assert type(refusal(Verb.ASSIGN, "InvalidParameterValue", "m", 400)) is EC2Refused
    assert type(refusal(Verb.CREATE, "Unheard", "m", 500)) is EC2Ambiguous
    assert refusal(Verb.CREATE, "Unheard", "m", 400).code == "Unheard"


def test_the_own_address_of_an_eni_is_known_by_its_flag_not_its_place() -> None:
    document = {
        "NetworkInterfaceId": "eni-1",
        "SubnetId": "s",
        "PrivateIpAddresses": [
            {"PrivateIpAddress": "10.0.0.9", "Primary": False},
            {"PrivateIpAddress": "10.0.0.4", "Primary": True},
        ],
    }
    view = views.interface(document)
    assert (view.primary, view.addresses) == ("10.0.0.4", ("10.0.0.9",))
    with pytest.raises(KeyError):
        views.interface({"SubnetId": "s"})


def test_an_ipv6_cidr_that_is_going_away_is_not_used() -> None:
    base = {
        "SubnetId": "s",
        "VpcId": "v",
        "AvailabilityZone": "z",
        "CidrBlock": "10.0.0.0/24",
        "AvailableIpAddressCount": 7,
    }
    block = {"Ipv6CidrBlock": "2600::/64", "Ipv6CidrBlockState": {"State": "disassociating"}}
    assert views.subnet(base | {"Ipv6CidrBlockAssociationSet": [block]}).ipv6_cidr == ""


def test_a_bare_metal_type_has_no_hypervisor_and_may_use_prefixes() -> None:
    network = {"MaximumNetworkInterfaces": 15, "Ipv4AddressesPerInterface": 50, "Ipv6AddressesPerInterface": 50}
    limits = views.limits({"InstanceType": "x.metal", "NetworkInfo": network})
    assert (limits.cards, limits.prefixes) == ((15,), True)
    assert not views.limits({"InstanceType": "t2.micro", "NetworkInfo": network, "Hypervisor": "xen"}).prefixes


@pytest.mark.parametrize(
    ("text", "found"), [("127.0.0.1:9808", ("127.0.0.1", 9808)), ("[::1]:1", ("::1", 1)), (":0", ("", 0))]
)
def test_listening_addresses(text: str, found: tuple[str, int]) -> None:
    assert host_and_port(text) == found


@pytest.mark.parametrize("text", ["9808", "host:", "host:99999", "host:x"])
def test_a_listening_address_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="HOST:PORT"):
        host_and_port(text)


def test_an_ipv6_only_eni_and_a_public_address_that_is_only_lent_are_read_for_what_they_are() -> None:
    document = {"NetworkInterfaceId": "eni-1", "SubnetId": "s", "Ipv6Addresses": [{"Ipv6Address": "2001:db8::1"}]}
    view = views.interface(document)
    assert (view.primary, view.addresses, view.prefixes, view.elastic_ip) == ("", (), (), "")
    own = {"PrivateIpAddress": "10.0.0.4", "Primary": True}
    lent = own | {"Association": {"PublicIp": "198.51.100.1", "IpOwnerId": "amazon"}}
    assert views.interface(document | {"PrivateIpAddresses": [lent]}).elastic_ip == ""
    elastic = own | {"Association": {"PublicIp": "198.51.100.2", "AllocationId": "eipalloc-1"}}
    assert views.interface(document | {"PrivateIpAddresses": [elastic]}).elastic_ip == "198.51.100.2"
