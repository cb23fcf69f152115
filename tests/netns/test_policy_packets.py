"""Policy on real packets: two nodes, three pods, a router between; both routings and both families."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.datapath.twonodes import Node, Pod, TwoNodes, eventually, two_nodes

from enitide_api.reasons import Drop
from enitide_enidp.datapath import Datapath, EndpointPolicy, Routing
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleSetDelta, RuleValue, pack_key, pack_value

pytestmark = pytest.mark.netns

ALLOW = pack_value(RuleValue(allow=True))
A1, A2, B1 = 501, 502, 503
OPEN, CLOSED, WEB = 1, 2, 3
FROM_B1_TCP_80 = pack_key(RuleKey(Direction.INGRESS, Peer.IDENTITY, B1, 6, 80, 16))
FROM_A2_UDP_53 = pack_key(RuleKey(Direction.INGRESS, Peer.IDENTITY, A2, 17, 53, 16))
FROM_B1_UDP_53 = pack_key(RuleKey(Direction.INGRESS, Peer.IDENTITY, B1, 17, 53, 16))
WEB_RULES = dict.fromkeys((FROM_B1_TCP_80, FROM_A2_UDP_53, FROM_B1_UDP_53), ALLOW)


@pytest.fixture(scope="module", params=list(Routing), ids=lambda routing: routing.value)
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    """a1 is a web server: isolated, b1 may reach TCP 80 and UDP 53, a2 UDP 53. The others are open."""
    with two_nodes(tmp_path_factory.mktemp("nodes"), request.param, policy=True) as made:
        for node in (made.a, made.b):
            node.datapath.policy.apply(RuleSet(OPEN, False, False, {}))
            node.datapath.policy.apply(RuleSet(WEB, True, False, dict(WEB_RULES)))
            for name, identity in (("a1", A1), ("a2", A2), ("b1", B1)):
                addresses = made.pods[name].endpoint.addresses
                node.datapath.policy.put_identities(dict.fromkeys(addresses, identity))
        for name, number, identity in (("a1", WEB, A1), ("a2", OPEN, A2), ("b1", OPEN, B1)):
            node = made.b if name == "b1" else made.a
            node.datapath.policy.set_endpoint(made.pods[name].endpoint.ifindex, EndpointPolicy(number, identity))
        yield made


def server(pod: Pod, family: int, port: int) -> socket.socket:
    made = pod.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((pod.address(family), port))
    made.listen()
    return made


def connects(source: Pod | Node, pod: Pod, family: int, port: int, timeout_s: float = 5) -> bool:
    with closing(source.socket(family, socket.SOCK_STREAM)) as client:
        client.settimeout(timeout_s)
        try:
            client.connect((pod.address(family), port))
        except TimeoutError:
            return False
        return True


families = pytest.mark.parametrize("family", [4, 6])


@families
def test_who_is_allowed_gets_in_and_nobody_else(nodes: TwoNodes, family: int) -> None:
    pods = nodes.pods
    with closing(server(pods["a1"], family, 80)), closing(server(pods["a1"], family, 81)):
        assert connects(pods["b1"], pods["a1"], family, 80)
        assert not connects(pods["b1"], pods["a1"], family, 81, 0.3), "another port"
        assert not connects(pods["a2"], pods["a1"], family, 80, 0.3), "another pod, of the same node"
        assert connects(nodes.a, pods["a1"], family, 81), "the node's own probe"
        assert not connects(nodes.b, pods["a1"], family, 80, 0.3), "another node"
    assert nodes.a.datapath.drops()[Drop.POLICY_DEFAULT_DENY] > 0


@families
def test_an_isolated_pod_begins_connections_itself_and_hears_the_replies(nodes: TwoNodes, family: int) -> None:
    pods = nodes.pods
    for target in ("a2", "b1"):
        with closing(server(pods[target], family, 8080)):
            assert connects(pods["a1"], pods[target], family, 8080)


@families
def test_a_live_connection_is_cut_and_revived_by_policy(nodes: TwoNodes, family: int) -> None:
    web, client = nodes.pods["a1"], nodes.pods["b1"]
    policy = nodes.a.datapath.policy
    with closing(server(web, family, 80)) as listening, closing(client.socket(family, socket.SOCK_STREAM)) as talking:
        talking.connect((web.address(family), 80))
        served, _ = listening.accept()
        with closing(served):
            served.settimeout(10)
            talking.sendall(b"one")
            assert served.recv(16) == b"one"
            before = nodes.a.datapath.drops()[Drop.POLICY_DEFAULT_DENY]
            policy.apply(RuleSetDelta(WEB, True, False, {}, (FROM_B1_TCP_80,)))
            talking.sendall(b"two")
            assert eventually(lambda: nodes.a.datapath.drops()[Drop.POLICY_DEFAULT_DENY] > before)
            served.setblocking(False)
            with pytest.raises(BlockingIOError):
                served.recv(16)
            policy.apply(RuleSetDelta(WEB, True, False, {FROM_B1_TCP_80: ALLOW}, ()))
            served.settimeout(10)
            assert served.recv(16) == b"two", "TCP sends again what was lost"


@families
def test_an_agent_that_restarts_loses_no_connection(nodes: TwoNodes, family: int) -> None:
    web, client, node = nodes.pods["a1"], nodes.pods["b1"], nodes.a
    with closing(server(web, family, 80)) as listening, closing(client.socket(family, socket.SOCK_STREAM)) as talking:
        talking.connect((web.address(family), 80))
        served, _ = listening.accept()
        with closing(served):
            served.settimeout(10)
            before = node.datapath.drops()
            node.datapath.close()
            talking.sendall(b"with no agent")
            assert served.recv(16) == b"with no agent"
            with node.namespace.entered():
                node.datapath = Datapath.open(node.pin_dir, node.config, tcx=node.tcx)
            assert node.datapath.adopted
            policy = node.datapath.policy
            assert policy.apply(RuleSet(WEB, True, False, dict(WEB_RULES))).adopted
            assert policy.apply(RuleSet(OPEN, False, False, {})).adopted
            for name, number, identity in (("a1", WEB, A1), ("a2", OPEN, A2)):
                policy.set_endpoint(nodes.pods[name].endpoint.ifindex, EndpointPolicy(number, identity))
            assert policy.forget_unclaimed() == 0
            served.sendall(b"and with a new")
            assert talking.recv(16) == b"and with a new"
            assert node.datapath.drops() == before


@families
@pytest.mark.parametrize("sender", ["a2", "b1"])
def test_fragments_pass_with_their_first_one_and_not_without(nodes: TwoNodes, family: int, sender: str) -> None:
    web, source = nodes.pods["a1"], nodes.pods[sender]
    payload = bytes(range(256)) * 16
    before = sum(nodes.a.datapath.drops().values())
    with closing(web.socket(family)) as allowed, closing(web.socket(family)) as denied:
        allowed.bind((web.address(family), 53))
        denied.bind((web.address(family), 54))
        with closing(source.socket(family)) as talking:
            talking.sendto(payload, (web.address(family), 54))
            talking.sendto(payload, (web.address(family), 53))
            assert allowed.recv(8192) == payload
            denied.setblocking(False)
            with pytest.raises(BlockingIOError):
                denied.recv(8192)
    assert eventually(lambda: sum(nodes.a.datapath.drops().values()) >= before + 3), "every part of the other datagram"


def test_a_refusal_of_a_port_comes_back_through_the_closed_door(nodes: TwoNodes) -> None:
    """An ICMP error about a connection that was admitted is part of it."""
    web, other = nodes.pods["a1"], nodes.pods["b1"]
    with closing(web.socket(4)) as talking:
        talking.connect((other.address(4), 9))
        talking.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            talking.recv(16)


def test_a_closed_rule_set_lets_nothing_through_not_even_to_the_stack(nodes: TwoNodes) -> None:
    policy, pod = nodes.a.datapath.policy, nodes.pods["a2"]
    policy.apply(RuleSet(CLOSED, False, True, {}))
    policy.set_endpoint(pod.endpoint.ifindex, EndpointPolicy(CLOSED, A2))
    try:
        before = nodes.a.datapath.drops()[Drop.POLICY_DEFAULT_DENY]
        with closing(pod.socket(4)) as talking:
            talking.sendto(b"metadata?", ("169.254.169.254", 80))
            talking.sendto(b"multicast", ("224.0.0.5", 80))
            talking.sendto(b"node", (nodes.a.address(4), 80))
        assert eventually(lambda: nodes.a.datapath.drops()[Drop.POLICY_DEFAULT_DENY] >= before + 3)
    finally:
        policy.set_endpoint(pod.endpoint.ifindex, EndpointPolicy(OPEN, A2))
