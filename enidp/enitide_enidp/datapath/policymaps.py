"""The kernel half of policy, as the agent uses it: rule sets, identities of addresses, what holds for each endpoint.

The order that drops nothing: identities of new peers may come any time; a rule set is applied before an endpoint is set
to it; it is retired after the last endpoint has left it; records of addresses are added before others are removed.
Every verb is level-triggered and idempotent. Not thread-safe; one owner, as the agent is.

After a restart the agent applies its rule sets again (those with the same content are adopted in place), sets every
endpoint, calls `sync_identities` and `sync_cidrs` with all it knows, and then `forget_unclaimed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath import codec, nodesockets, syscalls
from enitide_enidp.datapath import policycodec as pc
from enitide_enidp.datapath.addresses import Addresses
from enitide_enidp.datapath.connections import Collected, Connections
from enitide_enidp.datapath.places import Places
from enitide_enidp.datapath.rulesets import Applied, RuleSets
from enitide_enidp.datapath.stamp import Stamp
from enitide_enidp.datapath.types import EndpointPolicy
from enitide_policy.mapstate import Network, RuleSet, RuleSetDelta

HOST_PLACE = 0


class PolicyMaps:
    """Everything policy needs of the kernel. Errors: `DatapathFailed`; `InternalError` for a call out of order."""

    def __init__(self, fds: Mapping[str, int], places: Places, capacity: int = pc.MAX_RULES) -> None:
        self._policies = fds["policies"]
        self._stamp = Stamp(fds)
        self._places = places
        self._rulesets = RuleSets(fds, capacity)
        self._addresses = Addresses(fds)
        self._connections = Connections(fds["connections"])

    # --- rule sets -------------------------------------------------------------------------------------------------

    def apply(self, change: RuleSet | RuleSetDelta) -> Applied:
        """Write a rule set, or what changed in one. No room is no error: `Applied.closed`, and see `closed`."""
        return self._rulesets.apply(change)

    def apply_all(self, changes: Iterable[RuleSetDelta]) -> int:
        """Write what changed in many rule sets; returns the entries written. Additions alone cost two calls for all."""
        return self._rulesets.apply_all(changes)

    def retire(self, number: int) -> None:
        """Remove a rule set that no endpoint has any more; then closed ones are tried again."""
        self._rulesets.retire(number)

    @property
    def closed(self) -> frozenset[int]:
        """Ids of the rule sets that did not fit: their endpoints pass nothing. Reason `PolicyMapFull`."""
        return self._rulesets.closed

    def retry_closed(self) -> frozenset[int]:
        """Try the closed ones again; returns the ids of those that opened."""
        return self._rulesets.retry()

    def repair(self) -> list[str]:
        """Compare the rule sets in the kernel with what was written, and put right what differs. For now and then."""
        return self._rulesets.repair()

    @property
    def entries(self) -> tuple[int, int]:
        """Entries in the map of rules, and its capacity."""
        return self._rulesets.used, self._rulesets.capacity

    # --- endpoints -------------------------------------------------------------------------------------------------

    def set_endpoint(self, ifindex: int, policy: EndpointPolicy) -> bool:
        """What holds for the pod on `ifindex` from now on, in one write. False if the datapath has no such pod."""
        place = self._places.of(ifindex)
        if place is None:
            return False
        flags = (0 if policy.enforce else pc.POLICY_OPEN) | (pc.POLICY_AUDIT if policy.audit else 0)
        self._write_word(place, pc.Word(policy.identity, self._rulesets.place(policy.ruleset), flags))
        return True

    def endpoint(self, ifindex: int) -> EndpointPolicy | None:
        """What holds for the pod on `ifindex`; a rule set of an earlier process that nobody claimed reads as 0."""
        place = self._places.of(ifindex)
        return None if place is None else self._policy_of(self._read_word(place))

    def _policy_of(self, word: pc.Word) -> EndpointPolicy:
        number = self._rulesets.id_at(word.place) or 0
        return EndpointPolicy(
            number, word.identity, not word.flags & pc.POLICY_OPEN, bool(word.flags & pc.POLICY_AUDIT)
        )

    def set_host(self, policy: EndpointPolicy | None) -> None:
        """Policy for the node itself; None: it is not asked, which is how a node starts.

        Only where somebody has chosen it, and only after the first full sync. With `enforce` off the node's
        connections are tracked, so that those that live then pass when it is turned on.
        """
        if policy is None:
            self._write_word(HOST_PLACE, pc.Word())
            return
        flags = pc.POLICY_HOST | (0 if policy.enforce else pc.POLICY_OPEN) | (pc.POLICY_AUDIT if policy.audit else 0)
        self._write_word(HOST_PLACE, pc.Word(policy.identity, self._rulesets.place(policy.ruleset), flags))

    def host(self) -> EndpointPolicy | None:
        """What holds for the node itself; None: it is not asked."""
        word = self._read_word(HOST_PLACE)
        return self._policy_of(word) if word.flags & pc.POLICY_HOST else None

    def adopt_node_connections(self) -> int:
        """Know the TCP connections that the node has, and who began them; returns how many were not known."""
        try:
            found = nodesockets.read()
        except OSError as error:
            raise DatapathFailed(f"the node's sockets cannot be read: {error.strerror}") from error
        return self._connections.adopt(found)

    def _write_word(self, place: int, word: pc.Word) -> None:
        data = pc.encode_word(word)
        if syscalls.lookup(self._policies, codec.U32.pack(place), pc.POLICY_BYTES) != data:
            syscalls.update(self._policies, codec.U32.pack(place), data)
            self._stamp.renew()

    def _read_word(self, place: int) -> pc.Word:
        return pc.decode_word(syscalls.lookup(self._policies, codec.U32.pack(place), pc.POLICY_BYTES) or bytes(8))

    # --- addresses -------------------------------------------------------------------------------------------------

    def put_identities(self, identities: Mapping[codec.Address, int]) -> None:
        """Records of pods and nodes: which identity has this address."""
        self._addresses.put(identities)

    def delete_identities(self, addresses: Iterable[codec.Address]) -> int:
        """Addresses that nobody has any more; returns how many had a record."""
        return self._addresses.delete(addresses)

    def sync_identities(self, wanted: Mapping[codec.Address, int]) -> int:
        """Make the records exactly these, additions first; returns how many changed."""
        return self._addresses.sync(wanted)

    def identity_of(self, address: codec.Address) -> int | None:
        """The record of an address."""
        return self._addresses.get(address)

    def known_cidrs(self) -> dict[Network, int]:
        """The named CIDRs of an earlier process with their identities: what a new engine starts from."""
        return self._addresses.known_cidrs()

    def put_cidrs(self, identities: Mapping[Network, int]) -> None:
        """CIDRs that policies name, with their node-local identities."""
        self._addresses.put_cidrs(identities)

    def delete_cidrs(self, networks: Iterable[Network]) -> None:
        """CIDRs that no policy names any more."""
        self._addresses.delete_cidrs(networks)

    def sync_cidrs(self, wanted: Mapping[Network, int]) -> int:
        """Make the named CIDRs exactly these; returns how many entries changed."""
        return self._addresses.sync_cidrs(wanted)

    def set_cluster_networks(self, networks: Iterable[Network]) -> None:
        """The subnets of the cluster's own ENIs, where an address without a record is unknown and never world."""
        self._addresses.set_cluster_networks(networks)

    # --- connections and housekeeping ------------------------------------------------------------------------------

    def collect(self, entries: int = 4096) -> Collected:
        """Look at the next `entries` connections or so, and remove what has long expired."""
        return self._connections.collect(entries)

    def flush_connections(self) -> int:
        """Forget every connection: the next packet of each is judged as a new flow. Returns how many."""
        return self._connections.flush()

    def forget_unclaimed(self) -> int:
        """After the first full sync: remove rule sets of an earlier process that no endpoint has; returns how many."""
        words = (self._read_word(place) for place in (HOST_PLACE, *self._places.all()))
        return self._rulesets.retire_orphans(frozenset(word.place for word in words))
