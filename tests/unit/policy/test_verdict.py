"""`enitide policy verdict` and `trace` as a person or a program calls them."""

import json

import pytest
import yaml
from support.policy_cases import judged, objects_of
from unit.policy.test_networkpolicy import policy
from unit.policy.worlds import XYZ

from enitide_api.cli import main
from enitide_api.reasons import Reason

pytestmark = pytest.mark.unit
ONE = {"id": "one", "from": "x/b", "to": "x/a", "protocol": "TCP", "port": 80}
DUAL = """
apiVersion: v1
kind: Pod
metadata: {name: dual, namespace: x, labels: {pod: dual}}
spec: {nodeName: n1}
status: {phase: Running, podIPs: [{ip: 10.0.9.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dual2, namespace: x, labels: {pod: dual2}}
spec: {nodeName: n2}
status: {phase: Running, podIPs: [{ip: 10.0.9.2}, {ip: "fd00::2"}]}
---
"""
FOURS = policy("podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")


def call(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(["policy", *map(str, args)])
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


@pytest.fixture
def files(tmp_path):
    """A folder of manifests with a subfolder, and a place for queries."""
    objects = tmp_path / "objects"
    (objects / "policies").mkdir(parents=True)
    (objects / "world.yaml").write_text(XYZ + DUAL)
    (objects / "policies" / "p.yml").write_text(policy("podSelector: {}\ningress: [{from: [{podSelector: {}}]}]"))
    query = tmp_path / "query.yaml"
    query.write_text(yaml.safe_dump([ONE]))
    return objects, query


def test_json_has_verdicts_and_problems_and_nothing_else(files, capsys):
    objects, query = files
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert (code, err) == (0, "")
    rule = {"kind": "NetworkPolicy", "namespace": "x", "name": "p", "tier": "NetworkPolicy"}
    assert json.loads(out) == {
        "verdicts": [
            {
                "id": "one",
                "verdict": "allowed",
                "reason": "AllowedByRule",
                "egress": {"verdict": "allowed", "rule": None},
                "ingress": {
                    "verdict": "allowed",
                    "rule": {**rule, "direction": "ingress", "index": 0, "action": "Allow"},
                },
            }
        ],
        "problems": [],
    }


def test_the_table_shows_the_rule_and_problems_go_to_standard_error(files, capsys):
    objects, query = files
    (objects / "bad.yaml").write_text(policy("podSelector: {}\ningress: [{ports: [{port: 0}]}]", "bad", "z"))
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query)
    assert code == 0
    assert "NetworkPolicy/x/p ingress[0] Allow" in out
    assert err.startswith("NetworkPolicy/z/bad: spec.ingress[0].ports[0].port: PolicyInvalid: ")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("o", "a: [", "no YAML"),
        ("o", "- 1", "no object"),
        ("o", "a: 1\na: 2", "written twice"),
        ("o", "\x00", "no YAML"),
        ("q", "[{", "no YAML"),
        ("q", "{}", "must be a list"),
        ("q", "[5]", "query 0 must be a mapping"),
        ("q", "[]\n---\n[]", "2 documents"),
    ],
)
def test_what_cannot_be_read_is_exit_2_with_nothing_on_standard_output(files, capsys, name, text, word):
    objects, query = files
    ((objects / "broken.yaml") if name == "o" else query).write_text(text)
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert (code, out) == (2, "")
    assert word in err


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"id": None}, "id is missing"),
        ({"from": "x/nobody"}, "there is no Pod x/nobody"),
        ({"to": "node/n9"}, "there is no Node n9"),
        ({"to": "service/x/nothing"}, "there is no Service x/nothing"),
        ({"from": "service/x/web"}, "opens no connections"),
        ({"to": "nonsense"}, "write ns/pod"),
        ({"to": 5}, "to must be"),
        ({"protocol": "GRE"}, "write TCP, UDP, SCTP or ICMP"),
        ({"port": 0}, "1 to 65535"),
        ({"port": None}, "1 to 65535"),
        ({"port": True}, "1 to 65535"),
        ({"protocol": "ICMP"}, "write icmpType"),
        ({"icmpType": 8}, "write port"),
        ({"family": "v4"}, "IPv4 or IPv6"),
        ({"prt": 80}, "unknown field 'prt'"),
    ],
)
def test_a_query_that_cannot_be_read_names_its_field(files, capsys, change, word):
    objects, query = files
    query.write_text(yaml.safe_dump([{key: value for key, value in {**ONE, **change}.items() if value is not None}]))
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert (code, out) == (2, "")
    assert word in err


def test_a_query_id_stands_once(files, capsys):
    objects, query = files
    query.write_text(yaml.safe_dump([ONE, ONE]))
    assert call(capsys, "verdict", "--objects", objects, "--query", query)[0] == 2


