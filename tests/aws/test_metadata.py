"""Instance metadata, version 2, from the same model; the asking node is known by its address."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator

import pytest
from support.ec2 import Endpoint

from enitide_lab.ec2server.http import listen

pytestmark = pytest.mark.aws

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


class Node:
    """A client on one instance: its source address is the instance's (loopback serves as the VPC here)."""

    def __init__(self, service: tuple[str, int], address: str) -> None:
        self._service, self._address = service, address

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self._service, timeout=10, source_address=(self._address, 0))
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def token(self, ttl: str = "60") -> str:
        status, token = self.ask("PUT", "/latest/api/token", **{TTL: ttl})
        assert status == 200
        return token

    def read(self, path: str) -> str:
        status, body = self.ask("GET", f"/latest/{path}", **{TOKEN: self.token()})
        assert status == 200, path
        return body


@pytest.fixture(scope="module")
def service(_ec2_server: Endpoint) -> tuple[str, int]:
    return _ec2_server.server.listen_metadata(listen("127.0.0.1", 0))


@pytest.fixture
def node(ec2_endpoint: Endpoint, service: tuple[str, int]) -> Iterator[Callable[[str], Node]]:
    model = ec2_endpoint.model
    with ec2_endpoint.server.locked:
        vpc = model.create_vpc(
            ["127.0.0.0/16", "127.1.0.0/16"],
            ipv6_cidrs=["2600:1f13::/56"],
        ).id
        model.create_subnet(vpc, "127.0.1.0/24", "us-west-2a", fixed_id="s-1", ipv6_cidr="2600:1f13::/64")
        model.run_instances("m5.large", "s-1", ids=["i-1", "i-2"], count=2)

    def made(instance: str) -> Node:
        with ec2_endpoint.server.locked:
            primary = model.instances[instance].devices[0, 0].primary
        return Node(service, str(primary))

    yield made
    ec2_endpoint.server.metadata.faults.clear()


def test_each_node_reads_its_own_identity(node: Callable[[str], Node], ec2_endpoint: Endpoint) -> None:
    for name in ("i-1", "i-2"):
        asking = node(name)
        assert asking.read("meta-data/instance-id") == name
        assert asking.read("meta-data/local-ipv4") == asking._address
    first = node("i-1")
    assert first.read("meta-data/instance-type") == "m5.large"
    assert first.read("meta-data/placement/availability-zone") == "us-west-2a"
    assert first.read("meta-data/placement/region") == "us-west-2"
    document = json.loads(first.read("dynamic/instance-identity/document"))
    assert (document["instanceId"], document["region"], document["instanceType"]) == ("i-1", "us-west-2", "m5.large")
    mac = first.read("meta-data/mac")
    assert first.read("meta-data/network/interfaces/macs/").splitlines() == [f"{mac}/"]


def test_interfaces_appear_with_all_that_an_agent_needs(node: Callable[[str], Node], ec2_endpoint: Endpoint) -> None:
    model, asking = ec2_endpoint.model, node("i-1")
    with ec2_endpoint.server.locked:
        made = model.create_network_interface("s-1", prefix_count=1, ipv6_prefix_count=1)
        model.attach_network_interface(made.id, "i-1", 1)
        model.assign_private_ip_addresses(made.id, count=1)
        shown = model.describe_network_interfaces([made.id]).items[0]
    at = f"meta-data/network/interfaces/macs/{made.mac}"
    assert asking.read(f"{at}/interface-id") == made.id
    assert asking.read(f"{at}/device-number") == "1"
    assert asking.read(f"{at}/subnet-id") == "s-1"
    assert asking.read(f"{at}/subnet-ipv4-cidr-block") == "127.0.1.0/24"
    assert asking.read(f"{at}/subnet-ipv6-cidr-blocks") == "2600:1f13::/64"
    assert asking.read(f"{at}/vpc-ipv4-cidr-blocks").splitlines() == ["127.0.0.0/16", "127.1.0.0/16"]
    assert asking.read(f"{at}/local-ipv4s").splitlines() == list(shown.addresses)
    assert asking.read(f"{at}/ipv4-prefix").splitlines() == list(shown.prefixes)
    assert asking.read(f"{at}/ipv6-prefix").splitlines() == list(shown.ipv6_prefixes)
    assert asking.read(f"{at}/security-group-ids").splitlines() == list(shown.groups)
    assert asking.ask("GET", f"/latest/{at}/ipv6s", **{TOKEN: asking.token()})[0] == 404
    assert asking.ask("GET", "/latest/meta-data/tags/instance", **{TOKEN: asking.token()})[0] == 404


