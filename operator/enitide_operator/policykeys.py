"""Namespaces, policies and Services as the operator keeps them: what identities depend on, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from enitide_kube.objects import Meta, Slim
from enitide_kube.port import SERVICE, Kind
from enitide_policy.labels import Relevance
from enitide_policy.manifests import read
from enitide_policy.model import ServicePeer
from enitide_policy.parse import parse
from enitide_policy.problems import Problem
from enitide_policy.relevance import relevance_of
from enitide_policy.servicekeys import services_named
from enitide_policy.world import Service


class SlimNamespace(Slim, frozen=True, kw_only=True):
    """A namespace's name and labels."""

    metadata: Meta = Meta()


@dataclass(frozen=True, slots=True)
class PolicyKeys:
    """A policy as the operator keeps it: what it makes relevant, what is wrong with it, which Services it names."""

    metadata: Meta
    relevance: Relevance
    problems: tuple[Problem, ...]
    services: tuple[ServicePeer, ...]


def policy_decoder(kind: Kind) -> Callable[[bytes], PolicyKeys]:
    """A reader of policies of one kind; a list's items do not say their kind themselves."""

    def read(raw: bytes) -> PolicyKeys:
        obj: dict[str, Any] = msgspec.json.decode(raw)
        obj.setdefault("kind", kind.kind)
        obj.setdefault("apiVersion", kind.api_version)
        meta = msgspec.json.decode(raw, type=SlimNamespace).metadata
        slim = Meta(name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version)
        parsed = parse(obj)
        relevance = relevance_of([obj.get("spec"), obj.get("specs")])
        return PolicyKeys(slim, relevance, parsed.problems, services_named(parsed.policies))

    return read


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """A Service, as far as a policy may name it."""

    metadata: Meta
    service: Service | None


def decode_service(raw: bytes) -> ServiceFact:
    """A Service's bytes; agents read the same of it."""
    obj: dict[str, Any] = msgspec.json.decode(raw)
    obj |= {"kind": SERVICE.kind, "apiVersion": SERVICE.api_version}
    meta = msgspec.json.decode(raw, type=SlimNamespace).metadata
    slim = Meta(name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version)
    return ServiceFact(slim, next(iter(read([obj]).world.services.values()), None))
