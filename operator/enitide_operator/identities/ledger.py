"""Which pods have which identity: the wanted state, kept by difference. No I/O, no clock of its own.

Pods of one template (equal labels, service account, ports) are one entry here: a Deployment of 5,000 pods is matched
once, and a relabelled namespace costs its templates, not its pods. A template that moves to another identity keeps the
one that it has (`serving`) until the API server holds the new one: new identities first, then endpoints, then the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from enitide_api.resources import SecurityIdentity
from enitide_ipam.stamps import unix
from enitide_operator.identities.decide import View
from enitide_operator.identities.numbers import Numbers
from enitide_policy.identities import is_genuine, labels_of, spec_of
from enitide_policy.labels import IdentityLabels, PodFacts, Relevance

SLICE = 500  # templates that a re-key looks at before others get their turn


@dataclass(slots=True, eq=False)
class Entry:
    """One identity, wanted or stored. `labels` None: an object that no operator wrote."""

    name: str
    labels: IdentityLabels | None
    number: int = 0
    templates: int = 0
    stored: SecurityIdentity | None = None
    unused_since: float | None = None

    @property
    def is_usable(self) -> bool:
        """Whether the API server holds it as it should be, in force."""
        stored = self.stored
        return (
            stored is not None
            and not stored.status.retired
            and self.labels is not None
            and stored.spec == spec_of(self.labels, self.number)
        )


@dataclass(slots=True, eq=False)
class Template:
    """Pods that are alike. `target`: the identity they should have; `serving`: the one that they have."""

    facts: PodFacts
    pods: int = 0
    target: Entry | None = None
    serving: Entry | None = None


@dataclass(slots=True)
class Ledger:
    """`on_entry(name)`: an identity may need a write. `on_moved(facts)`: these pods' `identity_of` changed."""

    cluster: int
    now: Callable[[], float]
    on_entry: Callable[[str], None]
    on_moved: Callable[[PodFacts], None]
    relevance: Relevance = field(default_factory=Relevance)
    entries: dict[str, Entry] = field(default_factory=dict)
    _numbers: Numbers = field(init=False)
    _holder: dict[int, Entry] = field(default_factory=dict)
    _records: Counter[int] = field(default_factory=Counter)
    _namespaces: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _templates: dict[PodFacts, Template] = field(default_factory=dict)
    _by_namespace: dict[str, dict[PodFacts, None]] = field(default_factory=dict)
    _waiting: dict[str, dict[PodFacts, None]] = field(default_factory=dict)  # by the entry that they wait for

    def __post_init__(self) -> None:
        self._numbers = Numbers(self.cluster)

    # --- what is asked ---------------------------------------------------------------------------------------------

    def identity_of(self, facts: PodFacts) -> int:
        """The number that pods of this template have now; 0: none yet."""
        template = self._templates.get(facts)
        return template.serving.number if template is not None and template.serving is not None else 0

    def unsettled(self) -> set[PodFacts]:
        """Templates whose pods do not have the identity that they should have."""
        return {facts for facts in self._templates if not self.is_settled(facts)}

    def is_settled(self, facts: PodFacts) -> bool:
        """Whether these pods have the identity that they should have, or are gone."""
        template = self._templates.get(facts)
        return template is None or (template.target is not None and template.serving is template.target)

    def is_used(self, entry: Entry) -> bool:
        """Whether a pod has it, should have it, or some endpoint is out under its number."""
        return entry.templates > 0 or (entry.number in self._records and self._holder.get(entry.number) is entry)

    def view(self, name: str, *, collecting: bool) -> View | None:
        """What `decide` needs; None: there is no such identity any more."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        retired = entry.stored.status.retired if entry.stored is not None else ""
        since = entry.unused_since
        return View(
            labels=entry.labels,
            number=entry.number,
            used=self.is_used(entry),
            stored=entry.stored,
            unused_s=None if since is None else self.now() - since,
            retired_s=self.now() - _unix(retired, self.now()) if retired else None,
            collecting=collecting,
        )

    @property
    def numbers_in_use(self) -> int:
        """Of this cluster."""
        return self._numbers.in_use

    # --- pods and namespaces ---------------------------------------------------------------------------------------

    def on_pod(self, old: PodFacts | None, new: PodFacts | None) -> None:
        """A pod that wants an identity came, changed or went."""
        if old == new:
            return
        if new is not None:
            template = self._templates.get(new)
            if template is None:
                template = self._templates[new] = Template(new)
                self._by_namespace.setdefault(new.namespace, {})[new] = None
                template.pods = 1
                self._assign(template)
            else:
                template.pods += 1
        if old is not None:
            self._remove(old)

    def _remove(self, facts: PodFacts) -> None:
        template = self._templates.get(facts)
        if template is None:
            return
        template.pods -= 1
        if template.pods:
            return
        del self._templates[facts]
        in_namespace = self._by_namespace[facts.namespace]
        del in_namespace[facts]
        if not in_namespace:
            del self._by_namespace[facts.namespace]
        self._set_target(template, None)
        self._set_serving(template, None)

    def on_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """A namespace came, changed its labels or went. Its templates are looked at, nothing else."""
        before = self._namespaces.get(name)
        if labels is None:
            self._namespaces.pop(name, None)  # its pods go first; what they have stays with them until then
            return
        self._namespaces[name] = labels
        keys = self.relevance.namespace_keys
        if before is not None and all(before.get(key) == labels.get(key) for key in keys):
            return
        for facts in tuple(self._by_namespace.get(name, ())):
            self._assign(self._templates[facts])

    def rekey(self, relevance: Relevance) -> Iterator[None]:
        """Other keys matter from now on. Yields between slices: others may work meanwhile, and see both states."""
        if relevance == self.relevance:
            return
        self.relevance = relevance
        for index, facts in enumerate(tuple(self._templates)):
            template = self._templates.get(facts)
            if template is not None:
                self._assign(template)
            if index % SLICE == SLICE - 1:
                yield

    def _assign(self, template: Template) -> None:
        labels = self._namespaces.get(template.facts.namespace)
        if labels is None:
            return  # the namespace's news comes later and assigns then
        wanted = self.relevance.of(template.facts, labels)
        target = template.target
        if target is not None and target.labels == wanted:
            return
        name = wanted.object_name()
        entry = self.entries.get(name)
        if entry is None:
            entry = self.entries[name] = Entry(name, wanted)
        elif entry.labels is None:
            entry.labels = wanted
        self._set_target(template, entry)

    def _set_target(self, template: Template, entry: Entry | None) -> None:
        before, template.target = template.target, entry
        if before is not None:
            self._waiting.get(before.name, {}).pop(template.facts, None)
        self._use(entry, before)
        if entry is None:
            return
        if entry.is_usable:
            self._set_serving(template, entry)
        else:
            self._waiting.setdefault(entry.name, {})[template.facts] = None

    def _set_serving(self, template: Template, entry: Entry | None) -> None:
        before, template.serving = template.serving, entry
        if before is not entry:
            self._use(entry, before)
            if entry is not None:
                self.on_moved(template.facts)

    def _use(self, entry: Entry | None, before: Entry | None) -> None:
        if entry is not None:
            entry.templates += 1
            self._looked(entry)
        if before is not None:
            before.templates -= 1
            self._looked(before)

    def _looked(self, entry: Entry) -> None:
        """Its use may have changed: note since when it is unused, and have it looked at."""
        if self.is_used(entry):
            if entry.unused_since is None and entry.is_usable:
                return
            entry.unused_since = None
        elif entry.unused_since is None:
            entry.unused_since = self.now()
        if entry.stored is None and not self.is_used(entry):
            self._forget(entry)
        else:
            self.on_entry(entry.name)

    def _forget(self, entry: Entry) -> None:
        if self.entries.get(entry.name) is entry:
            del self.entries[entry.name]
            self._waiting.pop(entry.name, None)
            self._give_back(entry)

    # --- records that are out ------------------------------------------------------------------------------------

    def on_record(self, number: int, change: int) -> None:
        """So many more (or fewer) endpoint records speak of this number."""
        self._records[number] += change
        if self._records[number] <= 0:
            del self._records[number]
        entry = self._holder.get(number)
        if entry is not None:
            self._looked(entry)

    # --- objects ---------------------------------------------------------------------------------------------------

    def number_of(self, name: str) -> int | None:
        """The number under which to create it; None: there is none left, or no such identity."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        if not entry.number:
            number = self._numbers.take()
            if number is None:
                return None
            self._hold(entry, number)
        return entry.number

    def on_object(self, name: str, new: SecurityIdentity | None) -> None:
        """What the API server holds under this name now."""
        entry = self.entries.get(name)
        if new is None:
            if entry is not None:
                entry.stored = None
                self._looked(entry)
            return
        if entry is None:
            entry = self.entries[name] = Entry(name, labels_of(new.spec) if is_genuine(new) else None)
        entry.stored = new
        if not entry.number and entry.labels is not None and spec_of(entry.labels, new.spec.id) == new.spec:
            self._adopt(entry, new.spec.id)
        if not entry.is_usable and not new.status.retired:
            self.on_entry(name)
        if entry.is_usable:
            for facts in self._waiting.pop(name, {}):
                template = self._templates.get(facts)
                if template is not None and template.target is entry:
                    self._set_serving(template, entry)
        self._looked(entry)

    def conflicted(self, name: str) -> None:
        """A create met an object that is there already: the number that was meant for it is free; adopt that one's."""
        entry = self.entries.get(name)
        if entry is not None and entry.stored is None:
            self._give_back(entry)

    def _adopt(self, entry: Entry, number: int) -> None:
        if self._numbers.is_ours(number) and number not in self._holder:
            self._numbers.hold(number)
            self._hold(entry, number)

    def _hold(self, entry: Entry, number: int) -> None:
        entry.number = number
        self._holder[number] = entry

    def _give_back(self, entry: Entry) -> None:
        if entry.number and self._holder.get(entry.number) is entry:
            del self._holder[entry.number]
            self._numbers.free(entry.number)
        entry.number = 0


def _unix(stamp: str, now: float) -> float:
    """When it was retired; a stamp that nobody can read counts from now."""
    try:
        return unix(stamp)
    except ValueError:
        return now
