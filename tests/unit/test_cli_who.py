import msgspec
import pytest

from enitide_api.resources import ENINode, decode
from enitide_api.subnetreport import SubnetReport
from enitide_kube.objects import Pod
from enitide_operator.cli.holders import Seen, parse, who

pytestmark = pytest.mark.unit


def node(name="a", spec=None, **status):
    interfaces = [
        {
            "id": "eni-1",
            "card": 0,
            "index": 0,
            "subnetID": "subnet-1",
            "primary": "10.0.0.4",
            "addresses": ["10.0.0.5", "10.0.0.6"],
        },
        {
            "id": "eni-2",
            "card": 0,
            "index": 1,
            "subnetID": "subnet-1",
            "primary": "10.0.0.7",
            "prefixes": ["10.0.0.32/28"],
            "ipv6": {"cidr": "2600:1f00::/64", "prefixes": ["2600:1f00:0:0:1::/80"]},
        },
    ]
    body = {"metadata": {"name": name}, "spec": spec or {}, "status": {"interfaces": interfaces} | status}
    return decode(msgspec.json.encode(body), ENINode)


def pod(name="p", *ips, uid="u", phase="Running", host=False, on="a"):
    body = {
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": on, "hostNetwork": host},
        "status": {"phase": phase, "podIPs": [{"ip": ip} for ip in ips]},
    }
    return decode(msgspec.json.encode(body), Pod)


def ask(ip, *pods, nodes=(), **more):
    return who(parse(ip), Seen(nodes or (node(),), pods, **more))


def test_a_pods_address_is_named_with_pod_eni_and_node():
    found = ask("10.0.0.5", pod("web", "10.0.0.5"))
    assert (found["state"], found["owner"], found["node"], found["eni"]) == ("in-use", "shop/web", "a", "eni-1")
    assert found["on"] == "a single address"
    assert found["sinceFrom"].startswith("the pod's creation")


def test_an_address_of_a_prefix_is_found_in_it():
    found = ask("10.0.0.40", pod("web", "10.0.0.40"))
    assert (found["eni"], found["prefix"]) == ("eni-2", "10.0.0.32/28")


def test_ipv6_is_found_however_it_is_written():
    found = ask("2600:1f00:0:0:1:0:0:9", pod("web", "10.0.0.40", "2600:1f00::1:0:0:9"))
    assert (found["owner"], found["prefix"]) == ("shop/web", "2600:1f00:0:0:1::/80")


def test_an_enis_own_address_is_nobodys_but_the_enis():
    assert (ask("10.0.0.7")["state"], ask("10.0.0.7")["owner"]) == ("own", "eni-2")
    assert (ask("10.0.0.4")["state"], ask("10.0.0.4")["owner"]) == ("own", "node a")


def test_host_network_pods_do_not_own_the_nodes_address():
    found = ask("10.0.0.4", pod("proxy", "10.0.0.4", host=True))
    assert (found["owner"], found["hostPods"]) == ("node a", ["shop/proxy"])


def test_an_enis_own_address_that_serves_pods_can_be_free():
    class_ = {"class": {"usePrimaryAddress": True}}
    assert ask("10.0.0.7", nodes=(node(**class_),))["state"] == "free"
    assert ask("10.0.0.4", nodes=(node(**class_),))["state"] == "own"


def test_a_free_reserved_yielded_or_releasing_address_says_so():
    assert ask("10.0.0.6")["state"] == "free"
    reserved = node(spec={"endpoints": [{"addresses": ["10.0.0.6"], "podUID": "u7"}]})
    assert ask("10.0.0.6", nodes=(reserved,))["owner"] == "pod with UID u7"
    assert ask("10.0.0.6", nodes=(node(spec={"yielded": ["10.0.0.6/32"]}),))["state"] == "yielded"
    assert ask("10.0.0.99", nodes=(node(releasing=["10.0.0.99"]),))["state"] == "releasing"


def test_an_address_that_is_nobodys_says_what_is_known_of_its_block():
    body = {
        "metadata": {"name": "subnet-1"},
        "spec": {"cidr": "10.0.0.0/24"},
        "status": {"map": "ac2PFw10wa4", "observedAt": "2026-01-01T00:00:00Z"},
    }
    report = decode(msgspec.json.encode(body), SubnetReport)
    found = ask("10.0.0.50", reports=(report,))
    assert (found["state"], found["subnet"]) == ("unknown", "subnet-1")
    assert "its /28 in subnet-1 is full, foreign" in found["unseen"][-1]
    assert "AWS's own five" in ask("10.0.0.1", reports=(report,))["unseen"][-1]
    assert "in no subnet" in ask("192.168.0.1", reports=(report,))["unseen"][-1]


def test_the_agent_knows_since_when_and_who_had_it_last():
    rows = ({"address": "10.0.0.6", "ipv6": None, "state": "cooling", "owner": None, "since": "T1"},)
    history = (
        {"address": "10.0.0.6", "ipv6": None, "owner": "shop/old", "podUID": "u1", "since": "T0", "until": "T1"},
        {"address": "10.0.0.6", "ipv6": None, "owner": "shop/older", "podUID": "u0", "since": "S", "until": "S1"},
    )
    found = ask("10.0.0.6", agents={"a": (rows, history)})
    assert (found["state"], found["since"], found["sinceFrom"]) == ("cooling", "T1", "agent")
    assert found["lastHolder"]["owner"] == "shop/old"
    assert found["unseen"] == []


def test_an_agent_that_was_not_asked_is_said_to_be_unseen():
    (sentence,) = ask("10.0.0.6")["unseen"]
    assert "the agent of a was not asked" in sentence


def test_the_history_of_another_nodes_agent_counts_too():
    history = ({"address": "10.0.0.6", "owner": "shop/old", "podUID": "u1", "since": "T0", "until": "T1"},)
    found = ask("10.0.0.6", agents={"b": ((), history)})
    assert found["lastHolder"] == {"owner": "shop/old", "podUID": "u1", "node": "b", "since": "T0", "until": "T1"}


def test_a_finished_pod_is_the_last_holder_not_the_holder():
    found = ask("10.0.0.6", pod("job", "10.0.0.6", phase="Succeeded"))
    assert found["state"] == "free"
    assert found["lastHolder"]["owner"] == "shop/job"


def test_what_is_no_address_is_answered_with_what_to_write():
    with pytest.raises(ValueError, match="write one such as"):
        parse("10.0.0")