def test_families_that_agree_need_not_be_named_and_those_that_differ_must():
    objects = objects_of(XYZ, DUAL, FOURS)
    ask = {"from": "x/dual", "to": "x/dual2", "protocol": "TCP", "port": 80}
    rows, problems = judged(
        objects,
        [
            {"id": "both", **ask},
            {"id": "4", **ask, "family": "IPv4"},
            {"id": "6", **ask, "family": "IPv6"},
            {"id": "none", "from": "x/a", "to": "fd00::2", "protocol": "TCP", "port": 80},
            {"id": "away", **ask, "from": "x/a", "family": "IPv6"},
        ],
    )
    assert {key: (row["verdict"], row["reason"]) for key, row in rows.items()} == {
        "both": ("denied", "FamilyMismatch"),
        "4": ("allowed", "AllowedByRule"),
        "6": ("denied", "DeniedByIsolation"),
        "none": ("denied", "FamilyMismatch"),
        "away": ("denied", "FamilyMismatch"),
    }
    assert [(p["object"], p["field"]) for p in problems] == [
        ("query/both", "family"),
        ("query/none", "family"),
        ("query/away", "family"),
    ]
    assert "IPv4 is allowed, IPv6 is denied" in problems[0]["message"]
    rows, problems = judged(objects_of(XYZ, DUAL), [{"id": "both", **ask}])
    assert rows["both"]["verdict"] == "allowed"
    assert problems == []


def test_an_address_stands_for_the_pod_node_or_service_that_has_it():
    objects = objects_of(XYZ, policy("podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]"))
    ask = {"protocol": "TCP", "port": 80}
    rows, _ = judged(
        objects,
        [
            {"id": "pod", "from": "10.0.1.2", "to": "10.0.1.1", **ask},
            {"id": "node", "from": "172.16.0.1", "to": "10.0.1.1", **ask},
            {"id": "service", "from": "10.0.1.2", "to": "172.20.0.10", **ask},
            {"id": "outside", "from": "10.0.1.99", "to": "10.0.1.1", **ask},
        ],
    )
    assert {key: row["reason"] for key, row in rows.items()} == {
        "pod": "AllowedByRule",
        "node": "OwnNodeTraffic",
        "service": "SelfTraffic",
        "outside": "DeniedByIsolation",
    }
    assert [end["address"] for end in rows["service"]["endpoints"]] == ["10.0.1.2"]


def test_a_service_is_denied_if_one_ready_endpoint_is_and_shows_each():
    more = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-2, namespace: x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 9090}]
endpoints: [{addresses: [10.0.1.3]}]
"""
    only = policy("podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{podSelector: {}}], ports: [{port: 8080}]}]")
    rows, _ = judged(
        objects_of(XYZ, more, only),
        [{"id": 1, "from": "x/a", "to": "service/x/web", "protocol": "TCP", "port": 80}],
    )
    assert rows[1]["verdict"] == "denied"
    ends = [(end["address"], end["port"], end["verdict"]) for end in rows[1]["endpoints"]]
    assert ends == [("10.0.1.2", 8080, "allowed"), ("10.0.1.3", 9090, "denied")]


def test_a_pod_without_an_address_is_judged_by_who_it_is():
    new = "apiVersion: v1\nkind: Pod\nmetadata: {name: new, namespace: x, labels: {pod: b}}\nspec: {nodeName: n1}\n"
    allow = policy("podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]")
    rows, _ = judged(objects_of(XYZ, new, allow), [{**ONE, "from": "x/new"}])
    assert rows["one"]["verdict"] == "allowed"


def test_every_reason_that_is_printed_is_in_the_one_list():
    for reason in ("AllowedByRule", "DeniedByIsolation", "NoEndpoints", "PodEnded", "SelfTraffic"):
        assert reason in set(Reason)


def test_trace_shows_every_rule_that_was_asked_and_which_decides(files, capsys):
    objects, _ = files
    (objects / "q.yaml").write_text(
        policy("podSelector: {}\ningress: [{from: [{podSelector: {}}], ports: [{port: 81}]}]", "a")
    )
    given = ("--from", "x/b", "--to", "x/a", "--port", "80")
    code, out, _ = call(capsys, "trace", "--objects", objects, *given, "-o", "json")
    assert code == 0
    steps = [step for step in json.loads(out)["steps"] if step["direction"] == "ingress"]
    assert [(step["name"], step["peer"], step["port"], step["decides"]) for step in steps] == [
        ("a", True, False, False),
        ("p", True, True, True),
    ]
    code, out, _ = call(capsys, "trace", "--objects", objects, *given)
    assert out.splitlines()[-1] == "allowed: AllowedByRule"


def test_trace_says_what_held_where_no_rule_decided(files, capsys):
    objects, _ = files
    code, out, _ = call(
        capsys, "trace", "--objects", objects, "--from", "y/a", "--to", "x/a", "--port", "80", "-o", "json"
    )
    assert code == 0
    last = json.loads(out)["steps"][-1]
    assert (last["action"], last["reason"], last["decides"]) == ("denied", "DeniedByIsolation", True)
