"""How objects go: preconditions, finalizers, a pod's grace period, a namespace's contents, owned objects.

A deletion either removes the object or marks it and lets it stand until what holds it has let go. A pod on a node stays
until its kubelet deletes it with a grace period of 0, so a pod's network is torn down before its object goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from enitide_kube.port import CRD, NAMESPACE, POD
from enitide_lab.apistore import crd, refusal, selectors
from enitide_lab.apistore.table import Change, Stored

if TYPE_CHECKING:
    from enitide_lab.apistore.store import Store
    from enitide_lab.apistore.types import ResourceType

TERMINAL = ("Succeeded", "Failed")


def stamp(moment: datetime) -> str:
    """A time as `metadata` writes it: RFC 3339, whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Deletion:
    """Deletes for one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def delete(self, rtype: ResourceType, old: Stored, options: Mapping[str, Any]) -> Stored:
        """The object as it was, or as it now waits."""
        metadata = old.obj["metadata"]
        self._check_preconditions(rtype, metadata, options.get("preconditions") or {})
        if "All" in (options.get("dryRun") or ()):
            return old
        if rtype.kind == NAMESPACE and not metadata.get("deletionTimestamp"):
            old = self._mark(rtype, old, 0)
            self._empty_namespace(metadata["name"])
            return self._store.catalog.namespaces.objects.get(old.key) or old
        if self.namespace_in_use(rtype, old):
            return old
        grace_s = self._grace_s(rtype, old, options.get("gracePeriodSeconds"))
        if not grace_s and not metadata.get("finalizers"):
            return self.remove(rtype, old)
        marked = metadata.get("deletionTimestamp")
        if marked and grace_s >= metadata.get("deletionGracePeriodSeconds", 0):
            return old
        return self._mark(rtype, old, grace_s)

    def _check_preconditions(
        self, rtype: ResourceType, metadata: Mapping[str, Any], preconditions: Mapping[str, Any]
    ) -> None:
        for key, have in (("uid", metadata["uid"]), ("resourceVersion", metadata["resourceVersion"])):
            wanted = preconditions.get(key)
            if wanted and wanted != have:
                why = f"the {key} in the precondition ({wanted}) does not match the one in the record ({have})"
                raise refusal.conflict(rtype.kind, metadata["name"], why)

    def _grace_s(self, rtype: ResourceType, old: Stored, asked: int | None) -> int:
        spec, status = old.obj.get("spec") or {}, old.obj.get("status") or {}
        if rtype.kind != POD or not spec.get("nodeName") or status.get("phase") in TERMINAL:
            return 0
        return int(spec.get("terminationGracePeriodSeconds", 30)) if asked is None else max(0, asked)

    def _mark(self, rtype: ResourceType, old: Stored, grace_s: int) -> Stored:
        metadata = {
            **old.obj["metadata"],
            "deletionTimestamp": stamp(self._store.now() + timedelta(seconds=grace_s)),
            "deletionGracePeriodSeconds": grace_s,
        }
        if rtype.counts_generation:
            metadata["generation"] = metadata.get("generation", 0) + 1
        new = {**old.obj, "metadata": metadata}
        if rtype.kind == NAMESPACE:
            new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
        return self._store.commit(rtype, old.key, old, new)

    def remove(self, rtype: ResourceType, old: Stored, *, dry_run: bool = False) -> Stored:
        if dry_run:
            return old
        change = Change(self._store.next_version(), old, None)
        self._store.owners.gone(old)
        self._store.catalog.table(rtype).apply(change)
        if rtype.kind == CRD:
            self._unserve(old)
        for table, key in self._store.owners.orphans_of(old):
            self._delete_at(table, key)
        self._end_empty_namespace(old)
        return change.departed()

    def _delete_at(self, table: tuple[str, str], key: str) -> None:
        stored = self._store.catalog.tables[table].objects.get(key)
        if stored is not None:
            self.delete(self._store.catalog.type_of_table(table), stored, {})

    def _empty_namespace(self, name: str) -> None:
        for table, key in self._contents(name):
            self._delete_at(table, key)
        namespace = self._store.catalog.namespaces.objects.get(name)
        if namespace is not None and not any(self._contents(name)):
            self.remove(self._store.type_of(NAMESPACE), namespace)

    def _contents(self, namespace: str) -> Iterator[tuple[tuple[str, str], str]]:
        selector = selectors.Selector(namespace)
        for name, table in tuple(self._store.catalog.tables.items()):
            if table.namespaced:
                yield from [(name, stored.key) for stored in table.select(selector)]

    def namespace_in_use(self, rtype: ResourceType, old: Stored) -> bool:
        return rtype.kind == NAMESPACE and any(self._contents(old.key))

    def _end_empty_namespace(self, gone: Stored) -> None:
        home = self._store.catalog.namespaces.objects.get(gone.obj["metadata"].get("namespace", ""))
        if home is not None and home.obj["metadata"].get("deletionTimestamp") and not any(self._contents(home.key)):
            self.remove(self._store.type_of(NAMESPACE), home)

    def _unserve(self, definition: Stored) -> None:
        """A deleted definition takes its objects with it."""
        rtype = crd.resource_type(definition.obj)
        for stored in tuple(self._store.catalog.table(rtype).objects.values()):
            self.remove(rtype, stored)
        self._store.catalog.unregister(rtype)
