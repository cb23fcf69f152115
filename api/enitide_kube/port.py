"""The narrow port to Kubernetes: six verbs, bytes in and out.

Operator and agent know only this protocol. Two things stand behind it: the HTTP client (`enitide_kube.client`) and,
in the simulator, the lab's API store called directly. It does no caching, no retry and no decoding: a reflector, a
work queue and the callers' own loops do those, so that every retry is visible and paid for in one place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Json = Mapping[str, Any]
PatchOperations = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What the API server calls a resource, such as `Kind("", "v1", "Pod", "pods", namespaced=True)`."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`group/version`, or `version` alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
POD = Kind("", "v1", "Pod", "pods", namespaced=True)
EVENT = Kind("events.k8s.io", "v1", "Event", "events", namespaced=True)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True)
ENINODE = Kind("enitide.io", "v1alpha1", "ENINode", "eninodes", namespaced=False)
ENICLASS = Kind("enitide.io", "v1alpha1", "ENIClass", "eniclasses", namespaced=False)
SECURITYIDENTITY = Kind("enitide.io", "v1alpha1", "SecurityIdentity", "securityidentities", namespaced=False)
ENDPOINTBATCH = Kind("enitide.io", "v1alpha1", "EndpointBatch", "endpointbatches", namespaced=False)
NETWORKPOLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", namespaced=True)
CLUSTERNETWORKPOLICY = Kind(
    "policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies", namespaced=False
)
ADMINNETWORKPOLICY = Kind(
    "policy.networking.k8s.io", "v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies", namespaced=False
)
BASELINEADMINNETWORKPOLICY = Kind(
    "policy.networking.k8s.io",
    "v1alpha1",
    "BaselineAdminNetworkPolicy",
    "baselineadminnetworkpolicies",
    namespaced=False,
)
CILIUMNETWORKPOLICY = Kind("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", namespaced=True)
CILIUMCLUSTERWIDENETWORKPOLICY = Kind(
    "cilium.io", "v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", namespaced=False
)
POLICIES = (
    NETWORKPOLICY,
    CLUSTERNETWORKPOLICY,
    ADMINNETWORKPOLICY,
    BASELINEADMINNETWORKPOLICY,
    CILIUMNETWORKPOLICY,
    CILIUMCLUSTERWIDENETWORKPOLICY,
)
SERVICE = Kind("", "v1", "Service", "services", namespaced=True)
ENDPOINTSLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", namespaced=True)
SUBNETREPORT = Kind("enitide.io", "v1alpha1", "SubnetReport", "subnetreports", namespaced=False)
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: each item as its JSON bytes, the list's version, and the token of the next page or ''."""

    items: tuple[bytes, ...]
    resource_version: str
    continue_token: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change: ADDED, MODIFIED or DELETED with the object's JSON; a BOOKMARK's object carries only a version."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: bytes


class KubePort(Protocol):
    """Every call raises leaves of `enitide_api.errors.KubeError` and nothing else for what the server or the wire did.

    Objects are returned as the JSON bytes the server sent. `namespace` is "" for cluster-scoped kinds, and for a list
    or watch over all namespaces.
    """

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        limit: int = 500,
        continue_token: str = "",
        field_selector: str = "",
        label_selector: str = "",
    ) -> Page:
        """One page. `KubeGone` when the continue token has expired: start again without one."""
        ...

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        timeout_s: float = 300.0,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `resource_version`, with bookmarks, until `timeout_s` or the server ends it.

        `on_open` is called when the server has accepted: a watch that works may have nothing to say for minutes.
        `KubeGone` (410, as a reply or inside the stream): relist.
        """
        ...

    async def get(self, kind: Kind, name: str, *, namespace: str = "") -> bytes:
        """The object. `KubeNotFound` if there is none."""
        ...

    async def create(
        self,
        kind: Kind,
        obj: Json,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        field_manager: str = "",
    ) -> bytes:
        """Create, with fieldValidation=Strict. `KubeExists` if the name is taken.

        With `name` and `subresource` the object is posted to that subresource: `binding` and `eviction` of a pod,
        `token` of a service account.
        """
        ...

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Json | PatchOperations,
        *,
        namespace: str = "",
        subresource: str = "",
        field_manager: str = "",
    ) -> bytes:
        """A mapping is sent as JSON merge patch, a sequence as JSON patch, both with fieldValidation=Strict.

        A merge patch that carries `metadata.resourceVersion` is a compare-and-swap: `KubeConflict` when it is stale.
        """
        ...

    async def delete(
        self, kind: Kind, name: str, *, namespace: str = "", uid: str = "", grace_period_s: int | None = None
    ) -> None:
        """Delete in the background; with `uid` only that incarnation (`KubeConflict` otherwise).

        `grace_period_s` 0 takes a pod's object away at once, as a kubelet does when the pod has ended; `None` leaves
        the period to the object.
        """
        ...
