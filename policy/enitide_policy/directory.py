"""Who has which address and which name: the ends that queries are about."""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.errors import UsageError
from enitide_policy.evaluate import End
from enitide_policy.world import Address, Pod, Service, World, all_labels, read_address


@dataclass(frozen=True, slots=True)
class Target:
    """One end by name: the addresses it may be reached at, and who is behind each of them.

    `service` is set for a Service; then `ends` is empty. `gone`: a pod that has ended.
    """

    text: str
    ends: tuple[End, ...] = ()
    service: Service | None = None
    gone: bool = False

    @property
    def families(self) -> frozenset[int]:
        """4, 6 or both; both where nothing has an address yet."""
        known = {end.address.version for end in self.ends if end.address is not None}
        return frozenset(known) or frozenset({4, 6})

    def end(self, family: int) -> End:
        """The end to use for one family: the first of its addresses."""
        return next((e for e in self.ends if e.address is not None and e.address.version == family), self.ends[0])


class Directory:
    """A world by name and by address. Pods come before nodes, nodes before Services; what nobody has is outside."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.nodes = _node_addresses(world)
        self._ends: dict[Address, End] = {}
        self._services = {address: one for one in world.services.values() for address in one.addresses}
        for pod in world.pods.values():
            if not pod.gone and not pod.host_network:
                for end in self.pod_ends(pod):
                    if end.address is not None:
                        self._ends.setdefault(end.address, end)
        for name, addresses in self.nodes.items():
            for address in addresses:
                self._ends.setdefault(address, _node_end(world, name, address))

    def named(self, text: str, where: str) -> Target:
        """Who is meant. `UsageError`, which begins with `where`, if there is no such pod, node or Service."""
        address = read_address(text)
        if address is not None and "%" in text:
            raise UsageError(f"{where}: {text!r} has a zone: write the address without it")
        if address is not None:
            return self._by_address(text, address)
        parts = text.split("/")
        if len(parts) == 3 and parts[0] == "service":
            service = self.world.services.get((parts[1], parts[2]))
            if service is None:
                raise _missing(where, f"Service {parts[1]}/{parts[2]}")
            return Target(text, service=service)
        if len(parts) != 2 or "" in parts:
            raise UsageError(f"{where}: {text!r}: write ns/pod, an address, node/NAME or service/NS/NAME")
        _refuse_range(text, where)
        if parts[0] == "node" and parts[1] in self.nodes:
            return Target(text, _node_ends(self.world, parts[1], self.nodes[parts[1]]))
        pod = self.world.pods.get((parts[0], parts[1]))
        if pod is None:
            words = {"node": f"Node {parts[1]}", "service": f"Pod {text} (a Service is service/NS/NAME)"}
            raise _missing(where, words.get(parts[0], f"Pod {text}"))
        return Target(text, gone=True) if pod.gone else Target(text, self.pod_ends(pod))

    def behind(self, address: Address) -> End:
        """Who has an address; the outside if nobody has."""
        return self._ends.get(address) or End(address)

    def pod_ends(self, pod: Pod) -> tuple[End, ...]:
        """A pod at each of its addresses; a host-network pod is its node."""
        if pod.host_network:
            own = pod.addresses or self.nodes.get(pod.node, ())
            return _node_ends(self.world, pod.node or f"of {pod.name}", own)
        labels = all_labels(self.world, pod)
        addresses: tuple[Address | None, ...] = pod.addresses or (None,)
        return tuple(End(address, pod.key, labels, pod.node) for address in addresses)

    def _by_address(self, text: str, address: Address) -> Target:
        if address not in self._ends and address in self._services:
            return Target(text, service=self._services[address])
        return Target(text, (self.behind(address),))


def _missing(where: str, what: str) -> UsageError:
    return UsageError(f"{where}: there is no {what} among the objects: correct the name, or add the object")


def _refuse_range(text: str, where: str) -> None:
    if read_address(text.partition("/")[0]) is not None:
        raise UsageError(f"{where}: {text!r} is a range: write one address, without its prefix length")


def _node_ends(world: World, name: str, addresses: tuple[Address, ...]) -> tuple[End, ...]:
    return tuple(_node_end(world, name, address) for address in addresses or (None,))


def _node_end(world: World, name: str, address: Address | None) -> End:
    node = world.nodes.get(name)
    return End(address, node=name, node_labels=node.labels if node is not None else None)


def _node_addresses(world: World) -> dict[str, tuple[Address, ...]]:
    """Addresses of every node, also of those known only through pods on them."""
    found = {name: dict.fromkeys(node.addresses) for name, node in world.nodes.items()}
    for pod in world.pods.values():
        if pod.node or (pod.host_network and not pod.gone):
            own = found.setdefault(pod.node or f"of {pod.name}", {})
            if pod.host_network and not pod.gone:
                own.update(dict.fromkeys(pod.addresses))
    return {name: tuple(addresses) for name, addresses in found.items()}
