"""What the store answers when it does not do as asked: the API server's own `Status`, with reason, code and causes.

Internal to the store and its two faces: the Python face turns it into a leaf of `KubeError` by the very table the HTTP
client uses, the HTTP face sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from enitide_kube.status import Status, StatusCause, StatusDetails

if TYPE_CHECKING:
    from enitide_kube.port import Kind


class Refusal(Exception):
    """Carries the `Status` to answer with."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


def _refusal(
    code: int, reason: str, message: str, *, about: tuple[Kind, str], causes: Sequence[StatusCause] | None = None
) -> Refusal:
    kind, name = about
    details = StatusDetails(
        name=name, group=kind.group, kind=kind.plural, causes=list(causes) if causes is not None else None
    )
    return Refusal(Status(code=code, reason=reason, message=message, details=details))


def qualified(kind: Kind) -> str:
    """`eninodes.enitide.io`, or `pods` for the core group, as the API server words it."""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def bad_request(message: str) -> Refusal:
    """400: the request itself makes no sense."""
    return Refusal(Status(code=400, reason="BadRequest", message=message))


def internal(message: str) -> Refusal:
    """500, which a real API server answers to some requests that make no sense, too."""
    return Refusal(Status(code=500, reason="InternalError", message=message))


def not_found(kind: Kind, name: str) -> Refusal:
    """404 for an object."""
    return _refusal(404, "NotFound", f'{qualified(kind)} "{name}" not found', about=(kind, name))


def no_such_path() -> Refusal:
    """404 for a path or a resource type nobody serves."""
    return Refusal(Status(code=404, reason="NotFound", message="the server could not find the requested resource"))


def exists(kind: Kind, name: str) -> Refusal:
    """409: the name is taken."""
    return _refusal(409, "AlreadyExists", f'{qualified(kind)} "{name}" already exists', about=(kind, name))


def conflict(kind: Kind, name: str, why: str) -> Refusal:
    """409: the object is not what the request believed."""
    message = f'Operation cannot be fulfilled on {qualified(kind)} "{name}": {why}'
    return _refusal(409, "Conflict", message, about=(kind, name))


def stale(kind: Kind, name: str) -> Refusal:
    """409: the resourceVersion in the request is not the present one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def invalid(kind: Kind, name: str, causes: Sequence[StatusCause]) -> Refusal:
    """422 with each field that breaks a rule."""
    sentences = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    text = sentences[0] if len(sentences) == 1 else "[" + ", ".join(sentences) + "]"
    shown = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return _refusal(422, "Invalid", f'{shown} "{name}" is invalid: {text}', about=(kind, name), causes=causes)


def unprocessable(message: str) -> Refusal:
    """422 without causes: a JSON patch that cannot be applied to the object as it is (a failed `test` is one)."""
    return Refusal(Status(code=422, reason="Invalid", message=message, details=StatusDetails()))


def forbidden(kind: Kind, name: str, why: str) -> Refusal:
    """403."""
    return _refusal(403, "Forbidden", f'{qualified(kind)} "{name}" is forbidden: {why}', about=(kind, name))


def gone(message: str) -> Refusal:
    """410: list again."""
    return Refusal(Status(code=410, reason="Expired", message=message))


def unsupported_media(message: str) -> Refusal:
    """415."""
    return Refusal(Status(code=415, reason="UnsupportedMediaType", message=message))


def not_allowed(kind: Kind, method: str) -> Refusal:
    """405: the resource is there, the verb is not."""
    message = f"{method} is not supported on resources of kind {kind.plural}"
    return _refusal(405, "MethodNotAllowed", message, about=(kind, ""))


def timeout_too_new(asked: int, current: int) -> Refusal:
    """504: a version from the future."""
    message = f"Too large resource version: {asked}, current: {current}"
    cause = StatusCause(reason="ResourceVersionTooLarge", message="Too large resource version")
    details = StatusDetails(retry_after_seconds=1, causes=[cause])
    return Refusal(Status(code=504, reason="Timeout", message=message, details=details))
