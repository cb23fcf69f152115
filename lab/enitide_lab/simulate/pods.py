"""The pods bound to one node, as objects of the API server: without an address, with one, in the host's network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enitide_kube.port import POD
from enitide_lab.apistore.lifecycle import Request
from enitide_lab.apistore.patches import merge
from enitide_lab.apistore.store import Store

NAMESPACE = "default"
Address = Callable[[int], str]


class PodSet:
    """`set` brings them to absolute numbers: pods that got their address meanwhile are the same pods."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._rtype = store.type_of(POD)
        self._node = node
        self._made = 0
        self.pending: list[str] = []
        self.holding: list[str] = []
        self.host: list[str] = []

    @property
    def bound(self) -> int:
        """Those that hold or want an address."""
        return len(self.pending) + len(self.holding)

    def set(self, *, pending: int, holding: int, host_network: int, address: Address) -> None:
        """`address(i)` is what the i-th holding pod holds."""
        while len(self.holding) > holding:
            self._delete(self.holding.pop())
        while len(self.holding) < holding and len(self.pending) > pending:
            self._hold(self.pending.pop(0), address)
        while len(self.holding) < holding:
            self._hold(self._create(), address)
        while len(self.pending) > pending:
            self._delete(self.pending.pop())
        while len(self.pending) < pending:
            self.pending.append(self._create())
        while len(self.host) > host_network:
            self._delete(self.host.pop())
        while len(self.host) < host_network:
            self.host.append(self._create(host_network=True))

    def add(self) -> str:
        """One more without an address, for churn; its name."""
        name = self._create()
        self.pending.append(name)
        return name

    def remove_oldest(self) -> None:
        """One fewer, for churn."""
        self._delete((self.holding or self.pending).pop(0))

    def _create(self, *, host_network: bool = False) -> str:
        self._made += 1
        name = f"{self._node}-{self._made}"
        spec: dict[str, Any] = {"nodeName": self._node, "containers": [{"name": "c", "image": "none"}]}
        if host_network:
            spec["hostNetwork"] = True
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
        self._store.create(self._rtype, NAMESPACE, body)
        return name

    def _hold(self, name: str, address: Address) -> None:
        held = address(len(self.holding))
        status = {"phase": "Running", "podIP": held, "podIPs": [{"ip": held}]}
        request = Request("Strict", subresource="status")
        self._store.patch(self._rtype, NAMESPACE, name, lambda obj: merge(obj, {"status": status}), request)
        self.holding.append(name)

    def _delete(self, name: str) -> None:
        self._store.delete(self._rtype, NAMESPACE, name, {"gracePeriodSeconds": 0})
