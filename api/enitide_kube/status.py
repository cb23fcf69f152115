"""What a `Status` of the API server means: one table from HTTP status and reason to the leaves of `KubeError`.

Both the HTTP client and the lab's API store judge by it, so that a program meets the same error on either. It never
looks at the message, which the API server words as it likes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from enitide_api.errors import (
    KubeConflict,
    KubeError,
    KubeExists,
    KubeForbidden,
    KubeGone,
    KubeInvalid,
    KubeNotFound,
    KubeThrottled,
    KubeUnavailable,
)

DEFAULT_RETRY_AFTER_S = 1.0


class StatusCause(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One field that was refused: `reason` such as FieldValueInvalid, the sentence, and the field's path."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Which object, why, and when to come back (seconds)."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[StatusCause] | None = None
    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """The API server's own error object, `kind: Status` of `v1`."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None

    def to_json(self) -> dict[str, Any]:
        """The object as it stands on the wire."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            body["details"] = msgspec.to_builtins(self.details)
        return body


_LEAVES: dict[int, type[KubeError]] = {
    400: KubeInvalid,
    401: KubeForbidden,
    403: KubeForbidden,
    404: KubeNotFound,
    409: KubeConflict,
    410: KubeGone,
}


def error_of(status: Status, what: str, *, is_json_patch: bool = False) -> KubeError:
    """The leaf for what the server answered to `what` (verb and object, for the sentence).

    A JSON patch whose `test` failed is answered 422 like an object that breaks its schema, but without causes: it is
    a lost race, so it is `KubeConflict`. (An invalid object always comes with its causes.)
    """
    message = f"{what}: {status.message or status.reason or status.code}"
    code = status.code
    if code == 429:
        after = status.details.retry_after_seconds if status.details else 0
        return KubeThrottled(message, status=code, retry_after_s=float(after or DEFAULT_RETRY_AFTER_S))
    if code == 409 and status.reason == "AlreadyExists":
        return KubeExists(message, status=code)
    if code == 422 and is_json_patch and not (status.details and status.details.causes):
        return KubeConflict(message, status=code)
    leaf = _LEAVES.get(code) or (KubeUnavailable if code >= 500 else KubeInvalid)
    return leaf(message, status=code)
