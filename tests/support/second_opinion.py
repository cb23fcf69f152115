"""A second reading of policies, from raw manifests and straight from the order of decision, as a yardstick.

It shares no code with enitide_policy and knows only sound manifests. Each function is a sentence of a specification:
NetworkPolicy v1, ClusterNetworkPolicy v1alpha2, CiliumNetworkPolicy v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

ICMP = {4: "ICMP", 6: "ICMPv6"}


@dataclass(frozen=True)
class Who:
    """One end: a pod (its manifest), a node by name, or neither: outside."""

    ip: str
    pod: Any = None
    node: str = ""


class Cluster:
    """Objects by kind; `ask` gives both directions of one query."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.of = {kind: [o for o in objects if o["kind"] == kind] for kind in {o["kind"] for o in objects}}
        self.namespaces = {
            o["metadata"]["name"]: {"kubernetes.io/metadata.name": o["metadata"]["name"], **o["metadata"]["labels"]}
            for o in self.of.get("Namespace", [])
        }

    def who(self, text: str) -> Who:
        """`ns/pod` or an address. A host-network pod is its node."""
        for pod in self.of.get("Pod", []):
            ip = pod["status"]["podIPs"][0]["ip"]
            host = pod["spec"].get("hostNetwork", False)
            if text == f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" or (text == ip and not host):
                return Who(ip, None if host else pod, pod["spec"]["nodeName"])
        for node in self.of.get("Node", []):
            if text in [each["address"] for each in node["status"]["addresses"]]:
                return Who(text, None, node["metadata"]["name"])
        return Who(text)

    def ask(self, query: dict[str, Any]) -> dict[str, Any]:
        """`{"egress": (allowed, rule), "ingress": ...}`; a rule is (tier, name, index, action) or None."""
        source, target = self.who(query["from"]), self.who(query["to"])
        packet = (query["protocol"], query.get("port", query.get("icmpType")))
        return {
            "egress": self.decide("egress", source, target, packet),
            "ingress": self.decide("ingress", target, source, packet),
        }

    # ---- the order of decision

    def decide(self, side: str, me: Who, other: Who, packet: tuple[str, int]) -> tuple[bool, Any]:
        if me.pod is None:
            if not me.node or (other.node == me.node and (other.pod is None or side == "egress")):
                return True, None
        elif me.pod is other.pod:
            return True, None
        if side == "ingress" and other.pod is None and other.node == me.node:
            return True, None
        context = (side, me, other, packet)
        admin = self.first("Admin", context)
        if admin and admin[-1] != "Pass":
            return admin[-1] == "Allow", admin
        isolated, allow, deny = self.middle(context)
        if deny:
            return False, deny
        if isolated:
            return bool(allow), allow
        base = self.first("Baseline", context)
        if base and base[-1] != "Pass":
            return base[-1] == "Allow", base
        return True, None

    def first(self, tier: str, context: Any) -> Any:
        """The first matching rule of a tier, by priority, then as written."""
        side, me, other, packet = context
        policies = [p for p in self.of.get("ClusterNetworkPolicy", []) if p["spec"]["tier"] == tier]
        for policy in sorted(policies, key=lambda p: p["spec"]["priority"]):
            if not self.of_cluster(policy["spec"]["subject"], me):
                continue
            for index, rule in enumerate(policy["spec"].get(side, [])):
                peers = rule["from" if side == "ingress" else "to"]
                receiver = me if side == "ingress" else other
                fits = "protocols" not in rule or any(protocol(p, packet, receiver) for p in rule["protocols"])
                if fits and any(self.of_cluster(peer, other) for peer in peers):
                    action = "Allow" if rule["action"] == "Accept" else rule["action"]
                    return tier, policy["metadata"]["name"], index, action
        return None

    def middle(self, context: Any) -> tuple[bool, Any, Any]:
        """Whether anything isolates, and some allowing and some denying rule."""
        side, me, _, _ = context
        isolated, allow, deny = False, None, None
        for policy in self.of.get("NetworkPolicy", []):
            spec = policy["spec"]
            if (
                me.pod
                and mine(policy, me)
                and fits(spec["podSelector"], labels(me))
                and side.capitalize() in types(spec)
            ):
                isolated = True
                for index, rule in enumerate(spec.get(side) or []):
                    if self.of_network_policy(rule, policy["metadata"]["namespace"], context):
                        allow = ("NetworkPolicy", policy["metadata"]["name"], index, "Allow")
        for policy in [*self.of.get("CiliumNetworkPolicy", []), *self.of.get("CiliumClusterwideNetworkPolicy", [])]:
            spec, namespace = policy["spec"], policy["metadata"].get("namespace", "")
            if not self.of_cilium_subject(policy, me):
                continue
            there = bool(spec.get(side) or spec.get(side + "Deny"))
            isolated |= spec.get("enableDefaultDeny", {}).get(side, there)
            for index, rule in enumerate(spec.get(side, [])):
                if self.of_cilium(rule, namespace, context):
                    allow = allow or ("Cilium", policy["metadata"]["name"], index, "Allow")
            for index, rule in enumerate(spec.get(side + "Deny", [])):
                if self.of_cilium(rule, namespace, context):
                    deny = ("Cilium", policy["metadata"]["name"], index, "Deny")
        return isolated, allow, deny

    def of_cilium_subject(self, policy: dict[str, Any], me: Who) -> bool:
        spec = policy["spec"]
        if "nodeSelector" in spec:
            found = [node for node in self.of["Node"] if node["metadata"]["name"] == me.node and me.pod is None]
            return any(fits(spec["nodeSelector"], node["metadata"]["labels"]) for node in found)
        return me.pod is not None and mine(policy, me) and fits(spec["endpointSelector"], labels(me))

    # ---- peers

    def of_cluster(self, peer: dict[str, Any], who: Who) -> bool:
        ((kind, value),) = peer.items()
        if kind == "networks":
            return any(inside(who.ip, {"cidr": cidr}) for cidr in value)
        if kind == "nodes":
            chosen = [node for node in self.of["Node"] if fits(value, node["metadata"]["labels"])]
            return any(who.ip == each["address"] for node in chosen for each in node["status"]["addresses"])
        if who.pod is None:
            return False
        where = value if kind == "namespaces" else value.get("namespaceSelector", {})
        which = {} if kind == "namespaces" else value["podSelector"]
        return fits(where, self.around(who)) and fits(which, labels(who))

    def of_network_policy(self, rule: dict[str, Any], namespace: str, context: Any) -> bool:
        side, me, other, packet = context
        receiver = me if side == "ingress" else other
        peers = rule.get("from" if side == "ingress" else "to") or [None]
        ports = rule.get("ports") or [None]
        return any(
            self.is_peer(peer, namespace, other) and port_of(port, packet, receiver) for peer in peers for port in ports
        )

    def is_peer(self, peer: Any, namespace: str, who: Who) -> bool:
        if peer is None:
            return True
        if "ipBlock" in peer:
            return inside(who.ip, peer["ipBlock"])
        if who.pod is None or not fits(peer.get("podSelector", {}), labels(who)):
            return False
        if "namespaceSelector" in peer:
            return fits(peer["namespaceSelector"], self.around(who))
        return who.pod["metadata"]["namespace"] == namespace

    def of_cilium(self, rule: dict[str, Any], namespace: str, context: Any) -> bool:
        side, me, other, packet = context
        receiver = me if side == "ingress" else other
        word = "from" if side == "ingress" else "to"
        given = [key for key in rule if key.startswith(("from", "to")) and key != "toPorts"]
        if not rule:
            return False
        l4 = [p for item in rule.get("toPorts", []) for p in item["ports"]]
        types_ = [f for item in rule.get("icmps", []) for f in item["fields"]]
        if (
            (l4 or types_)
            and not any(cilium_port(p, packet, receiver) for p in l4)
            and not any(packet == (ICMP[4], f["type"]) and ":" not in other.ip for f in types_)
        ):
            return False
        return not given or any(
            self.cilium_peer(key.removeprefix(word), item, namespace, me, other) for key in given for item in rule[key]
        )

    def cilium_peer(self, kind: str, item: Any, namespace: str, me: Who, who: Who) -> bool:
        pod, node = who.pod is not None, who.pod is None and bool(who.node)
        if kind == "CIDRSet":
            return not pod and not node and inside(who.ip, item)
        if kind == "Entities":
            return {
                "all": True,
                "world": not pod and not node,
                "cluster": pod or node,
                "host": node and who.node == me.node,
                "remote-node": node and who.node != me.node,
            }[item]
        if not pod:
            return False
        wanted = dict(item.get("matchLabels", {}))
        where = wanted.pop("k8s:io.kubernetes.pod.namespace", namespace)
        return where in ("", who.pod["metadata"]["namespace"]) and fits({**item, "matchLabels": wanted}, labels(who))

    def around(self, who: Who) -> dict[str, str]:
        return self.namespaces[who.pod["metadata"]["namespace"]]


