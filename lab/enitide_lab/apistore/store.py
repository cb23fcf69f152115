"""The store: the API server's conventions over objects in memory.

Synchronous and single-threaded; clock, uids and random names come from outside, so the same calls give the same
objects. Every operation either returns what a client is to see or raises a `Refusal`; nothing is changed by a refused
one. It knows no users and no rights: the real control plane, which the same tests run on, does.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

from enitide_kube.port import CRD, EVENT, NAMESPACE, POD, Kind
from enitide_lab.apistore import crd, lifecycle, refusal, selectors
from enitide_lab.apistore.builtin import builtin_types
from enitide_lab.apistore.catalog import Catalog, key_at
from enitide_lab.apistore.deletion import Deletion, stamp
from enitide_lab.apistore.faults import Faults
from enitide_lab.apistore.garbage import Owners
from enitide_lab.apistore.lifecycle import Request
from enitide_lab.apistore.pages import Listed, Pages
from enitide_lab.apistore.table import Change, Stored, Watcher, reversioned
from enitide_lab.apistore.types import ResourceType

RING = 4096
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # those of the API server: no vowels, so no words


def _wall() -> datetime:
    return datetime.now(UTC)


def _uid() -> str:
    return str(uuid.uuid4())


class Store:
    """`clock` gives UTC now for timestamps, `monotonic` seconds for the age of list snapshots, `ring` the history."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = _wall,
        monotonic: Callable[[], float] = time.monotonic,
        uid_source: Callable[[], str] = _uid,
        rng: Random | None = None,
        ring: int = RING,
    ) -> None:
        self.faults = Faults()
        self.requests: Counter[tuple[str, str, str, str]] = Counter()  # client, verb, kind, outcome (ok or the code)
        self.largest_reply = 0  # most items in one reply to a list
        self._clock = clock
        self._monotonic = monotonic
        self._uid = uid_source
        self._rng = rng or Random()  # noqa: S311  names, not secrets
        self._rv = 100  # so that there are versions too old for anyone, as on any cluster
        self.catalog = Catalog(ring)
        self._pages = Pages()
        self.owners = Owners()
        self._deletion = Deletion(self)
        for rtype in (*builtin_types(), crd.CRD_TYPE):
            self.catalog.register(rtype, self._rv)
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.create(self.type_of(NAMESPACE), "", {"metadata": {"name": name}})

    # --- types ---------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The present resource version."""
        return self._rv

    def type_of(self, kind: Kind) -> ResourceType:
        """The served type of a kind; the 404 of an unknown path otherwise."""
        return self.catalog.type_at(kind.group, kind.version, kind.plural)

    # --- reads ---------------------------------------------------------------------------------------------------

    def get(self, rtype: ResourceType, namespace: str, name: str) -> Stored:
        """The object, or 404."""
        stored = self.catalog.table(rtype).objects.get(key_at(namespace, name))
        if stored is None:
            raise refusal.not_found(rtype.kind, name)
        return stored

    def selector(self, rtype: ResourceType, namespace: str, labels: str, fields: str) -> selectors.Selector:
        """A parsed selector for this type; 400 for one that cannot be read or a field that is not served."""
        return selectors.parse(namespace, labels, fields, rtype.fields)

    def list(
        self,
        rtype: ResourceType,
        selector: selectors.Selector,
        *,
        limit: int = 0,
        token: str = "",
        resource_version: str = "",
        match: str = "",
    ) -> Listed:
        """One page of the present state, or of the token's snapshot."""
        if token:
            if resource_version not in ("", "0"):
                raise refusal.bad_request("specifying resource version is not allowed when using continue")
            page = self._pages.following(token, limit=limit, now_s=self._monotonic())
        else:
            wanted = self.parse_version(resource_version)
            if match == "Exact" and wanted != self._rv:
                raise refusal.gone(f"the resource version {wanted} is no longer kept, the present one is {self._rv}")
            countable = not (selector.labels or selector.fields)
            items = self.catalog.table(rtype).select(selector)
            page = self._pages.first(items, rv=self._rv, limit=limit, now_s=self._monotonic(), countable=countable)
        self.largest_reply = max(self.largest_reply, len(page.items))
        return page

    def parse_version(self, text: str) -> int:
        """A resource version from a query, 0 for none. 400 for no number, 504 for one from the future."""
        if not text:
            return 0
        if not text.isdecimal():
            raise refusal.bad_request(f'invalid resource version "{text}"')
        if int(text) > self._rv:
            raise refusal.timeout_too_new(int(text), self._rv)
        return int(text)

    def watch(self, watcher: Watcher, since: int, *, initial: bool = False) -> None:
        """Begins a watch after version `since`. With `initial` the present objects come first, as ADDED."""
        table = self.catalog.table(watcher.rtype)
        if initial:
            for stored in table.select(watcher.selector):
                watcher.on_event("ADDED", stored)
            since = self._rv
        table.watch(watcher, since)

    def unwatch(self, watcher: Watcher) -> None:
        """Ends a watch from the client's side. Its type may have gone meanwhile."""
        table = self.catalog.tables.get(watcher.rtype.table)
        if table is not None:
            table.unwatch(watcher)

    # --- writes --------------------------------------------------------------------------------------------------

    def create(
        self,
        rtype: ResourceType,
        namespace: str,
        body: dict[str, Any],
        request: Request | None = None,
        *,
        dry_run: bool = False,
    ) -> Stored:
        """The new object. 409 if its name is taken, 404 if its namespace is not there."""
        request = request or Request()
        body = rtype.stored(body) if rtype.view else body
        metadata = body.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise refusal.bad_request("metadata must be an object")
        system = self._system_fields(rtype, namespace, metadata)
        new = lifecycle.created(rtype, self._canonical(rtype, body), system, request)
        if rtype.kind == POD:
            new["status"] = {"phase": "Pending"}
        elif rtype.kind == NAMESPACE:
            new |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
            new["metadata"]["labels"] = {"kubernetes.io/metadata.name": system["name"], **metadata.get("labels", {})}
        key = key_at(namespace, system["name"])
        if key in self.catalog.table(rtype).objects:
            raise refusal.exists(rtype.kind, system["name"])
        return self.commit(rtype, key, None, new, dry_run=dry_run)

    def _system_fields(self, rtype: ResourceType, namespace: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        name = metadata.get("name") or ""
        if not name:
            prefix = metadata.get("generateName") or ""
            if not prefix:
                raise refusal.bad_request("name or generateName is required")
            name = self._generated(rtype, namespace, prefix)
        given = metadata.get("namespace")
        if given and given != namespace:
            raise refusal.bad_request(f"the namespace of the object ({given}) does not match the request ({namespace})")
        system = {"name": name, "uid": self._uid(), "creationTimestamp": stamp(self._clock())}
        if rtype.kind.namespaced:
            home = self.catalog.namespaces.objects.get(namespace)
            if home is None:
                raise refusal.not_found(NAMESPACE, namespace)
            if home.obj["metadata"].get("deletionTimestamp"):
                raise refusal.forbidden(rtype.kind, name, f"namespace {namespace} is being terminated")
            system["namespace"] = namespace
        return system

    def _generated(self, rtype: ResourceType, namespace: str, prefix: str) -> str:
        for _ in range(8):
            name = prefix[:58] + "".join(self._rng.choices(_NAME_LETTERS, k=5))
            if key_at(namespace, name) not in self.catalog.table(rtype).objects:
                return name
        raise refusal.exists(rtype.kind, prefix)

    def update(
        self,
        rtype: ResourceType,
        namespace: str,
        name: str,
        body: dict[str, Any],
        request: Request | None = None,
        *,
        dry_run: bool = False,
    ) -> Stored:
        """Replaces the object (or its status, for that subresource)."""
        old = self.get(rtype, namespace, name)
        return self._replace(rtype, old, rtype.stored(body) if rtype.view else body, request or Request(), dry_run)

    def patch(
        self,
        rtype: ResourceType,
        namespace: str,
        name: str,
        apply: Callable[[Any], Any],
        request: Request,
        *,
        dry_run: bool = False,
    ) -> Stored:
        """The object as `apply` (one of `patches`, bound to its patch) makes it."""
        old = self.get(rtype, namespace, name)
        request.patched = True
        new = apply(rtype.shown(old.obj) if rtype.view else old.obj)
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise refusal.bad_request("the patch leaves no object with metadata")
        return self._replace(rtype, old, rtype.stored(new) if rtype.view else new, request, dry_run)

    def _replace(
        self, rtype: ResourceType, old: Stored, body: dict[str, Any], request: Request, dry_run: bool
    ) -> Stored:
        if request.subresource == "status" and not rtype.has_status:
            raise refusal.no_such_path()
        new = lifecycle.updated(rtype, old.obj, self._canonical(rtype, body), request)
        if new is old.obj:
            return old
        metadata = new["metadata"]
        ended = not metadata.get("finalizers") and not metadata.get("deletionGracePeriodSeconds")
        if metadata.get("deletionTimestamp") and ended and not self._deletion.namespace_in_use(rtype, old):
            return self._deletion.remove(rtype, old, dry_run=dry_run)
        return self.commit(rtype, old.key, old, new, dry_run=dry_run)

    def _canonical(self, rtype: ResourceType, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the stored kind's type, and definitions with their status."""
        if rtype.table == (EVENT.group, EVENT.plural):
            body = {**body, "apiVersion": EVENT.api_version, "kind": EVENT.kind}
        return {"apiVersion": rtype.kind.api_version, "kind": rtype.kind.kind, **body}

    def bind(self, namespace: str, name: str, binding: Mapping[str, Any]) -> None:
        """A pod's binding to a node. 409 if it has one."""
        rtype = self.type_of(POD)
        old = self.get(rtype, namespace, name)
        node = (binding.get("target") or {}).get("name")
        if not node:
            raise refusal.bad_request("a Binding needs target.name, the node")
        if old.obj["spec"].get("nodeName"):
            raise refusal.conflict(POD, name, f'pod {name} is already assigned to node "{old.obj["spec"]["nodeName"]}"')
        status = old.obj.get("status") or {}
        others = [c for c in status.get("conditions", ()) if c.get("type") != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(self._clock())}
        spec = {**old.obj["spec"], "nodeName": node}
        self.commit(
            rtype, old.key, old, {**old.obj, "spec": spec, "status": {**status, "conditions": [*others, scheduled]}}
        )

    # --- commit --------------------------------------------------------------------------------------------------

    def delete(
        self, rtype: ResourceType, namespace: str, name: str, options: Mapping[str, Any] | None = None
    ) -> Stored:
        """The object as it was, or as it now waits for its finalizers, its pod's end, or its namespace's contents."""
        return self._deletion.delete(rtype, self.get(rtype, namespace, name), options or {})

    def commit(
        self, rtype: ResourceType, key: str, old: Stored | None, new: dict[str, Any], *, dry_run: bool = False
    ) -> Stored:
        """Stores `new` in place of `old` as the next version and tells the watchers. It has been judged before."""
        served = None
        if rtype.kind == CRD:
            served = crd.resource_type(new)
            new = crd.established(new, stamp(self._clock()))
        stored = reversioned(Stored(new, 0, key), self._rv + 1)
        if dry_run:
            return stored if old is None else reversioned(stored, old.rv)
        self.next_version()
        if served is not None:
            self.catalog.register(served, self._rv)
        if old is not None:
            self.owners.gone(old)
        self.owners.born(rtype.table, stored)
        self.catalog.table(rtype).apply(Change(self._rv, old, stored))
        return stored

    def next_version(self) -> int:
        """The version of the change that is being made."""
        self._rv += 1
        return self._rv

    def now(self) -> datetime:
        """UTC now, of the injected clock."""
        return self._clock()

    # --- on command ----------------------------------------------------------------------------------------------

    def compact(self, kind: str = "*") -> None:
        """Forgets history and list snapshots: older versions and continue tokens answer 410 from now on."""
        self._pages.forget()
        for table in self.catalog.tables_of(kind):
            table.compact(self._rv)

    def drop_watches(self, kind: str = "*") -> int:
        """Ends the watches of a kind (by its name, `*` for all) without a word. Returns how many."""
        return sum(table.end_watches(None) for table in self.catalog.tables_of(kind))

    def expire_watches(self, kind: str = "*") -> int:
        """Compacts, and ends the watches of a kind with 410 inside the stream. Returns how many."""
        self.compact(kind)
        status = refusal.gone(f"too old resource version, the present one is {self._rv}").status
        return sum(table.end_watches(status) for table in self.catalog.tables_of(kind))
