"""The engine as a judge: manifests through the real engine, its rule sets asked as the kernel asks them.

The verdict is the engine's. Which rule gave it, maps do not say: the reference evaluator names it. Should the two ever
disagree, the row says `Internal` instead of a rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from enitide_api.reasons import Reason
from enitide_policy.engine.engine import Engine
from enitide_policy.evaluate import Decision, End, Packet, decide, reserved_of
from enitide_policy.labels import METADATA_NAME, IdentityLabels, Relevance, union
from enitide_policy.mapstate import Direction
from enitide_policy.model import ICMP, ICMPV6, Policy
from enitide_policy.numbers import FIRST_NUMBER
from enitide_policy.problems import ObjectRef
from enitide_policy.relevance import relevance_of_policy
from enitide_policy.twin import PeerIdentities, look_up
from enitide_policy.world import Backend, Pod, World, resolved

_FIRST_NODE = 1 << 30  # numbers of nodes as endpoints, beyond those of pods


class EngineJudge:
    """One engine for a whole world: every pod and every node is an endpoint of it."""

    def __init__(self, world: World, policies: Iterable[Policy]) -> None:
        written = tuple(policies)
        self._policies = resolved(written, world)
        self._relevance = union(map(relevance_of_policy, self._policies))
        pods = [pod for pod in world.pods.values() if not pod.gone and not pod.host_network]
        labels = sorted({identity_labels(self._relevance, world, pod) for pod in pods})
        self._numbers = {one: number for number, one in enumerate(labels, FIRST_NUMBER)}
        self.engine = load(Engine(), world, written)
        for one, number in self._numbers.items():
            self.engine.identity(number, one)
        for number, node in enumerate(world.nodes.values(), _FIRST_NODE):
            self.engine.host(_name_of_node(node.name), number, node.labels)
        for pod in pods:
            number = self._numbers[identity_labels(self._relevance, world, pod)]
            self.engine.endpoint("/".join(pod.key), number)
            for address in pod.addresses:
                self.engine.named.pod(address, number)
        self.engine.commit()

    def decide(self, side: Direction, subject: End, peer: End, packet: Packet) -> Decision:
        """What the subject's rule set says, and by which rule."""
        named = decide(side, subject, peer, packet, self._policies)
        nobody = subject.pod is None and subject.node_labels is None
        if named.reason in (Reason.SELF_TRAFFIC, Reason.OWN_NODE_TRAFFIC) or nobody:
            return named
        rule_set = self.engine.rule_set_of("/".join(subject.pod) if subject.pod else _name_of_node(subject.node))
        if rule_set is None:
            return Decision(False, Reason.INTERNAL, steps=named.steps)
        port = packet.port << 8 if packet.protocol in (ICMP, ICMPV6) else packet.port
        allowed, _ = look_up(rule_set, side, self._who(subject, peer), packet.protocol, port)
        return named if named.allowed is allowed else Decision(allowed, Reason.INTERNAL, steps=named.steps)

    def _who(self, subject: End, peer: End) -> PeerIdentities:
        address = peer.address
        cidr = self.engine.cidrs.number_of(address.version, int(address)) if address else 0
        reserved = reserved_of(subject, peer)
        if reserved is not None:
            return PeerIdentities(reserved, peer.is_node, cidr)
        return PeerIdentities(self.number_of(peer), exact=True, cidr=cidr)

    def number_of(self, pod: End) -> int:
        """The number of a pod's identity."""
        assert pod.labels is not None, "nodes and what is outside have reserved identities"
        return self._numbers[relevant(self._relevance, pod.labels)]


def _name_of_node(name: str) -> str:
    return f"node:{name}"  # no pod's: the name of a namespace has no colon


def load(engine: Engine, world: World, policies: Sequence[Policy]) -> Engine:
    """Tell an engine a world and policies, as an agent's watches would."""
    for name, node in world.nodes.items():
        engine.node(name, node)
    for key, service in world.services.items():
        engine.service(key, service)
    slices: dict[tuple[str, str], list[Backend]] = {}
    for backend in world.backends:
        slices.setdefault((backend.namespace, backend.service), []).append(backend)
    for key, backends in slices.items():
        engine.backends(key, backends)
    objects: dict[ObjectRef, list[Policy]] = {}
    for policy in policies:
        objects.setdefault(policy.ref, []).append(policy)
    for ref, parts in objects.items():
        engine.policy(ref, parts)
    return engine


def identity_labels(relevance: Relevance, world: World, pod: Pod) -> IdentityLabels:
    """The labels of a pod's identity."""
    return relevance.of(pod.facts, world.labels_of(pod.facts.namespace))


def relevant(relevance: Relevance, labels: IdentityLabels) -> IdentityLabels:
    """All labels of a pod cut down to those of its identity."""
    return IdentityLabels(
        labels.namespace,
        labels.service_account if relevance.service_account else "",
        tuple(pair for pair in labels.pod if pair[0] in relevance.pod_keys),
        tuple(pair for pair in labels.namespace_labels if pair[0] in relevance.namespace_keys - {METADATA_NAME}),
        tuple(port for port in labels.ports if port[0] in relevance.port_names),
    )