def labels(who: Who) -> dict[str, str]:
    return who.pod["metadata"]["labels"] if who.pod else {}


def mine(policy: dict[str, Any], me: Who) -> bool:
    return bool(me.pod["metadata"]["namespace"] == policy["metadata"]["namespace"])


def types(spec: dict[str, Any]) -> list[str]:
    """`policyTypes`, or Ingress always and Egress where it has rules."""
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def fits(selector: dict[str, Any], have: dict[str, str]) -> bool:
    tests = {
        "In": lambda key, values: have.get(key) in values,
        "NotIn": lambda key, values: have.get(key) not in values,
        "Exists": lambda key, _: key in have,
        "DoesNotExist": lambda key, _: key not in have,
    }
    return all(have.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        tests[each["operator"]](each["key"], each.get("values")) for each in selector.get("matchExpressions", [])
    )


def inside(ip: str, block: dict[str, Any]) -> bool:
    def holds(cidr: str) -> bool:
        return ip_address(ip) in ip_network(cidr)

    return holds(block["cidr"]) and not any(holds(cidr) for cidr in block.get("except", []))


def named(name: str, packet: tuple[str, int], receiver: Who, protocols: tuple[str, ...]) -> bool:
    """Whether the packet goes to the port of that name of the pod that receives."""
    ports = [p for c in receiver.pod["spec"]["containers"] for p in c["ports"]] if receiver.pod else []
    return packet[0] in protocols and (name, *packet) in [(p["name"], p["protocol"], p["containerPort"]) for p in ports]


def port_of(port: Any, packet: tuple[str, int], receiver: Who) -> bool:
    if port is None:
        return True
    protocol_, number = port.get("protocol", "TCP"), port.get("port")
    if isinstance(number, str):
        return named(number, packet, receiver, (protocol_,))
    return packet[0] == protocol_ and (number is None or number <= packet[1] <= port.get("endPort", number))


def protocol(item: dict[str, Any], packet: tuple[str, int], receiver: Who) -> bool:
    ((word, value),) = item.items()
    if word == "destinationNamedPort":
        return named(value, packet, receiver, ("TCP", "UDP", "SCTP"))
    port = value["destinationPort"]
    first, last = (port["number"],) * 2 if "number" in port else (port["range"]["start"], port["range"]["end"])
    return packet[0] == word.upper() and first <= packet[1] <= last


def cilium_port(port: dict[str, Any], packet: tuple[str, int], receiver: Who) -> bool:
    word = port.get("protocol", "ANY")
    protocols = ("TCP", "UDP", "SCTP") if word == "ANY" else (word,)
    if not port["port"].isdigit():
        return named(port["port"], packet, receiver, protocols)
    number = int(port["port"])
    return packet[0] in protocols and (not number or number <= packet[1] <= port.get("endPort", number))
