"""What is wrong with an object, said so that its author can mend it."""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.reasons import Reason


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """Which object. `namespace` is empty for kinds of the whole cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `field` is a path such as `spec.ingress[0].ports[1].port`; `message` says what to write instead."""

    ref: ObjectRef
    field: str
    reason: Reason
    message: str

    def row(self) -> dict[str, str]:
        """As the command line prints it."""
        return {"object": str(self.ref), "field": self.field, "reason": str(self.reason), "message": self.message}
