"""Policies, namespaces and own pods as an agent keeps them: what decisions need of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from enitide_kube.objects import Container, Meta, Pod, Slim, decode_pod, named_ports
from enitide_kube.port import Kind
from enitide_policy.labels import PodFacts, Relevance
from enitide_policy.manifests import read
from enitide_policy.model import NodesPeer, Policy, ServicePeer
from enitide_policy.parse import parse
from enitide_policy.problems import ObjectRef, Problem
from enitide_policy.relevance import relevance_of
from enitide_policy.servicekeys import services_named
from enitide_policy.world import Backend, Node, Service


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """One policy, read. `services`, `nodes`: it names these, or some, so they have to be watched."""

    metadata: Meta
    ref: ObjectRef
    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]
    relevance: Relevance
    services: tuple[ServicePeer, ...]
    nodes: bool


def policy_decoder(kind: Kind, *, host_policy: bool = False) -> Any:
    """A reader of policies of one kind; a list's items do not say their kind themselves."""

    def decode(raw: bytes) -> PolicyObject:
        obj: dict[str, Any] = msgspec.json.decode(raw)
        obj.setdefault("kind", kind.kind)
        obj.setdefault("apiVersion", kind.api_version)
        parsed = parse(obj, host_policy=host_policy)
        peers = [peer for policy in parsed.policies for rule in policy.rules for peer in rule.peers]
        return PolicyObject(
            slim_meta(raw),
            parsed.ref,
            parsed.policies,
            parsed.problems,
            relevance_of([obj.get("spec"), obj.get("specs")]),
            services_named(parsed.policies),
            any(isinstance(peer, NodesPeer) for peer in peers),
        )

    return decode


class SlimNamespace(Slim, frozen=True, kw_only=True):
    """A namespace's name and labels."""

    metadata: Meta = Meta()


decode_namespace = msgspec.json.Decoder(SlimNamespace).decode


class _Head(Slim, frozen=True, kw_only=True):
    metadata: Meta = Meta()


_HEAD = msgspec.json.Decoder(_Head)


def slim_meta(raw: bytes) -> Meta:
    """What a reflector needs of any object's metadata."""
    meta = _HEAD.decode(raw).metadata
    return Meta(name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version)


@dataclass(frozen=True, slots=True)
class Fact:
    """A Node, a Service or an EndpointSlice, as far as policies may name it."""

    metadata: Meta
    node: Node | None = None
    service: Service | None = None
    backends: tuple[Backend, ...] = ()


def fact_decoder(kind: Kind) -> Any:
    """A reader of one of the three kinds."""

    def decode(raw: bytes) -> Fact:
        obj: dict[str, Any] = msgspec.json.decode(raw)
        obj.setdefault("kind", kind.kind)
        obj.setdefault("apiVersion", kind.api_version)
        world = read([obj]).world
        return Fact(
            slim_meta(raw),
            next(iter(world.nodes.values()), None),
            next(iter(world.services.values()), None),
            world.backends,
        )

    return decode


class _Spec(Slim, frozen=True, kw_only=True):
    service_account_name: str = "default"
    containers: tuple[Container, ...] = ()


class _PodFacts(Slim, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    spec: _Spec = _Spec()


_POD = msgspec.json.Decoder(_PodFacts)


class FactPod(Pod, frozen=True, kw_only=True):
    """A pod of this node, with what can make its identity."""

    facts: PodFacts = PodFacts("")


def decode_fact_pod(raw: bytes) -> FactPod:
    """A pod's bytes."""
    pod = decode_pod(raw)
    return FactPod(metadata=pod.metadata, spec=pod.spec, status=pod.status, facts=pod_facts(raw))


def pod_facts(raw: bytes) -> PodFacts:
    """What of a pod can become part of its identity; the operator reads the same."""
    pod = _POD.decode(raw)
    return PodFacts(
        namespace=pod.metadata.namespace,
        service_account=pod.spec.service_account_name,
        labels=tuple(sorted((pod.metadata.labels or {}).items())),
        ports=named_ports(pod.spec.containers),
    )
