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
from enitide_policy.parse import Rank, parse, ranks_of
from enitide_policy.problems import Problem
from enitide_policy.relevance import relevance_of
from enitide_policy.servicekeys import services_named
from enitide_policy.world import Service


class SlimNamespace(Slim, frozen=True, kw_only=True):
    """A namespace's name and labels."""

    metadata: Meta = Meta()


@dataclass(frozen=True, slots=True)
class PolicyKeys:
    """A policy as the operator keeps it: what it makes relevant, what is wrong with it, which Services it names.

    `conditions`: those in its status, whoever wrote them.
    """

    metadata: Meta
    relevance: Relevance
    problems: tuple[Problem, ...]
    services: tuple[ServicePeer, ...] = ()
    ranks: frozenset[Rank] = frozenset()
    conditions: tuple[dict[str, Any], ...] = ()


def policy_decoder(kind: Kind, *, host_policy: bool = False) -> Callable[[bytes], PolicyKeys]:
    """A reader of policies of one kind; a list's items do not say their kind themselves."""

    def read(raw: bytes) -> PolicyKeys:
        obj: dict[str, Any] = msgspec.json.decode(raw)
        obj.setdefault("kind", kind.kind)
        obj.setdefault("apiVersion", kind.api_version)
        parsed = parse(obj, host_policy=host_policy)
        return PolicyKeys(
            _slim(raw),
            relevance_of([obj.get("spec"), obj.get("specs")]),
            parsed.problems,
            services_named(parsed.policies),
            ranks_of(parsed.policies),
            conditions_in(obj.get("status")),
        )

    return read


def conditions_in(status: Any) -> tuple[dict[str, Any], ...]:
    """The conditions of a status as it was written."""
    listed = status.get("conditions") if isinstance(status, dict) else None
    return tuple(each for each in listed if isinstance(each, dict)) if isinstance(listed, list) else ()


def _slim(raw: bytes) -> Meta:
    meta = msgspec.json.decode(raw, type=SlimNamespace).metadata
    return Meta(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
        generation=meta.generation,
    )


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """A Service, as far as a policy may name it."""

    metadata: Meta
    service: Service | None


def decode_service(raw: bytes) -> ServiceFact:
    """A Service's bytes; agents read the same of it."""
    obj: dict[str, Any] = msgspec.json.decode(raw)
    obj |= {"kind": SERVICE.kind, "apiVersion": SERVICE.api_version}
    return ServiceFact(_slim(raw), next(iter(read([obj]).world.services.values()), None))
