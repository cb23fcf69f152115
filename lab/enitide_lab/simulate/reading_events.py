"""The list `events` of a scenario: one reader per kind of event, each with all its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from enitide_kube import port
from enitide_lab.simulate import reading_values as values
from enitide_lab.simulate.classes import Classes, spec_keys, unknown_class
from enitide_lab.simulate.events import (
    Advance,
    Announce,
    Crash,
    Ec2Fault,
    EndWatches,
    Event,
    Hand,
    KubeFault,
    Pods,
    Restart,
    SetAgent,
    SetClass,
    SetSubnet,
    Settle,
    Snapshot,
    Terminate,
    Use,
)
from enitide_lab.simulate.located import Item, given, required, unknown

_KINDS = tuple(kind.kind for kind in vars(port).values() if isinstance(kind, port.Kind))
_HTTP = (400, 599)


@dataclass(frozen=True, slots=True)
class Names:
    """What events may name: nodes and groups with their members, subnets, classes."""

    nodes: Mapping[str, tuple[str, ...]]
    subnets: frozenset[str]
    classes: frozenset[str]

    def of(self, item: Item) -> tuple[str, ...]:
        """The nodes that a name stands for."""
        name = item.text("a node's or a group's name")
        if name not in self.nodes:
            item.refuse(unknown("node", name, list(self.nodes)))
        return self.nodes[name]


def read_events(item: Item, names: Names, classes: Classes) -> tuple[Event, ...]:
    """All events, in order."""
    reader = _Reader(names, classes)
    return tuple(reader.read(each) for each in item.sequence())


class _Reader:
    """Classes change on the way, so that each change is judged as it would then be."""

    def __init__(self, names: Names, classes: Classes) -> None:
        self._names = names
        self._classes = classes
        self._snapshots: set[str] = set()
        self._kinds: dict[str, Callable[[Item], Event]] = {
            "announce": lambda item: Announce(item.place, nodes=self._names.of(item)),
            "settle": self._settle,
            "use": self._use,
            "pods": self._pods,
            "agent": self._agent,
            "set": self._set,
            "ec2": self._ec2,
            "kube": self._kube,
            "terminate": lambda item: Terminate(item.place, nodes=self._names.of(item)),
            "hand": self._hand,
            "restart": self._restart,
            "crash": self._crash,
            "advance": lambda item: Advance(item.place, seconds=values.period(item)),
            "snapshot": self._snapshot,
        }

    def read(self, item: Item) -> Event:
        """One event: the word `settle`, or a mapping with one key."""
        if item.is_null:
            item.refuse("is empty: write an event, such as settle or {announce: NODE}")
        if not item.is_mapping:
            word = item.written
            if word == "settle":
                return Settle(item.place)
            if word in self._kinds:
                item.refuse(f"{word} needs a value: write {{{word}: ...}}")
            if item.is_sequence:
                item.refuse("must be one event, not a list: begin each with a dash of its own")
            item.refuse(unknown("event", word, [*self._kinds]))
        keys = item.mapping()
        if not keys:
            item.refuse("is empty: write an event, such as settle or {announce: NODE}")
        for key, value in keys.items():
            if key not in self._kinds:
                value.refuse(unknown("event", key, [*self._kinds]))
        if len(keys) != 1:
            item.refuse(f"is {len(keys)} events in one: begin each with a dash of its own")
        (key, value), *_ = keys.items()
        return self._kinds[key](value)

    def _settle(self, item: Item) -> Event:
        if not item.is_null:
            item.refuse("settle takes nothing: write - settle")
        return Settle(item.place)

    def _use(self, item: Item) -> Event:
        keys = item.mapping(("node", "inUse", "cooling", "waiting"))
        return Use(
            item.place,
            nodes=self._names.of(required(item, keys, "node")),
            in_use=given(keys, "inUse", values.addresses, 0),
            cooling=given(keys, "cooling", values.addresses, 0),
            waiting=given(keys, "waiting", values.addresses, 0),
        )

    def _pods(self, item: Item) -> Event:
        keys = item.mapping(("node", "pending", "holding", "hostNetwork"))
        return Pods(
            item.place,
            nodes=self._names.of(required(item, keys, "node")),
            pending=given(keys, "pending", values.pods, 0),
            holding=given(keys, "holding", values.pods, 0),
            host_network=given(keys, "hostNetwork", values.pods, 0),
        )

    def _agent(self, item: Item) -> Event:
        keys = item.mapping(("node", "silent", "yielded"))
        yielded = keys.get("yielded")
        if yielded is None and ("silent" not in keys or keys["silent"].is_null):
            item.refuse("changes nothing: write silent: true, silent: false or yielded: [CIDR]")
        return SetAgent(
            item.place,
            nodes=self._names.of(required(item, keys, "node")),
            silent=given(keys, "silent", Item.boolean, None),
            yielded=given(keys, "yielded", lambda each: tuple(values.cidr(member) for member in each.sequence()), None),
            as_it_would=yielded is not None and yielded.is_null,
        )

    def _set(self, item: Item) -> Event:
        if not item.is_mapping:
            item.refuse(
                "must be a mapping: write class: NAME with fields of it, or subnet: ID with free or wholePrefixes"
            )
        keys = item.mapping()
        if "subnet" in keys and "class" in keys:
            item.refuse("has class and subnet: set each in an event of its own")
        if "subnet" in keys:
            keys = item.mapping(("subnet", "free", "wholePrefixes"))
            if all(name not in keys or keys[name].is_null for name in ("free", "wholePrefixes")):
                item.refuse("changes nothing: write free: N or wholePrefixes: N")
            return SetSubnet(
                item.place,
                subnet=keys["subnet"].word(self._names.subnets, "subnet"),
                free=given(keys, "free", Item.integer, None),
                whole_prefixes=given(keys, "wholePrefixes", Item.integer, None),
            )
        keys = item.mapping(("class", *spec_keys()), also="" if "class" in keys else " (beside class or subnet)")
        if "class" not in keys:
            item.refuse("says not what is set: write class: NAME or subnet: ID")
        if len(keys) == 1:
            item.refuse("changes nothing: write a field of the class, such as pool: {minAllocate: 8}")
        name = keys["class"].text("a class's name")
        if name not in self._names.classes:
            keys["class"].refuse(unknown_class(name, self._classes))
        changed = {key: value for key, value in keys.items() if key != "class"}
        return SetClass(item.place, name=name, patch=self._classes.change(name, item, changed))

    def _ec2(self, item: Item) -> Event:
        keys = item.mapping(("fail", "code", "times", "for", "every", "delay", "node", "empty", "lost"))
        if "fail" in keys and "empty" in keys:
            item.refuse("has fail and empty: write one of them, with the verb")
        empty = "empty" in keys
        word = keys.get("empty" if empty else "fail")
        verb = "*" if word is None else values.listing(word) if empty else values.verb(word)
        code = given(keys, "code", values.code, "")
        delay_s = given(keys, "delay", values.period, 0.0)
        lost = given(keys, "lost", Item.boolean, default=False)
        if empty and (code or lost):
            item.refuse("an empty answer has no code and is not lost: leave out code and lost")
        if not (empty or code or lost or delay_s):
            item.refuse("does nothing: write code: CODE, lost: true, delay: 2s, or empty: VERB")
        return Ec2Fault(
            item.place,
            verb=verb,
            code=code,
            times=given(keys, "times", lambda each: each.integer(1), None),
            for_s=given(keys, "for", values.period, None),
            every=given(keys, "every", lambda each: each.integer(1), None),
            delay_s=delay_s,
            nodes=given(keys, "node", self._names.of, ()),
            empty=empty,
            lost=lost,
        )

    def _kube(self, item: Item) -> Event:
        keys = item.mapping(("fail", "code", "times", "for", "delay", "lost", "drop", "gone"))
        if "drop" in keys or "gone" in keys:
            if len(keys) > 1:
                item.refuse("drop and gone stand alone: write each as an event of its own")
            (key, value), *_ = keys.items()
            return EndWatches(item.place, kind=value.word((*_KINDS, "*"), "kind"), gone=key == "gone")
        code = given(keys, "code", lambda each: each.integer(*_HTTP), 0)
        delay_s = given(keys, "delay", values.period, 0.0)
        if not (code or delay_s):
            item.refuse("does nothing: write code: 409 or delay: 2s")
        return KubeFault(
            item.place,
            kind=required(item, keys, "fail").word((*_KINDS, "*"), "kind"),
            code=code,
            times=given(keys, "times", lambda each: each.integer(1), None),
            for_s=given(keys, "for", values.period, None),
            delay_s=delay_s,
            lost=given(keys, "lost", Item.boolean, default=False),
        )

    def _hand(self, item: Item) -> Event:
        keys = item.mapping(("node", "unassign", "assign", "detach"))
        if "node" not in keys and {"unassign", "assign"} & keys.keys():
            item.refuse("node is missing: whose addresses go or come?")
        unassign, unassign_named = given(keys, "unassign", values.some, (0, ()))
        assign, assign_named = given(keys, "assign", values.some, (0, ()))
        if not (unassign or assign or unassign_named or assign_named or given(keys, "detach", lambda _: True, False)):
            item.refuse("changes nothing: write unassign: 3, assign: 3 or detach: ENI")
        return Hand(
            item.place,
            nodes=given(keys, "node", self._names.of, ()),
            unassign=unassign,
            unassign_named=unassign_named,
            assign=assign,
            assign_named=assign_named,
            detach=given(keys, "detach", lambda each: each.text("an ENI's id"), ""),
        )

    def _restart(self, item: Item) -> Event:
        item.word(("operator",), "program")
        return Restart(item.place)

    def _crash(self, item: Item) -> Event:
        keys = item.mapping(("after", "nth"))
        after = required(item, keys, "after").word((*values.VERBS, "mutations"), "verb")
        return Crash(item.place, after=after, nth=given(keys, "nth", lambda each: each.integer(1), 1))

    def _snapshot(self, item: Item) -> Event:
        name = item.text("a name")
        if name in self._snapshots:
            item.refuse(f"there is a snapshot {name!r} already: choose another name")
        self._snapshots.add(name)
        return Snapshot(item.place, name=name)
