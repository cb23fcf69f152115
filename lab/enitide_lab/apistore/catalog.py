"""Which resource types are served, and the table of objects behind each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enitide_lab.apistore.refusal import no_such_path
from enitide_lab.apistore.table import Table

if TYPE_CHECKING:
    from enitide_lab.apistore.types import ResourceType


class Catalog:
    """Types by group, version and plural; tables by storage group and plural (two versions may show one table)."""

    def __init__(self, ring: int) -> None:
        self.tables: dict[tuple[str, str], Table] = {}
        self._types: dict[tuple[str, str, str], ResourceType] = {}
        self._ring = ring

    @property
    def types(self) -> tuple[ResourceType, ...]:
        """Every served type."""
        return tuple(self._types.values())

    @property
    def namespaces(self) -> Table:
        """The namespaces."""
        return self.tables["", "namespaces"]

    def type_at(self, group: str, version: str, plural: str) -> ResourceType:
        """The served type at a path; the 404 of an unknown path otherwise."""
        rtype = self._types.get((group, version, plural))
        if rtype is None:
            raise no_such_path()
        return rtype

    def type_of_table(self, table: tuple[str, str]) -> ResourceType:
        """The type in whose form the table's objects are stored."""
        return next(rtype for rtype in self._types.values() if rtype.table == table and not rtype.view)

    def table(self, rtype: ResourceType) -> Table:
        """Where its objects lie."""
        return self.tables[rtype.table]

    def register(self, rtype: ResourceType, version: int) -> None:
        """It is served from now on, or in this new form. A new table's history begins at `version`."""
        kind = rtype.kind
        for old in [t for t in self._types.values() if t.table == rtype.table and t.kind != kind and not t.view]:
            if not rtype.view:
                del self._types[old.kind.group, old.kind.version, old.kind.plural]
        self._types[kind.group, kind.version, kind.plural] = rtype
        if rtype.table not in self.tables:
            table = self.tables[rtype.table] = Table(self._ring, namespaced=kind.namespaced)
            table.floor = version  # as a real API server's watch cache, it knows nothing older than itself

    def unregister(self, rtype: ResourceType) -> None:
        """It is served no more; its watches end."""
        kind = rtype.kind
        del self._types[kind.group, kind.version, kind.plural]
        self.tables.pop(rtype.table).end_watches(None)

    def tables_of(self, kind: str) -> list[Table]:
        """The tables of a kind by its name, `*` for all. `ValueError` if no such kind is served."""
        names = {rtype.table for rtype in self._types.values() if kind in ("*", rtype.kind.kind)}
        if not names:
            raise ValueError(f"no kind {kind!r} is served")
        return [self.tables[name] for name in sorted(names)]


def key_at(namespace: str, name: str) -> str:
    """`namespace/name`, or `name` where there is no namespace."""
    return f"{namespace}/{name}" if namespace else name