def test_only_a_fresh_token_of_ones_own_opens(node: Callable[[str], Node], ec2_endpoint: Endpoint) -> None:
    asking, other = node("i-1"), node("i-2")
    path = "/latest/meta-data/instance-id"
    assert asking.ask("GET", path)[0] == 401
    assert asking.ask("GET", path, **{TOKEN: "made-up"})[0] == 401
    assert other.ask("GET", path, **{TOKEN: asking.token()})[0] == 401
    for ttl in ("0", "21601", "soon"):
        assert asking.ask("PUT", "/latest/api/token", **{TTL: ttl})[0] == 400
    assert asking.ask("PUT", "/latest/api/token")[0] == 400
    assert asking.ask("PUT", "/latest/api/token", **{TTL: "60", "X-Forwarded-For": "10.0.0.1"})[0] == 403
    assert asking.ask("POST", path)[0] == 405


def test_a_token_expires(node: Callable[[str], Node], ec2_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    asking, metadata = node("i-1"), ec2_endpoint.server.metadata
    token = asking.token("60")
    clock = metadata._clock
    monkeypatch.setattr(metadata, "_clock", lambda: clock() + 61)
    assert asking.ask("GET", "/latest/meta-data/instance-id", **{TOKEN: token})[0] == 401


def test_a_token_does_not_travel_further_than_the_hop_limit(
    node: Callable[[str], Node], service: tuple[str, int]
) -> None:
    ip_minttl = 21  # the kernel drops segments that have less left: a peer behind more routers than the limit allows
    with socket.create_connection(service, timeout=10, source_address=(node("i-1")._address, 0)) as peer:
        peer.setsockopt(socket.IPPROTO_IP, ip_minttl, 10)
        peer.sendall(b"GET /latest/meta-data/ HTTP/1.1\r\nHost: m\r\n\r\n")
        assert peer.recv(4096).startswith(b"HTTP/1.1 401")
        peer.settimeout(0.5)
        peer.sendall(b"PUT /latest/api/token HTTP/1.1\r\nHost: m\r\n" + f"{TTL}: 60\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            peer.recv(4096)


def test_an_address_that_no_interface_has_gets_nothing(node: Callable[[str], Node], service: tuple[str, int]) -> None:
    assert Node(service, "127.0.0.9").ask("PUT", "/latest/api/token", **{TTL: "60"})[0] == 404


def test_faults_hit_one_instance(node: Callable[[str], Node], ec2_endpoint: Endpoint) -> None:
    asking, spared = node("i-1"), node("i-2")
    control, path = ec2_endpoint.control, "/latest/meta-data/instance-id"
    token = asking.token()
    control.set_metadata_fault("i-1", empty=True)
    assert asking.ask("GET", path, **{TOKEN: token}) == (200, "")
    control.set_metadata_fault("i-1", absent=True)
    assert asking.ask("GET", path, **{TOKEN: token})[0] == 404
    control.set_metadata_fault("i-1", refuse=True)
    with pytest.raises(ConnectionError):
        asking.ask("GET", path, **{TOKEN: token})
    assert spared.read("meta-data/instance-id") == "i-2"
    control.set_metadata_fault("i-1")
    assert asking.ask("GET", path, **{TOKEN: token}) == (200, "i-1")
