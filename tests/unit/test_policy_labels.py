"""Canonical identity labels, and which keys a policy makes relevant."""

import pytest

from enitide_policy.labels import METADATA_NAME, IdentityLabels, PodFacts, Relevance
from enitide_policy.relevance import relevance_of, relevance_of_settings

pytestmark = pytest.mark.unit


def test_labels_that_no_policy_names_make_no_identity():
    relevant = Relevance(pod_keys=frozenset({"app"}))
    one = relevant.of(PodFacts("d", labels=(("app", "web"), ("pod-template-hash", "1"))), {"team": "a"})
    two = relevant.of(PodFacts("d", "other", labels=(("pod-template-hash", "2"), ("app", "web"))), {"team": "b"})
    assert one == two == IdentityLabels("d", pod=(("app", "web"),))
    assert one.object_name() == two.object_name()


def test_every_relevant_part_makes_another_name():
    base = IdentityLabels("d", "s", (("a", "b"),), (("n", "x"),), (("http", "TCP", 80),))
    others = [
        IdentityLabels("e", "s", (("a", "b"),), (("n", "x"),), (("http", "TCP", 80),)),
        IdentityLabels("d", "", (("a", "b"),), (("n", "x"),), (("http", "TCP", 80),)),
        IdentityLabels("d", "s", (("a", "c"),), (("n", "x"),), (("http", "TCP", 80),)),
        IdentityLabels("d", "s", (("n", "x"),), (("a", "b"),), (("http", "TCP", 80),)),
        IdentityLabels("d", "s", (("a", "b"),), (("n", "x"),), (("http", "TCP", 81),)),
    ]
    assert len({each.object_name() for each in (base, *others)}) == 6
    assert len(base.object_name()) == 32


def test_a_separator_inside_a_label_cannot_forge_another_identity():
    assert IdentityLabels("d", pod=(("a", 'b","c'),)).key() != IdentityLabels("d", pod=(("a", "b"), ("c", ""))).key()


def test_the_name_label_of_a_namespace_follows_from_its_name():
    assert IdentityLabels("d").all_namespace_labels == {METADATA_NAME: "d"}


def test_a_network_policy_makes_its_selectors_keys_and_port_names_relevant():
    found = relevance_of(
        {
            "podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [
                {
                    "from": [
                        {
                            "podSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
                            "namespaceSelector": {"matchLabels": {"team": "a", METADATA_NAME: "d"}},
                        }
                    ],
                    "ports": [{"port": "http"}, {"port": 80, "endPort": 90}],
                }
            ],
        }
    )
    assert found == Relevance(frozenset({"app", "tier"}), frozenset({"team"}), frozenset({"http"}))


def test_a_cluster_network_policy_makes_keys_of_subject_and_peers_relevant():
    found = relevance_of(
        {
            "subject": {"namespaces": {"matchLabels": {"team": "a"}}},
            "ingress": [{"from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "x"}}}}]}],
            "egress": [
                {"to": [{"nodes": {"matchLabels": {"role": "x"}}}], "protocols": [{"destinationNamedPort": "dns"}]}
            ],
        }
    )
    assert found == Relevance(frozenset({"app"}), frozenset({"team"}), frozenset({"dns"}))


def test_a_cilium_policy_may_name_namespace_labels_and_service_accounts_as_labels_of_endpoints():
    found = relevance_of(
        {
            "endpointSelector": {"matchLabels": {"k8s:app": "a"}},
            "ingress": [
                {
                    "fromEndpoints": [
                        {
                            "matchLabels": {
                                "io.kubernetes.pod.namespace": "d",
                                "k8s:io.cilium.k8s.namespace.labels.team": "a",
                                "io.cilium.k8s.policy.serviceaccount": "s",
                                "reserved:host": "",
                            }
                        }
                    ]
                }
            ],
        }
    )
    assert found == Relevance(frozenset({"app"}), frozenset({"team"}), service_account=True)


def test_a_setting_names_keys_of_pods_and_of_namespaces():
    assert relevance_of_settings(["app", "namespace:team"]) == Relevance(frozenset({"app"}), frozenset({"team"}))


@pytest.mark.parametrize(
    "spec", [None, 7, [], {"podSelector": None}, {"podSelector": {"matchLabels": 5, "matchExpressions": 5}}]
)
def test_what_is_no_policy_names_nothing(spec):
    assert relevance_of(spec) == Relevance()


def test_what_is_read_from_the_text_covers_what_the_parsed_policy_asks_for():
    from support.policy_cases import objects_of
    from unit.policy import test_bad_policies, test_cilium, test_clusternetworkpolicy, test_networkpolicy

    from enitide_policy.parse import VERSIONS, parse
    from enitide_policy.relevance import relevance_of_policy

    texts = [text for text, *_ in test_networkpolicy.SCENARIOS.values()]
    texts += [text for text, *_ in test_clusternetworkpolicy.SCENARIOS.values()]
    texts += [text for text, *_ in test_cilium.SCENARIOS.values()]
    texts += [text for text, *_ in (*test_bad_policies.NAMESPACED.values(), *test_bad_policies.CLUSTER.values())]
    seen = 0
    for obj in objects_of(*texts, test_clusternetworkpolicy.ANCESTORS):
        if obj.get("kind") in VERSIONS:
            coarse = relevance_of([obj.get("spec"), obj.get("specs")])
            for policy in parse(obj).policies:
                exact = relevance_of_policy(policy)
                assert coarse | exact == coarse, obj
                seen += bool(exact.pod_keys)
    assert seen > 20
