"""Policy maps in memory: what an agent told the kernel, in which order, and what a new connection would meet."""

from __future__ import annotations

from typing import Any

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath.types import EndpointPolicy
from enitide_policy.mapstate import Direction, RuleSet, RuleSetDelta
from enitide_policy.model import TCP
from enitide_policy.numbers import Reserved
from enitide_policy.twin import PeerIdentities, look_up


class RecordingKernel:
    """Behaves as `PolicyMaps`; `fail_next` names a verb that fails once."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.rulesets: dict[int, dict[str, Any]] = {}
        self.endpoints: dict[int, EndpointPolicy] = {}
        self.node: EndpointPolicy | None = None
        self.identities: dict[Any, int] = {}
        self.cidrs: dict[Any, int] = {}
        self.networks: list[Any] = []
        self.closed: frozenset[int] = frozenset()
        self.fail_next = ""

    def of(self, verb: str) -> list[tuple[str, Any]]:
        return [each for each in self.log if each[0] == verb]

    def _did(self, verb: str, what: Any) -> None:
        if self.fail_next == verb:
            self.fail_next = ""
            raise DatapathFailed(f"{verb} failed on command")
        self.log.append((verb, what))

    def allows(self, ifindex: int, peer: int) -> bool:
        """Whether an identity may open a connection to TCP port 80 of the endpoint."""
        policy = self.endpoints[ifindex]
        if not policy.enforce:
            return True
        if policy.ruleset not in self.rulesets:
            return False
        rules = self.rulesets[policy.ruleset]
        found = RuleSet(policy.ruleset, rules["isolated"], False, rules["entries"])
        who = PeerIdentities(peer or Reserved.UNKNOWN, exact=True)
        return look_up(found, Direction.INGRESS, who, TCP, 80)[0]

    def apply(self, change: RuleSet | RuleSetDelta) -> None:
        self._did("apply", change.id)
        if isinstance(change, RuleSet):
            entries = dict(change.entries)
        else:
            entries = self.rulesets[change.id]["entries"] | dict(change.puts)
            for key in change.deletes:
                entries.pop(key, None)
        self.rulesets[change.id] = {"entries": entries, "isolated": change.isolated_ingress}

    def apply_all(self, changes: Any) -> int:
        for change in changes:
            self.apply(change)
        return 0

    def retire(self, number: int) -> None:
        self._did("retire", number)
        self.rulesets.pop(number, None)

    def set_endpoint(self, ifindex: int, policy: EndpointPolicy) -> bool:
        assert policy.ruleset == 0 or policy.ruleset in self.rulesets, "a rule set is applied before it is pointed at"
        self._did("set_endpoint", (ifindex, policy))
        self.endpoints[ifindex] = policy
        return True

    def host(self) -> EndpointPolicy | None:
        return self.node

    def set_host(self, policy: EndpointPolicy | None) -> None:
        assert policy is None or policy.ruleset in self.rulesets, "a rule set is applied before it is pointed at"
        self._did("set_host", policy)
        self.node = policy

    def adopt_node_connections(self) -> int:
        self._did("adopt_node_connections", None)
        return 0

    def put_identities(self, identities: Any) -> None:
        self._did("put_identities", dict(identities))
        self.identities.update(identities)

    def delete_identities(self, addresses: Any) -> int:
        gone = list(addresses)
        self._did("delete_identities", gone)
        return sum(self.identities.pop(each, None) is not None for each in gone)

    def sync_identities(self, wanted: Any) -> int:
        self._did("sync_identities", dict(wanted))
        self.identities = dict(wanted)
        return 0

    def known_cidrs(self) -> dict[Any, int]:
        return dict(self.cidrs)

    def put_cidrs(self, identities: Any) -> None:
        self._did("put_cidrs", dict(identities))
        self.cidrs.update(identities)

    def delete_cidrs(self, networks: Any) -> None:
        gone = list(networks)
        self._did("delete_cidrs", gone)
        for each in gone:
            del self.cidrs[each]

    def sync_cidrs(self, wanted: Any) -> int:
        self._did("sync_cidrs", dict(wanted))
        self.cidrs = dict(wanted)
        return 0

    def set_cluster_networks(self, networks: Any) -> None:
        self._did("set_cluster_networks", list(networks))
        self.networks = list(networks)

    def forget_unclaimed(self) -> int:
        self._did("forget_unclaimed", None)
        return 0
