"""Manifests as people have them: typed lists, other groups' kinds; and ends of queries as people write them."""

import pytest
import yaml
from support.policy_cases import differences, judged, objects_of
from unit.policy.test_networkpolicy import policy
from unit.policy.test_verdict import ONE, call, files
from unit.policy.worlds import XYZ

pytestmark = pytest.mark.unit
__all__ = ["files"]
SHUT = "x/b -> x/a TCP/80 = denied"


@pytest.mark.parametrize("kind", ["List", "NetworkPolicyList"])
def test_items_of_a_list_are_read_also_where_only_the_list_says_their_kind(kind):
    item = objects_of(policy("podSelector: {}\npolicyTypes: [Ingress]"))[0]
    if kind == "NetworkPolicyList":
        item = {key: item[key] for key in ("metadata", "spec")}
    whole = {"apiVersion": "v1" if kind == "List" else "networking.k8s.io/v1", "kind": kind, "items": [item]}
    objects = [*objects_of(XYZ), whole]
    assert judged(objects, [])[1] == []
    assert differences(objects, SHUT) == []


@pytest.mark.parametrize("group", ["crd.projectcalico.org/v1", "crd.antrea.io/v1beta1", "example.com/v1"])
def test_a_kind_of_the_same_name_in_another_group_is_another_kind(group):
    """Calico's NetworkPolicy is no NetworkPolicy of Kubernetes: its fields mean other things."""
    other = {"apiVersion": group, "kind": "NetworkPolicy", "metadata": {"name": "n", "namespace": "x"}}
    objects = [*objects_of(XYZ), other | {"spec": {"selector": "all()", "types": ["Ingress"]}}]
    assert [(row["object"], row["field"], row["reason"]) for row in judged(objects, [])[1]] == [
        ("NetworkPolicy/x/n", "kind", "PolicyUnsupported")
    ]
    assert differences(objects, "x/b -> x/a TCP/80 = allowed") == []


def test_an_old_version_of_the_same_kind_is_read_and_named():
    old = objects_of(policy("podSelector: {}\npolicyTypes: [Ingress]"))[0] | {"apiVersion": "extensions/v1beta1"}
    objects = [*objects_of(XYZ), old]
    assert [row["field"] for row in judged(objects, [])[1]] == ["apiVersion"]
    assert differences(objects, SHUT) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"id": ""}, "id is missing"),
        ({"id": [1]}, "id is missing"),
        ({"to": "10.0.0.0/8"}, "write one address"),
        ({"to": "service/web"}, "a Service is service/NS/NAME"),
        ({"to": "node/"}, "write ns/pod"),
        ({"port": None}, "port is missing"),
        ({"icmpType": 8}, "TCP has no icmpType: leave it out"),
    ],
)
def test_the_message_says_what_to_write(files, capsys, change, word):
    objects, query = files
    query.write_text(yaml.safe_dump([{key: value for key, value in {**ONE, **change}.items() if value is not None}]))
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert (code, out) == (2, "")
    assert word in err


def test_an_empty_query_file_is_no_list(files, capsys):
    objects, query = files
    query.write_text("# nothing yet\n")
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert (code, out) == (2, "")
    assert "must be a list" in err


def test_ipv4_written_in_ipv6_is_ipv4():
    objects = objects_of(XYZ, policy("podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 10.0.1.2/32}}]}]"))
    lines = "::ffff:10.0.1.2 -> x/a TCP/80 = allowed\n::ffff:10.0.1.3 -> x/a TCP/80 = denied"
    assert differences(objects, lines) == []
