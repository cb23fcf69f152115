"""The one capacity function: which ENIs serve pods, how many slots there are, what they hold and can still hold.

A slot holds one single address or one /28; an ENI's own address takes one slot that is never counted here, except
where `usePrimaryAddress` gives that address to pods. The node's own address (card 0, index 0) never goes to a pod.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from enitide_api.resources import ENIClassSpec, Interface, InterfacePolicy, PendingInterface
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import Attachment, EniView, SubnetView
from enitide_ipam.subnets import request_room

Place = tuple[int, int]  # (card, index): the device key of an ENI on its instance
NODE_PLACE: Place = (0, 0)  # the ENI that carries the node's own address


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """Slots and addresses of one node.

    `slots`: address slots for pods on all ENIs it may have; `used_slots`: taken ones, also by what is on order;
    `provisioned`: IPv4 addresses that pods may use, without `releasing` ones. `expected`: addresses that ordered ENIs
    (`pending`) will bring. `room`: addresses that the free slots can still hold. `places`: free device keys for new
    ENIs. `free_by_eni`: free slots of each managed ENI.
    """

    slots: int
    used_slots: int
    provisioned: int
    expected: int
    room: int
    places: tuple[Place, ...]
    free_by_eni: dict[str, int]

    @property
    def free_slots(self) -> int:
        """Slots that nothing holds yet."""
        return max(0, self.slots - self.used_slots)


def is_excluded(eni: EniView, policy: InterfacePolicy) -> bool:
    """Never to be touched: another cluster's, or with all of the class's excludeTags (no tags: none)."""
    tags = policy.exclude_tags
    return eni.foreign or (bool(tags) and all(eni.tags.get(key) == value for key, value in tags.items()))


def is_managed(eni: EniView, policy: InterfacePolicy) -> bool:
    """Serves pods: attached or attaching, IPv4, at firstIndex or above on a card of the class, not excluded."""
    return (
        eni.is_on_instance
        and bool(eni.primary)
        and eni.card in policy.cards
        and eni.index >= policy.first_index
        and not is_excluded(eni, policy)
    )


def may_use_prefixes(limits: InstanceLimits, class_: ENIClassSpec) -> bool:
    """The class wants prefixes and the instance can have them."""
    return class_.prefix_delegation and limits.prefixes


def whole_prefix_exists(subnets: Iterable[SubnetView]) -> bool:
    """Some subnet has a whole free /28 (unknown counts as yes: asking tells)."""
    return any(request_room(subnet, prefixes=True) > 0 for subnet in subnets)


def primary_serves(place: Place, policy: InterfacePolicy) -> bool:
    """Whether the own address of an ENI at this place goes to pods."""
    return policy.use_primary_address and place != NODE_PLACE


def provisioned_addresses(interfaces: Iterable[Interface], *, use_primary_address: bool) -> int:
    """Addresses for pods in a published status: what agent and command line count, equal to `provisioned`."""
    return sum(
        len(each.addresses)
        + PREFIX_SIZE * len(each.prefixes)
        + (use_primary_address and (each.card, each.index) != NODE_PLACE)
        for each in interfaces
    )


def node_capacity(
    limits: InstanceLimits,
    class_: ENIClassSpec,
    enis: Iterable[EniView],
    *,
    prefix_room: bool = False,
    releasing: Collection[str] = (),
    pending: Iterable[PendingInterface] = (),
    requested: Mapping[str, int] = MappingProxyType({}),
    removing: Collection[str] = (),
) -> NodeCapacity:
    """Slots and addresses from limits, class and the ENIs attached to the instance.

    `prefix_room`: an eligible subnet has a whole /28. `releasing` CIDRs hold their slots but are not provisioned. An
    intent whose ENI is seen attached is counted by that ENI, any other by its `count`. `requested`: slots, by ENI, that
    requests under way will fill (their addresses are the caller's to count). ENIs in `removing` hold only their place.
    """
    attached = sorted((eni for eni in enis if _occupies(eni)), key=lambda eni: (eni.card, eni.index, eni.id))
    arrived = {eni.token for eni in attached if eni.is_on_instance}
    coming = sorted(
        (each for each in pending if each.token not in arrived), key=lambda each: (each.card, each.index, each.token)
    )
    policy = class_.interfaces
    managed = [eni for eni in attached if is_managed(eni, policy) and eni.id not in removing]
    per_eni = limits.ipv4_per_interface - 1
    slot_size = PREFIX_SIZE if prefix_room and may_use_prefixes(limits, class_) else 1

    used = {eni.id: len(eni.addresses) + len(eni.prefixes) + requested.get(eni.id, 0) for eni in managed}
    free_by_eni = {eni_id: max(0, per_eni - count) for eni_id, count in used.items()}
    coming_free = sum(max(0, per_eni - each.count) for each in coming)
    places = free_places(limits, policy, attached, coming)

    filled = [(eni.card, eni.index) for eni in managed] + [(each.card, each.index) for each in coming]
    own = sum(primary_serves(place, policy) for place in filled)
    new_own = sum(primary_serves(place, policy) for place in places)
    held = frozenset(releasing)
    return NodeCapacity(
        slots=per_eni * (len(managed) + len(coming) + len(places)) + own + new_own,
        used_slots=sum(used.values()) + sum(each.count for each in coming) + own,
        provisioned=sum(addresses_of(eni, policy, held) for eni in managed),
        expected=sum(expected_of(each, policy) for each in coming),
        room=slot_size * (sum(free_by_eni.values()) + coming_free + per_eni * len(places)) + new_own,
        places=places,
        free_by_eni=free_by_eni,
    )


def capacity_of_type(limits: InstanceLimits, class_: ENIClassSpec) -> NodeCapacity:
    """What a fresh instance of the type can come to hold (`room`), if its subnets give it all that it asks for.

    That is the number for a kubelet's max-pods or a scheduler's estimate before the node exists; once it does,
    `status.capacity` is the truth.
    """
    first = EniView("first", primary="first", attachment=Attachment.ATTACHED)
    fresh = node_capacity(limits, class_, [first], prefix_room=True)
    maximum = class_.pool.max_allocate
    return fresh if maximum is None else replace(fresh, room=min(fresh.room, maximum))


def addresses_of(eni: EniView, policy: InterfacePolicy, releasing: Collection[str]) -> int:
    """Addresses for pods on one managed ENI, without what is releasing."""
    singles, prefixes = len(eni.addresses), len(eni.prefixes)
    if releasing:
        singles -= sum(address in releasing for address in eni.addresses)
        prefixes -= sum(prefix in releasing for prefix in eni.prefixes)
    return singles + PREFIX_SIZE * prefixes + primary_serves((eni.card, eni.index), policy)


def expected_of(intent: PendingInterface, policy: InterfacePolicy) -> int:
    """Addresses for pods that an ordered ENI will bring."""
    size = PREFIX_SIZE if intent.prefixes else 1
    return size * intent.count + primary_serves((intent.card, intent.index), policy)


def free_places(
    limits: InstanceLimits,
    policy: InterfacePolicy,
    attached: Iterable[EniView],
    pending: Iterable[PendingInterface],
) -> tuple[Place, ...]:
    """Device keys where a new ENI may go: per card, no more than the card still takes, whoever holds the others."""
    taken = {(eni.card, eni.index) for eni in attached} | {(each.card, each.index) for each in pending}
    places: list[Place] = []
    for card in sorted(set(policy.cards)):
        if card >= len(limits.cards):
            continue  # a class may name more cards than this type has
        most = limits.cards[card]
        left = most - sum(place[0] == card for place in taken)
        indexes = [index for index in range(policy.first_index, most) if (card, index) not in taken]
        places += [(card, index) for index in indexes[: max(0, left)]]
    return tuple(places)


def over_limit(limits: InstanceLimits | None, enis: Iterable[EniView]) -> str:
    """What the instance holds beyond its type's limits, as a sentence; '' if nothing.

    It happens where the type was changed while the instance was stopped. What is there works and stays.
    """
    if limits is None:
        return ""
    attached = sorted((each for each in enis if _occupies(each)), key=lambda each: (each.card, each.index, each.id))
    most = limits.ipv4_per_interface
    for eni in attached:
        held = bool(eni.primary) + len(eni.addresses) + len(eni.prefixes)
        if held > most:
            return f"{eni.id} holds {held} addresses and prefixes, an ENI of {limits.type} may hold {most}"
    for card in sorted({each.card for each in attached}):
        count, most = sum(each.card == card for each in attached), _most_on(limits, card)
        if count > most:
            return f"{count} ENIs are on network card {card}, {limits.type} may have {most} there"
    return ""


def _most_on(limits: InstanceLimits, card: int) -> int:
    return limits.cards[card] if card < len(limits.cards) else 0


def _occupies(eni: EniView) -> bool:
    return eni.attachment is not Attachment.DETACHED
