"""The scenarios of the policy languages over IPv6: pods of the lab have both families, and each family is judged.

Ranges of IPv4 say nothing of IPv6, so many a scenario comes out otherwise than over IPv4; ranges of IPv6 have scenarios
of their own here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest
from e2e.test_policy_conformance import HOLDS_S, HOUSE_PORTS, LETTER_PORTS, SCENARIOS, Theatre, theatre
from support.conformance.atlas import query_of
from support.conformance.prober import Probe
from support.conformance.six import ECHO, SixProber, Spot
from support.conformance.stage import Stage
from support.lab import why_not
from support.policy_cases import judged
from unit.policy.test_cilium import cilium
from unit.policy.test_clusternetworkpolicy import RED, cnp
from unit.policy.test_networkpolicy import policy

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]
__all__ = ["theatre"]
SPOKEN = ("TCP", "UDP", "ICMP")


@dataclass(slots=True)
class Six:
    """The stage, who asks on it over IPv6, and every pod's address."""

    stage: Stage
    prober: SixProber
    addresses: Mapping[str, str]


@pytest.fixture(scope="module")
def six(theatre: Theatre) -> Iterator[Six]:
    spots = {}
    for name, place in theatre.stage.places(every_address=True).items():
        address = next((each for each in place.addresses if ":" in each), "")
        if address and not name.startswith("node/"):
            spots[name] = Spot(place.netns, address)
    ports = {port for port in (*LETTER_PORTS, *HOUSE_PORTS) if port[0] in ("TCP", "UDP")}
    with closing(SixProber(spots, ports)) as prober:
        yield Six(theatre.stage, prober, {name: spot.address for name, spot in spots.items()})


def probes_of(six: Six, base: list[Probe]) -> list[Probe]:
    """The same questions between pods, over IPv6."""
    mine = [each for each in base if {each.source, each.target} <= six.addresses.keys() and each.protocol in SPOKEN]
    found = [replace(each, port=ECHO) if each.protocol == "ICMP" else each for each in mine]
    return [each for each in dict.fromkeys(found) if each.source != each.target]


async def must_hold(six: Six, policies: str, base: list[Probe]) -> dict[Probe, bool]:
    """Apply, and see that packets pass as `policy verdict` says of the objects that the API server holds."""
    async with six.stage.lab.kube() as kube:
        await six.stage.apply(kube, policies)
        objects = await six.stage.objects(kube)
        await six.stage.read_by_agents(kube, objects)
    probes = probes_of(six, base)
    rows, _ = judged(objects, [{**query_of(probe), "family": "IPv6"} for probe in probes])
    expected = {probe: rows[str(probe)]["verdict"] == "allowed" for probe in probes}
    deadline = time.monotonic() + HOLDS_S
    while (found := wrong(six, expected)) and time.monotonic() < deadline:
        continue
    assert found == []
    return expected


def wrong(six: Six, expected: Mapping[Probe, bool]) -> list[str]:
    six.prober.round(list(expected), {probe for probe, may in expected.items() if may})
    lost = [f"{p}: allowed, no answer" for p, may in expected.items() if may and p not in six.prober.answered]
    return lost + [f"{p}: denied, arrived" for p, may in expected.items() if not may and p in six.prober.arrived]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_packets_of_ipv6_pass_as_the_verdict_says(six: Six, name: str) -> None:
    policies, _, base = SCENARIOS[name]
    await must_hold(six, policies, base)


async def test_ranges_of_ipv6_let_in_and_shut_out_whom_they_hold(six: Six) -> None:
    base = SCENARIOS[next(name for name in SCENARIOS if name.startswith("NetworkPolicy"))][2]
    b, c = six.addresses["x/b"], six.addresses["x/c"]
    around = ip_network(f"{b}/64", strict=False)
    blocks = f"[{{ipBlock: {{cidr: '{around}', except: ['{c}/128']}}}}, {{ipBlock: {{cidr: '{b}/128'}}}}]"
    expected = await must_hold(six, policy(f"podSelector: {{}}\ningress: [{{from: {blocks}}}]"), base)
    assert expected[Probe("x/b", "x/a", "UDP", 80)]
    assert not expected[Probe("x/c", "x/a", "UDP", 80)]
    only_four = policy("podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")
    expected = await must_hold(six, only_four, base)
    assert not expected[Probe("x/b", "x/a", "UDP", 80)]


async def test_ranges_of_ipv6_in_ordered_tiers_and_icmpv6_in_cilium_rules(six: Six) -> None:
    houses = SCENARIOS[next(name for name in SCENARIOS if name.startswith("ClusterNetworkPolicy"))][2]
    blue = six.addresses["house-blue/blue-0"]
    deny = cnp("six", 5, f"{RED}\negress: [{{action: Deny, to: [{{networks: ['{blue}/128']}}]}}]")
    expected = await must_hold(six, deny, houses)
    assert not expected[Probe("house-red/red-0", "house-blue/blue-0", "ICMP", ECHO)]
    assert expected[Probe("house-red/red-0", "house-blue/blue-1", "ICMP", ECHO)]
    letters = SCENARIOS[next(name for name in SCENARIOS if name.startswith("NetworkPolicy"))][2]
    fields = "fields: [{family: IPv6, type: EchoRequest}]"
    ping = cilium(f"endpointSelector: {{}}\ningress: [{{fromEndpoints: [{{}}], icmps: [{{{fields}}}]}}]")
    expected = await must_hold(six, ping, letters)
    assert expected[Probe("x/b", "x/a", "ICMP", ECHO)]
    assert not expected[Probe("x/b", "x/a", "UDP", 80)]
