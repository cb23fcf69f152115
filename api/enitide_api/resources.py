"""Our resources as Python sees them: msgspec structs, decoded straight from the API server's bytes.

The schema that the API server enforces is in `crds.py`; a test holds both equal. Each field of an ENINode has one
writer: `spec` the node's agent, `status` the operator. Structs tolerate unknown keys on reading (a newer peer may
write them); on writing, `fieldValidation=Strict` refuses them at the server.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

GROUP = "enitide.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
DEFAULT_CLASS = "default"
BATCH_SIZE = 50  # records in one EndpointBatch

T = TypeVar("T")


class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Base: camelCase on the wire, defaults left out, immutable."""


class Metadata(Struct, frozen=True, kw_only=True):
    """The part of `metadata` that we read."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None


class Condition(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A Kubernetes condition. `status` is True, False or Unknown; `reason` a `Reason`; positive types, True is good."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str


# --- ENINode.spec: written by the agent --------------------------------------------------------------------------


class InstanceFacts(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What instance metadata says of the node. An empty id is refused by the agent, never published."""

    id: str = ""
    type: str = ""
    availability_zone: str = ""
    vpc_id: str = msgspec.field(name="vpcID", default="")
    subnet_id: str = msgspec.field(name="subnetID", default="")


class Demand(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """IPv4 addresses: held or reserved by pods, cooling after a pod, and pods waiting for one (by pod, never twice)."""

    in_use: int = 0
    cooling: int = 0
    waiting: int = 0


class EndpointRecord(Struct, frozen=True, kw_only=True):
    """A pod that holds or is reserved addresses."""

    addresses: tuple[str, ...] = ()
    pod_uid: str = msgspec.field(name="podUID", default="")


class ENINodeSpec(Struct, frozen=True, kw_only=True):
    """The agent's side. `yielded`: CIDRs taken out of use because the operator asked for some back.

    An ENI's own address in it says that nothing on the node uses that ENI any more.
    """

    instance: InstanceFacts = InstanceFacts()
    demand: Demand = Demand()
    endpoints: tuple[EndpointRecord, ...] = ()
    yielded: tuple[str, ...] = ()


# --- ENINode.status: written by the operator ---------------------------------------------------------------------


class PoolLevels(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Watermarks in IPv4 addresses. `max_allocate` None is no limit."""

    pre_allocate: int = 4
    min_allocate: int = 0
    max_allocate: int | None = None
    max_above_watermark: int = 4


class ClassStatus(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What both sides need of the governing class to compute alike. Durations in seconds."""

    name: str = DEFAULT_CLASS
    generation: int = 0
    pool: PoolLevels = PoolLevels()
    prefix_delegation: bool = False
    cooldown: str = "30s"
    report_interval: str = "30s"
    use_primary_address: bool = False
    first_index: int = 0


class Capacity(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """`slots`: address slots of all allowed ENIs; `used_slots`: taken ones; `provisioned`: IPv4 addresses for pods."""

    slots: int = 0
    used_slots: int = 0
    provisioned: int = 0

    @property
    def free_slots(self) -> int:
        """Slots that nothing holds yet; never below 0, whatever hands have done to the node's ENIs."""
        return max(0, self.slots - self.used_slots)


class IPv6Facts(Struct, frozen=True, kw_only=True):
    """The subnet's IPv6 CIDR, the VPC router's address and the /80 prefixes of one ENI."""

    cidr: str = ""
    gateway: str = ""
    prefixes: tuple[str, ...] = ()


class Interface(Struct, frozen=True, kw_only=True):
    """One managed ENI. `addresses` excludes the ENI's own `primary`; `prefixes` are /28s; `cidr` is the subnet's.

    `ours`: made by this cluster's operator, so that it may go as a whole. `draining`: the operator would like the whole
    ENI out of use; pods that hold an address of it keep it.
    """

    id: str
    mac: str = ""
    card: int
    index: int
    subnet_id: str = msgspec.field(name="subnetID", default="")
    primary: str = ""
    security_groups: tuple[str, ...] = ()
    cidr: str = ""
    gateway: str = ""
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    ipv6: IPv6Facts | None = None
    ours: bool = False
    draining: bool = False


class PendingInterface(Struct, frozen=True, kw_only=True):
    """Intent of an ENI to be made: written before CreateNetworkInterface, removed by the write that publishes it."""

    token: str
    since: str
    subnet_id: str = msgspec.field(name="subnetID", default="")
    card: int
    index: int
    count: int
    prefixes: bool = False


class Reclaim(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """How many addresses the operator would like back, and since when (RFC 3339)."""

    count: int = 0
    since: str = ""


class ENINodeStatus(Struct, frozen=True, kw_only=True):
    """The operator's side. `releasing`: CIDRs no longer published, about to be unassigned.

    `public_ip`: the Elastic IP on the node's own ENI.
    `removing`: ids of ENIs no longer published, about to be detached and deleted.
    """

    instance_id: str = msgspec.field(name="instanceID", default="")
    class_: ClassStatus | None = msgspec.field(name="class", default=None)
    capacity: Capacity = Capacity()
    interfaces: tuple[Interface, ...] = ()
    pending: tuple[PendingInterface, ...] = ()
    reclaim: Reclaim | None = None
    releasing: tuple[str, ...] = ()
    public_ip: str = msgspec.field(name="publicIP", default="")
    removing: tuple[str, ...] = ()
    vpc_cidrs: tuple[str, ...] = msgspec.field(name="vpcCIDRs", default=())
    conditions: tuple[Condition, ...] = ()


class ENINode(Struct, frozen=True, kw_only=True):
    """One per node, cluster-scoped, named as the Node."""

    api_version: str = API_VERSION
    kind: str = "ENINode"
    metadata: Metadata = Metadata()
    spec: ENINodeSpec = ENINodeSpec()
    status: ENINodeStatus = ENINodeStatus()


# --- ENIClass: user intent for a set of nodes ----------------------------------------------------------------------


class LabelRequirement(Struct, frozen=True, kw_only=True):
    """One `matchExpressions` entry: operator In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Struct, frozen=True, kw_only=True):
    """A Kubernetes label selector. Empty selects nothing (an empty selector is none at all)."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()


class Selector(Struct, frozen=True, kw_only=True):
    """Either explicit ids or tags that must all match. Both empty: the default rule applies."""

    ids: tuple[str, ...] = ()
    tags: dict[str, str] = {}


class TagSelector(Struct, frozen=True, kw_only=True):
    """Tags that must all match. Empty: nothing is wanted."""

    tags: dict[str, str] = {}


class InterfacePolicy(Struct, frozen=True, kw_only=True):
    """How ENIs are made and which ones are used."""

    first_index: int = 0
    use_primary_address: bool = False
    delete_on_termination: bool = True
    cards: tuple[int, ...] = (0,)
    subnet_selector: Selector = Selector()
    security_group_selector: Selector = Selector()
    elastic_ip_selector: TagSelector = msgspec.field(name="elasticIPSelector", default=TagSelector())
    exclude_tags: dict[str, str] = {}
    tags: dict[str, str] = {}


class ReleasePolicy(Struct, frozen=True, kw_only=True):
    """When addresses go back. Durations such as `180s` or `10m`."""

    enabled: bool = True
    delay: str = "180s"
    idle_interface_delay: str = "10m"


class ENIClassSpec(Struct, frozen=True, kw_only=True):
    """The class of highest `weight` whose selector fits governs a node; `default` governs where none fits."""

    node_selector: LabelSelector = LabelSelector()
    weight: int = 0
    pool: PoolLevels = PoolLevels()
    interfaces: InterfacePolicy = InterfacePolicy()
    prefix_delegation: bool = False
    release: ReleasePolicy = ReleasePolicy()
    cooldown: str = "30s"


class ENIClassStatus(Struct, frozen=True, kw_only=True):
    """How many nodes it governs, and how many of them stand at their tide or at capacity."""

    observed_generation: int = 0
    nodes: int = 0
    nodes_ready: int = 0
    nodes_at_capacity: int = 0
    conditions: tuple[Condition, ...] = ()


class ENIClass(Struct, frozen=True, kw_only=True):
    """User intent; `default` always exists."""

    api_version: str = API_VERSION
    kind: str = "ENIClass"
    metadata: Metadata = Metadata()
    spec: ENIClassSpec = ENIClassSpec()
    status: ENIClassStatus = ENIClassStatus()


# --- SecurityIdentity and EndpointBatch: written by the operator only ----------------------------------------------


class NamedPort(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A container port that some policy names."""

    name: str
    protocol: str = "TCP"
    number: int


class SecurityIdentitySpec(Struct, frozen=True, kw_only=True):
    """A 32-bit identity number and the relevant labels it stands for; `IdentityLabels` of `enitide_policy.labels`.

    It never changes: other labels are another object. The object's name follows from the labels.
    """

    id: int
    namespace: str
    service_account: str = ""
    pod_labels: dict[str, str] = {}
    namespace_labels: dict[str, str] = {}
    ports: tuple[NamedPort, ...] = ()


class SecurityIdentityStatus(Struct, frozen=True, kw_only=True):
    """`retired`: since when (RFC 3339) nothing uses it; empty: it is in force.

    A retired identity keeps its number from being given to other labels until every node has forgotten it.
    """

    retired: str = ""


class SecurityIdentity(Struct, frozen=True, kw_only=True):
    """One per distinct set of relevant labels, cluster-scoped."""

    api_version: str = API_VERSION
    kind: str = "SecurityIdentity"
    metadata: Metadata = Metadata()
    spec: SecurityIdentitySpec
    status: SecurityIdentityStatus = SecurityIdentityStatus()


class BatchEndpoint(Struct, frozen=True, kw_only=True):
    """Whose addresses these are, as of `revision`: of two records for one address the higher revision holds.

    `identity` 0: nobody's any more. `pod_uid` is empty for the addresses of a node, which names its ENIs' subnets too:
    an address in one of these without a record is unknown, never world.
    """

    addresses: tuple[str, ...]
    pod_uid: str = msgspec.field(name="podUID", default="")
    identity: int = 0
    node: str = ""
    subnets: tuple[str, ...] = ()
    revision: int


class IdentityKeys(Struct, frozen=True, kw_only=True):
    """To which keys of pods every record of every batch is cut; `Relevance` of `enitide_policy.labels`."""

    pod_labels: tuple[str, ...] = ()
    namespace_labels: tuple[str, ...] = ()
    port_names: tuple[str, ...] = ()
    service_account: bool = False


KEYS_BATCH = "keys"  # sorts behind the batches of records


class EndpointBatchSpec(Struct, frozen=True, kw_only=True):
    """At most 50 records. `keys`: only in the batch of that name, which holds no records.

    It is written after the records that it speaks of when keys are added, and before them when keys go; a watch of
    batches shows them in that order.
    """

    endpoints: tuple[BatchEndpoint, ...] = ()
    keys: IdentityKeys | None = None


class EndpointBatch(Struct, frozen=True, kw_only=True):
    """Endpoints of the cluster for all agents; which object holds which record means nothing."""

    api_version: str = API_VERSION
    kind: str = "EndpointBatch"
    metadata: Metadata = Metadata()
    spec: EndpointBatchSpec = EndpointBatchSpec()


def decode(raw: bytes, kind: type[T]) -> T:
    """The object in `raw`; `msgspec.ValidationError` names the field that has the wrong type."""
    return msgspec.json.decode(raw, type=kind)


def builtins(value: Any) -> Any:
    """Plain dicts and lists with wire names: the body of a write, or one field of a merge patch.

    As a field of a merge patch it replaces what stood there: structs that stand alone omit nothing (`None` becomes
    null and deletes), and lists are replaced whole.
    """
    plain = msgspec.to_builtins(value)
    return list(plain) if isinstance(plain, tuple) else plain
