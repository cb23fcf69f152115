"""What the API server does to an object on its way in: identity, system fields, schema, generation. Pure.

Everything that the server alone may set (uid, times, generation, versions) is taken from the old object or given by
the caller, never from the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from enitide_kube.port import NODE, POD
from enitide_kube.status import StatusCause
from enitide_lab.apistore.refusal import bad_request, conflict, internal, invalid, stale
from enitide_lab.apistore.schema import MISSING
from enitide_lab.apistore.selectors import LABEL_KEY, LABEL_VALUE
from enitide_lab.apistore.types import META_SCHEMA

if TYPE_CHECKING:
    from enitide_lab.apistore.types import ResourceType

Validation = Literal["Strict", "Warn", "Ignore"]
_SYSTEM = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)


@dataclass(slots=True)
class Request:
    """How the object came: `patched` words strictness as the API server does for patches; `warnings` is an answer."""

    validation: Validation = "Ignore"
    patched: bool = False
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)


def created(rtype: ResourceType, body: dict[str, Any], system: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """The object to store. `system` is what the server sets: name, namespace, uid, creationTimestamp."""
    metadata = body.get("metadata") or {}
    if metadata.get("resourceVersion"):
        raise internal("resourceVersion should not be set on objects to be created")
    _check_type(rtype, body)
    name = system["name"]
    kept = {key: value for key, value in metadata.items() if key not in _SYSTEM and key != "resourceVersion"}
    new = {**body, "metadata": {**kept, **system}}
    if rtype.has_status and not rtype.keeps_status_on_create:
        new.pop("status", None)
    if rtype.counts_generation:
        new["metadata"]["generation"] = 1
    new = _normalized(rtype, new, None, request)
    causes: list[StatusCause] = []
    if len(name) > 253 or not _SUBDOMAIN.match(name):
        causes.append(StatusCause("FieldValueInvalid", f'Invalid value: "{name}": {_SUBDOMAIN_RULE}', "metadata.name"))
    _validate(rtype, new, None, causes)
    return new


def updated(rtype: ResourceType, old: dict[str, Any], new: dict[str, Any], request: Request) -> dict[str, Any]:
    """The object to store in place of `old`; `old` itself if nothing changes."""
    before, asked = old["metadata"], new.get("metadata") or {}
    name = before["name"]
    _check_type(rtype, new)
    _check_identity(rtype, before, asked, request)
    system = {key: before[key] for key in (*_SYSTEM, "name", "namespace", "resourceVersion") if key in before}
    dropped = (*_SYSTEM, "resourceVersion", "managedFields", "generateName")
    metadata = {key: value for key, value in asked.items() if key not in dropped}
    if "generateName" in before:
        system["generateName"] = before["generateName"]
    new = {**new, "metadata": {**metadata, **system}}
    if request.subresource == "status":
        new = _with_status({**old}, new)
    elif rtype.has_status:
        new = _with_status(new, old)
    new = _normalized(rtype, new, old, request)
    if before.get("deletionTimestamp"):
        added = set(new["metadata"].get("finalizers", ())) - set(before.get("finalizers", ()))
        if added:
            raise _one(rtype, name, "metadata.finalizers", f"no new finalizers can be added: {sorted(added)}")
    causes: list[StatusCause] = []
    _check_immutable(rtype, old, new, causes)
    _validate(rtype, new, old, causes)
    if new == old:
        return old
    if rtype.counts_generation and _spec(new) != _spec(old):
        new["metadata"]["generation"] = before.get("generation", 0) + 1
    return new


def _spec(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _with_status(obj: dict[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    obj.pop("status", None)
    if source.get("status") is not None:
        obj["status"] = source["status"]
    return obj


def _check_type(rtype: ResourceType, body: Mapping[str, Any]) -> None:
    for key, wanted in (("apiVersion", rtype.kind.api_version), ("kind", rtype.kind.kind)):
        given = body.get(key, wanted)
        if given != wanted and not (rtype.view or rtype.storage_group):
            raise bad_request(f"the {key} in the data ({given}) does not match the expected one ({wanted})")


def _check_identity(rtype: ResourceType, before: Mapping[str, Any], asked: Mapping[str, Any], request: Request) -> None:
    name = before["name"]
    for key in ("name", "namespace"):
        if asked.get(key) and asked[key] != before.get(key):
            raise bad_request(
                f"the {key} of the object ({asked[key]}) does not match the one on the URL ({before.get(key)})"
            )
    version = asked.get("resourceVersion")
    if version and version != before["resourceVersion"]:
        raise stale(rtype.kind, name)
    if asked.get("uid") and asked["uid"] != before["uid"]:
        if request.patched:
            sentence = f'Invalid value: "{asked["uid"]}": field is immutable'
            raise invalid(rtype.kind, name, [StatusCause("FieldValueInvalid", sentence, "metadata.uid")])
        why = f"Precondition failed: UID in precondition: {asked['uid']}, UID in object meta: {before['uid']}"
        raise conflict(rtype.kind, name, why)


def _normalized(
    rtype: ResourceType, new: dict[str, Any], old: dict[str, Any] | None, request: Request
) -> dict[str, Any]:
    unknown: list[str] = []
    new = rtype.schema.normalize(new, MISSING if old is None else old, "", unknown)
    before = MISSING if old is None else old["metadata"]
    metadata = META_SCHEMA.normalize(new["metadata"], before, "metadata", unknown)
    # null and empty are absent, as on a real API server
    metadata = {key: value for key, value in metadata.items() if value is not None and value not in ({}, [])}
    metadata.pop("managedFields", None)
    if unknown and request.validation != "Ignore":
        fields = [f'unknown field "{path}"' for path in unknown]
        if request.validation == "Strict":
            raise _strict(rtype, metadata["name"], fields, patched=request.patched)
        request.warnings.extend(fields)
    return {**new, "metadata": metadata}


def _strict(rtype: ResourceType, name: str, fields: list[str], *, patched: bool) -> Exception:
    sentence = f"strict decoding error: {', '.join(fields)}"
    if patched:
        return invalid(rtype.kind, name, [StatusCause("FieldValueInvalid", f"Invalid value: {sentence}", "patch")])
    kind = rtype.kind
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {sentence}')


def _validate(rtype: ResourceType, new: dict[str, Any], old: dict[str, Any] | None, causes: list[StatusCause]) -> None:
    before = MISSING if old is None else old["metadata"]
    META_SCHEMA.validate(new["metadata"], before, "metadata", causes)
    if not causes and (old is None or new["metadata"].get("labels") != old["metadata"].get("labels")):
        causes.extend(_wrong_labels(new["metadata"].get("labels", {})))
    rtype.schema.validate(new, MISSING if old is None else old, "", causes)
    if causes:
        raise invalid(rtype.kind, new["metadata"]["name"], causes)


def _wrong_labels(labels: Mapping[str, str]) -> Iterable[StatusCause]:
    for key, value in labels.items():
        for text, pattern, what in ((key, LABEL_KEY, "key"), (value, LABEL_VALUE, "value")):
            if not pattern.match(text):
                sentence = f'Invalid value: "{text}": is no label {what}: at most 63 of A-Z, a-z, 0-9, -, _ and .'
                yield StatusCause("FieldValueInvalid", sentence, "metadata.labels")


def _check_immutable(
    rtype: ResourceType, old: Mapping[str, Any], new: Mapping[str, Any], causes: list[StatusCause]
) -> None:
    """The two immutable fields that our programs could get wrong: a pod's node, an instance's id once it is set."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if rtype.kind == POD and before.get("nodeName") != after.get("nodeName"):
        sentence = "Forbidden: pod updates may not change fields other than images, tolerations and the deadline"
        causes.append(StatusCause("FieldValueForbidden", sentence, "spec"))
    if rtype.kind == NODE and before.get("providerID") and before["providerID"] != after.get("providerID"):
        sentence = "Forbidden: node updates may not change providerID except from empty to valid"
        causes.append(StatusCause("FieldValueForbidden", sentence, "spec.providerID"))


def _one(rtype: ResourceType, name: str, path: str, sentence: str) -> Exception:
    return invalid(rtype.kind, name, [StatusCause("FieldValueForbidden", f"Forbidden: {sentence}", path)])
