"""The one vocabulary of why: a reason stands unchanged in logs, metric labels, Events, conditions and runbooks.

Two lists. `Reason` is for control-plane waits and failures. `Drop` numbers why the datapath did not let a packet
through; the numbers are an API (metrics, recorded events): they are never reused and never renumbered, and
`bpf/include/reasons.h` is generated from them. A test checks that every reason has a runbook section.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Reason(StrEnum):
    """Why something waits, failed, or is as it is. The value is the word users see."""

    # addresses and capacity
    POOL_FILLED = "PoolFilled"  # the pool stands between its tides
    FILLING = "Filling"  # actions are under way or planned
    AT_CAPACITY = "AtCapacity"  # no free slot, or maxAllocate reached
    ADDRESS_PENDING = "AddressPending"  # a pod waits for an address and the reason of the node is not known yet
    SUBNET_EXHAUSTED = "SubnetExhausted"
    ROOM_LEFT = "RoomLeft"  # a subnet has what the condition speaks of
    NO_ELIGIBLE_SUBNET = "NoEligibleSubnet"
    NO_WHOLE_PREFIX = "NoWholePrefix"
    SECURITY_GROUPS_MISSING = "SecurityGroupsMissing"
    LIMITS_UNKNOWN = "LimitsUnknown"
    ELASTIC_IP_ASSOCIATED = "ElasticIPAssociated"
    NO_ELASTIC_IP = "NoElasticIP"  # none with the class's tags is free
    # instances and their identity
    INSTANCE_MISSING = "InstanceMissing"  # EC2 no longer knows the instance
    INSTANCE_MISMATCH = "InstanceMismatch"  # Node.spec.providerID names another instance than the ENINode
    IDENTITY_EMPTY = "IdentityEmpty"  # metadata answered without an instance id
    METADATA_UNAVAILABLE = "MetadataUnavailable"
    INTERFACE_ABSENT = "InterfaceAbsent"  # published, but no device with that MAC on the node
    FOREIGN_INTERFACE = "ForeignInterface"  # an ENI on the instance carries another cluster's tag: left alone
    FOREIGN_MANAGER = "ForeignManager"  # another program manages the ENIs of this node
    FOREIGN_CONFIGURATION = "ForeignConfiguration"  # the OS configured an ENI; undone
    # EC2
    THROTTLED = "Throttled"
    UNAUTHORIZED = "Unauthorized"
    EC2_NOT_FOUND = "NotFound"
    EC2_UNAVAILABLE = "EC2Unavailable"
    EC2_AMBIGUOUS = "OutcomeUnknown"  # a call's outcome is unknown; re-read before anything else
    EC2_REFUSED = "Refused"  # EC2 says the request is wrong; repeating it will not help
    INDEX_OCCUPIED = "IndexOccupied"
    LIMIT_EXCEEDED = "LimitExceeded"  # EC2's limit is below what we computed
    # the operator's own conditions
    NO_CLUSTER_NAME = "NoClusterName"  # without a name no ENI can be told to be ours: the leak sweep is off
    LEAKS_SWEPT = "LeaksSwept"  # the last look for leaked ENIs went well
    # agent and hand-over
    AGENT_SILENT = "AgentSilent"
    NOT_RECONCILED = "NotReconciled"  # the agent has not yet brought up what is published
    POD_DELETED = "PodDeleted"  # the DEL of a pod came before its ADD
    # who is who
    IDENTITY_PENDING = "IdentityPending"  # a pod's identity has not reached this node yet
    IDENTITIES_EXHAUSTED = "IdentitiesExhausted"  # no identity number is left
    POLICY_MAP_FULL = "PolicyMapFull"  # pods' policy does not fit into the kernel's map: they are closed
    HOST_POLICY_PENDING = "HostPolicyPending"  # policy selects this node and does not hold for it yet
    ENDPOINT_NOT_BELIEVED = "EndpointNotBelieved"  # an agent named an address or a pod that is not its node's
    # Kubernetes
    API_UNAVAILABLE = "APIUnavailable"
    API_CONFLICT = "Conflict"
    API_FORBIDDEN = "Forbidden"
    API_INVALID = "Invalid"
    API_NOT_FOUND = "ObjectNotFound"
    POD_UNBOUND = "PodUnbound"  # no node has been found for a pod
    AGENT_ABSENT = "AgentAbsent"  # no agent has registered a node
    API_EXISTS = "AlreadyExists"
    API_GONE = "Expired"
    NOT_LEADING = "NotLeading"
    # the node's kernel and the CNI call
    KERNEL_UNSUPPORTED = "KernelUnsupported"
    NOT_ROOT = "NotRoot"
    DATAPATH_FAILED = "DatapathFailed"
    CONNECTIONS_NOT_CARRIED = "ConnectionsNotCarried"  # an upgrade met maps of a layout it does not know
    NETLINK_FAILED = "NetlinkFailed"
    CNI_BAD_REQUEST = "BadRequest"
    CNI_VERSION = "IncompatibleVersion"
    NAMESPACE_MISSING = "NamespaceMissing"
    JOURNAL_FAILED = "JournalFailed"
    AGENT_UNREACHABLE = "AgentUnreachable"
    # policies: what is wrong with one
    POLICY_INVALID = "PolicyInvalid"  # a part is not valid in its language; that part is closed
    POLICY_UNKNOWN_FIELD = "PolicyUnknownField"  # a field we do not know; that part is closed
    POLICY_UNSUPPORTED = "PolicyUnsupported"  # valid, but not done here; that part is closed
    POLICY_ACCEPTED = "PolicyAccepted"  # all of it is in force as written
    PRIORITY_CLASH = "PriorityClash"  # two policies of one tier with one priority
    OBJECT_INVALID = "ObjectInvalid"  # a Pod, Node, Service … that cannot be used as it is written
    # policies: why a connection passes or not
    ALLOWED_BY_RULE = "AllowedByRule"
    ALLOWED_BY_DEFAULT = "AllowedByDefault"  # no policy isolates the pod and none decides
    SELF_TRAFFIC = "SelfTraffic"  # a pod to itself
    OWN_NODE_TRAFFIC = "OwnNodeTraffic"  # a node to a pod on it
    DENIED_BY_RULE = "DeniedByRule"
    DENIED_BY_ISOLATION = "DeniedByIsolation"  # the pod is isolated and no rule allows it
    DENIED_FAIL_CLOSED = "DeniedFailClosed"  # by a rule that is not understood
    NO_ENDPOINTS = "NoEndpoints"  # the Service has no ready endpoint for this port
    POD_ENDED = "PodEnded"  # phase Succeeded or Failed: its address is nobody's
    FAMILY_MISMATCH = "FamilyMismatch"  # IPv4 and IPv6 differ, or the ends have no family in common
    # configuration and use
    SETTINGS_INVALID = "SettingsInvalid"
    CLASS_INVALID = "ClassInvalid"
    CLASS_MISSING = "ClassMissing"  # no ENIClass named default: the built-in one governs
    CLASS_VALID = "ClassValid"  # nothing in the class contradicts itself
    USAGE = "Usage"
    LAB_FAILED = "LabFailed"
    INTERNAL = "Internal"  # a bug of ours; the message says what was believed


class Drop(IntEnum):
    """Why the datapath dropped a packet. Never renumber, never reuse; add at the end."""

    NO_ENDPOINT = 1  # the interface has no endpoint record: closed until its policy is in place
    SPOOFED_SOURCE = 2  # a pod sent with an address that is not its own
    MALFORMED = 3  # truncated or inconsistent headers
    UNKNOWN_PROTOCOL = 4  # neither IPv4, IPv6 nor allowed ARP
    NO_PROGRAM = 5  # the tail call found no program: the set is being replaced or broken
    # 6 is not to be used: packets at the end of their hops go to the stack, which answers with ICMP
    NOT_LOCAL = 7  # an address of a local pod that has gone
    FORBIDDEN_NEIGHBOR = 8  # neighbour or router discovery that a pod may not send
    REWRITE_FAILED = 9  # a helper that rewrites the packet failed
    WRONG_INTERFACE = 10  # a pod's packet on another ENI than its own: the VPC would drop it without a word
    POLICY_PENDING = 11  # the pod's policy is not in the kernel yet
    POLICY_DENIED = 12  # a rule denies it
    POLICY_DEFAULT_DENY = 13  # the pod is isolated in this direction and no rule allows it
    IDENTITY_UNKNOWN = 14  # the same, and the other end has an address of the cluster's that nobody has told us of
    POLICY_MAP_FULL = 15  # the pod's policy did not fit into the kernel's map
    ORPHAN_FRAGMENT = 16  # a fragment of a datagram whose first one was not seen, or not let through
    CONNECTION_FAILED = 17  # the connection could not be remembered

    @property
    def word(self) -> str:
        """The reason as users see it everywhere: `SpoofedSource`."""
        return "".join(part.capitalize() for part in self.name.split("_"))


DROP_TEXT: dict[Drop, str] = {
    Drop.NO_ENDPOINT: "no endpoint on this interface",
    Drop.SPOOFED_SOURCE: "source address is not the pod's own",
    Drop.MALFORMED: "malformed packet",
    Drop.UNKNOWN_PROTOCOL: "neither IPv4 nor IPv6",
    Drop.NO_PROGRAM: "program missing in the active set",
    Drop.NOT_LOCAL: "address of a local pod that is gone",
    Drop.FORBIDDEN_NEIGHBOR: "neighbour discovery not allowed to pods",
    Drop.REWRITE_FAILED: "packet could not be rewritten",
    Drop.WRONG_INTERFACE: "pod's packet on another ENI than its own",
    Drop.POLICY_PENDING: "the pod's policy is not in the kernel yet",
    Drop.POLICY_DENIED: "a policy denies it",
    Drop.POLICY_DEFAULT_DENY: "isolated, and no policy allows it",
    Drop.IDENTITY_UNKNOWN: "isolated, and the peer's identity is not known",
    Drop.POLICY_MAP_FULL: "the pod's policy did not fit into the kernel's map",
    Drop.ORPHAN_FRAGMENT: "fragment without its first one",
    Drop.CONNECTION_FAILED: "the connection could not be remembered",
}
