"""What really happened in interleavings, counted where it takes effect: a rule that was called proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from enitide_kube.port import LEASE
from enitide_lab.apistore.store import Store
from enitide_lab.ec2model import EC2Model
from enitide_lab.ec2model.physics import READS
from enitide_lab.ec2model.state import InterfaceRecord
from enitide_lab.ec2model.types import Assigned, NetworkInterface

if TYPE_CHECKING:
    from support.interleaving.world import World

# what the batches must have met, each by the beginnings of its names in a tally
KINDS: dict[str, tuple[str, ...]] = {
    "pod added": ("pod wired",),
    "pod deleted": ("pod deleted",),
    "reclaim": ("reclaimed",),
    "yield": ("yielded",),
    "unassign": ("UnassignPrivateIpAddresses after",),
    "operator crash": ("operator dies",),
    "agent crash": ("agent dies",),
    "leader change": ("leader changes",),
    "watch event lost": ("watch event lost",),
    "watch event twice": ("watch event doubled", "watch event told again"),
    "watch event late": ("watch event late",),
    "stale read": ("stale read",),
    "EC2 error": ("EC2 answers",),
    "API error": ("API server answers",),
    "leak swept": ("leak swept",),
    "address by name": ("address by name",),
}


def count_of(tally: Counter[str], kind: str) -> int:
    """How often one of `KINDS` happened."""
    return sum(times for name, times in tally.items() if name.startswith(KINDS[kind]))


def missing(tally: Counter[str]) -> list[str]:
    """Kinds of event that never happened."""
    return [kind for kind in KINDS if not count_of(tally, kind)]


def count_the_rest(world: World) -> None:
    """What EC2, the API server and the kubelets have counted themselves."""
    tally, scene = world.tally, world.scene
    for (verb, outcome), times in scene.physics.counts.items():
        if outcome != "ok":
            tally[f"EC2 answers {outcome} to {'a read' if verb.startswith(READS) else 'a call'}"] += times
    for (client, _verb, _kind, outcome), times in scene.store.requests.items():
        if outcome not in ("ok", "404"):
            tally[f"API server answers {outcome} to an {client.partition('-')[0]}"] += times
    tally["pod deleted"] += sum(len(each.gone) for each in world.kubelets.values())
    tally["leak swept"] += len(world.leaks - scene.model.interfaces.keys())
    tally["leader changes"] += _transitions(scene.store)


def _transitions(store: Store) -> int:
    """How often the Lease went from one holder to another."""
    leases = store.catalog.table(store.type_of(LEASE)).objects.values()
    return sum(int(each.obj["spec"].get("leaseTransitions") or 0) for each in leases)


class CountedModel(EC2Model):
    """The strict EC2, which counts what no caller can see: reads that show an older state, addresses asked by name."""

    tally: Counter[str]

    def seen(self, record: InterfaceRecord) -> NetworkInterface | None:
        """As EC2's."""
        view = super().seen(record)
        if record.past:  # what is left of it is what is shown
            self.tally["stale read"] += 1
        return view

    def assign_private_ip_addresses(
        self,
        interface_id: str,
        *,
        count: int = 0,
        addresses: Sequence[str] = (),
        prefix_count: int = 0,
        prefixes: Sequence[str] = (),
        allow_reassignment: bool = False,
    ) -> Assigned:
        """As EC2's."""
        got = super().assign_private_ip_addresses(
            interface_id,
            count=count,
            addresses=addresses,
            prefix_count=prefix_count,
            prefixes=prefixes,
            allow_reassignment=allow_reassignment,
        )
        self.tally["address by name"] += len(addresses)
        self.tally["/28 assigned"] += prefix_count
        return got
