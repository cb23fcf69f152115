"""SubnetReport at the API server: what the operator writes is accepted whole, reads back, and lets go of what went."""

import asyncio

import pytest
from support.kube_contract import decoded

from enitide_api.crds import definitions
from enitide_api.errors import KubeExists, KubeInvalid, KubeNotFound
from enitide_api.resources import builtins
from enitide_api.subnetreport import SubnetReport, SubnetReportStatus
from enitide_ipam.block_reading import block_map
from enitide_ipam.model import SubnetView
from enitide_ipam.subnet_report import changed_parts, report_spec, report_status
from enitide_kube.port import CRD, SUBNETREPORT

pytestmark = pytest.mark.kube
SUBNET = SubnetView(id="subnet-1", vpc_id="vpc-1", zone="z-a", cidr="10.0.0.0/16", free=65_000)
BEGAN = 1_900_000_000.0


@pytest.fixture
async def reports(kube):
    """The definition."""
    definition = definitions()["enitide.io_subnetreports.yaml"]
    try:
        await kube.create(CRD, definition)
    except KubeExists:
        await kube.patch(CRD, definition["metadata"]["name"], {"spec": definition["spec"]})
    async with asyncio.timeout(20):
        while True:
            try:
                await kube.list(SUBNETREPORT)
                break
            except KubeNotFound:
                await asyncio.sleep(0.05)


def body(name, spec):
    return {"apiVersion": SUBNETREPORT.api_version, "kind": "SubnetReport", "metadata": {"name": name}, "spec": spec}


async def written(kube, name, before, after):
    parts = changed_parts(before, after)
    await kube.patch(SUBNETREPORT, name, {"status": parts}, subresource="status")
    return msg_status(await kube.get(SUBNETREPORT, name))


def msg_status(raw):
    from enitide_api.resources import decode

    return decode(raw, SubnetReport).status


async def test_a_whole_report_is_accepted_and_reads_back_as_it_was_written(kube, reports, name, cleanup):
    await kube.create(SUBNETREPORT, body(name, builtins(report_spec(SUBNET))))
    cleanup(SUBNETREPORT, name)
    blocks = block_map(SUBNET.cidr, [], [], cluster="c", asked_at=BEGAN)
    first = report_status(SUBNET, blocks, SubnetReportStatus(), BEGAN)
    assert await written(kube, name, SubnetReportStatus(), first) == first


async def test_a_forecast_that_no_longer_foretells_an_end_lets_go_of_it(kube, reports, name, cleanup):
    from dataclasses import replace

    await kube.create(SUBNETREPORT, body(name, builtins(report_spec(SUBNET))))
    cleanup(SUBNETREPORT, name)
    now, status = BEGAN, SubnetReportStatus()
    for hour in range(8):  # it fills, fast
        now = BEGAN + 3600 * hour
        before, status = status, report_status(replace(SUBNET, free=60_000 - 5000 * hour), None, status, now)
        stands = await written(kube, name, before, status)
    assert stands.forecast.full_at is not None
    for hour in range(24):  # and empties again
        now += 3600
        before, status = status, report_status(replace(SUBNET, free=20_000 + 1000 * hour), None, status, now)
        stands = await written(kube, name, before, status)
    assert status.forecast.full_at is None
    assert stands == status


async def test_what_is_no_field_or_no_word_of_ours_is_refused(kube, reports, name, cleanup):
    with pytest.raises(KubeInvalid, match=r"spec\.cidrs"):
        await kube.create(SUBNETREPORT, body(name, {"cidrs": "10.0.0.0/16"}))
    await kube.create(SUBNETREPORT, body(name, {"cidr": "10.0.0.0/16"}))
    cleanup(SUBNETREPORT, name)
    with pytest.raises(KubeInvalid, match="confidence"):
        await kube.patch(SUBNETREPORT, name, {"status": {"forecast": {"confidence": "very"}}}, subresource="status")
    assert decoded(await kube.get(SUBNETREPORT, name))["spec"] == {"cidr": "10.0.0.0/16"}
