"""Which ENIClass governs a node: of those whose selector fits the one of highest weight, else `default`.

A class that contradicts itself is never used: nodes keep its last sound version, and the class says why in a condition.
Without an object named `default` the built-in defaults are that class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from enitide_api.durations import seconds
from enitide_api.resources import (
    DEFAULT_CLASS,
    ENIClass,
    ENIClassSpec,
    LabelRequirement,
    LabelSelector,
)


@dataclass(frozen=True, slots=True)
class Governing:
    """The class of one node. `problem`: a sentence where it must not be used (there is no sound version of it)."""

    name: str
    generation: int
    spec: ENIClassSpec
    problem: str = ""


BUILT_IN = Governing(DEFAULT_CLASS, 0, ENIClassSpec())


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Kubernetes' label selector, but an empty one selects nothing."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    return all(_holds(requirement, labels) for requirement in selector.match_expressions)


def _holds(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    present = requirement.key in labels
    value = labels.get(requirement.key)
    if requirement.operator == "In":
        return present and value in requirement.values
    if requirement.operator == "NotIn":
        return not present or value not in requirement.values
    return present if requirement.operator == "Exists" else not present


def problem_of(spec: ENIClassSpec) -> str:
    """What contradicts itself, as a sentence with what to write instead; '' for a sound class.

    The CRD's own rules refuse all of this at the server; they may be missing or older than this program.
    """
    for requirement in spec.node_selector.match_expressions:
        if requirement.operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            return f"nodeSelector operator {requirement.operator!r}: write In, NotIn, Exists or DoesNotExist"
    for name, text in (
        ("cooldown", spec.cooldown),
        ("release.delay", spec.release.delay),
        ("release.idleInterfaceDelay", spec.release.idle_interface_delay),
    ):
        try:
            seconds(text)
        except ValueError as error:
            return f"{name}: {error}"
    pool = spec.pool
    if min(pool.pre_allocate, pool.min_allocate, pool.max_above_watermark, pool.max_allocate or 0) < 0:
        return "pool: levels cannot be negative: write 0 or more"
    if pool.max_allocate is not None and pool.min_allocate > pool.max_allocate:
        return f"pool.minAllocate {pool.min_allocate} is above maxAllocate {pool.max_allocate}: lower it"
    for name, selector in (
        ("subnetSelector", spec.interfaces.subnet_selector),
        ("securityGroupSelector", spec.interfaces.security_group_selector),
    ):
        if selector.ids and selector.tags:
            return f"interfaces.{name} has ids and tags: write one of them"
    return "" if spec.interfaces.cards else "interfaces.cards is empty: write [0]"


class ClassBook:
    """All classes, kept current by `on_change` (a reflector's callback)."""

    def __init__(self) -> None:
        self._classes: dict[str, Governing] = {}

    def on_change(self, name: str, _old: ENIClass | None, new: ENIClass | None) -> None:
        """A class came, changed or went."""
        if new is None:
            self._classes.pop(name, None)
            return
        problem = problem_of(new.spec)
        if not problem:
            self._classes[name] = Governing(name, new.metadata.generation, new.spec)
            return
        kept = self._classes.get(name)
        if kept is None or kept.problem:
            self._classes[name] = Governing(name, new.metadata.generation, new.spec, problem)

    def named(self, name: str) -> ENIClassSpec:
        """The class of that name as it is used; the built-in defaults where there is none."""
        return self._classes.get(name, BUILT_IN).spec

    def governing(self, labels: Mapping[str, str]) -> Governing:
        """The class of a node with these labels; of equal weights the first by name."""
        fitting = [each for each in self._classes.values() if matches(each.spec.node_selector, labels)]
        if fitting:
            return min(fitting, key=lambda each: (-each.spec.weight, each.name))
        return self._classes.get(DEFAULT_CLASS, BUILT_IN)
