"""The one capacity function: which ENIs serve pods, how many slots there are, what they hold and can still hold.

A slot holds one single address or one /28; an ENI's own address takes one slot that is never counted here, except
where `usePrimaryAddress` gives that address to pods. The node's own address (card 0, index 0) never goes to a pod.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from enitide_api.resources import ENIClassSpec, InterfacePolicy
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import EniView, SubnetView


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """Slots and addresses of one node.

    `slots`: address slots for pods on all ENIs it may have; `used_slots`: taken ones; `provisioned`: IPv4 addresses
    pods may use, without `releasing` ones. `slot_size`: 16 where a new slot can hold a /28, else 1. `places`: free
    device keys for new ENIs. `free_by_eni`: free slots of each managed ENI.
    """

    slots: int
    used_slots: int
    provisioned: int
    slot_size: int
    places: tuple[tuple[int, int], ...]
    free_by_eni: dict[str, int]

    @property
    def free_slots(self) -> int:
        """Slots that nothing holds yet."""
        raise NotImplementedError

    @property
    def room(self) -> int:
        """Addresses that the free slots can still hold."""
        raise NotImplementedError


def is_excluded(eni: EniView, policy: InterfacePolicy) -> bool:
    """Carries all of the class's excludeTags (an empty set excludes nothing)."""
    raise NotImplementedError


def is_managed(eni: EniView, policy: InterfacePolicy) -> bool:
    """Serves pods: attached, IPv4, at firstIndex or above on a card of the class, not excluded."""
    raise NotImplementedError


def may_use_prefixes(limits: InstanceLimits, class_: ENIClassSpec) -> bool:
    """The class wants prefixes and the instance can have them."""
    raise NotImplementedError


def whole_prefix_exists(subnets: Iterable[SubnetView]) -> bool:
    """Some subnet has a whole free /28 (unknown counts as yes: asking tells)."""
    raise NotImplementedError


def node_capacity(
    limits: InstanceLimits,
    class_: ENIClassSpec,
    enis: Iterable[EniView],
    *,
    prefix_room: bool = False,
    releasing: Collection[str] = (),
    pending_places: Collection[tuple[int, int]] = (),
) -> NodeCapacity:
    """Slots and addresses from limits, class and the ENIs attached to the instance.

    `prefix_room`: an eligible subnet has a whole /28. `releasing` CIDRs hold their slots but are not provisioned.
    `pending_places` are taken by intents (their addresses are the caller's to count).
    """
    raise NotImplementedError
