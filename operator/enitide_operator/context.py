"""What every node's actor shares: the ways out, the common facts, the settings, the clock. Made once per term."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from enitide_api.settings import OperatorSettings
from enitide_ipam.model import PlanSettings
from enitide_kube.events import EventRecorder
from enitide_kube.objects import Node
from enitide_kube.port import KubePort
from enitide_operator.book import Book
from enitide_operator.claims import Claims
from enitide_operator.classes import ClassBook
from enitide_operator.discovery import Discovery
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.merge import InterfaceReader
from enitide_operator.elastic import ElasticBook
from enitide_operator.mapping import MapReader
from enitide_operator.metrics import Metrics
from enitide_operator.pods import BoundPods
from enitide_operator.tasks import Tasks
from enitide_operator.term import Term
from enitide_operator.world import World

FIELD_MANAGER = "enitide-operator"


@dataclass(frozen=True, slots=True)
class Context:
    """`now`: Unix seconds that never jump back (for stamps and ages). `nodes`: by name, from the Node reflector.

    `actors` run the nodes' decisions and may be cancelled at any await; `tasks` run calls, which end by themselves.
    """

    kube: KubePort
    gateway: Gateway
    reader: InterfaceReader
    discovery: Discovery
    maps: MapReader
    elastic: ElasticBook
    world: World
    book: Book
    classes: ClassBook
    pods: BoundPods
    nodes: Mapping[str, Node]
    node_count: Callable[[], int]
    events: EventRecorder
    metrics: Metrics
    actors: Tasks
    tasks: Tasks
    term: Term
    settings: OperatorSettings
    plan_settings: PlanSettings
    now: Callable[[], float]
    rng: Random
    began_at: float
    claims: Claims

    def labels(self, node: str) -> Mapping[str, str]:
        """Labels of the Node, by which classes select; none while there is no such Node."""
        found = self.nodes.get(node)
        return (found.metadata.labels or {}) if found is not None else {}

    def report_interval_s(self) -> float:
        """Base times ln(1 + nodes), the number rounded up to a power of two: one more node rewrites no status."""
        count = max(1, self.node_count())
        rounded = 1 << (count - 1).bit_length()
        return round(self.settings.report_interval * max(1.0, math.log1p(rounded)))
