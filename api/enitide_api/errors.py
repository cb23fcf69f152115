"""Every error enitide raises, as one tree.

    EnitideError                      reason, retry, help
    ├── EC2Error                      code (EC2's own), verb
    │   ├── EC2Throttled              retry later, the budget slows down
    │   ├── EC2Unauthorized           retry later (a person must act)
    │   ├── EC2NotFound               retry after a re-read
    │   │   └── EC2InstanceMissing
    │   ├── EC2SubnetExhausted        retry later, elsewhere first
    │   ├── EC2NoWholePrefix          retry later, elsewhere first
    │   ├── EC2LimitExceeded          retry after a re-read
    │   ├── EC2IndexOccupied          retry now, next index
    │   ├── EC2InUse                  retry after a re-read
    │   ├── EC2GroupsMissing          retry later
    │   ├── EC2Ambiguous              retry after a re-read, one call time-out later
    │   ├── EC2Unavailable            retry later (nothing took effect)
    │   └── EC2Refused                never as it is
    │       └── EC2Unknown            retry later: a code that the table does not have
    ├── KubeError
    │   ├── KubeConflict              after a re-read
    │   ├── KubeNotFound · KubeExists · KubeGone      after a re-read
    │   ├── KubeForbidden · KubeInvalid               never as it is
    │   ├── KubeThrottled (retry_after_s) · KubeUnavailable       later
    ├── NodeError                     what an agent finds on its node
    │   ├── MetadataUnavailable · IdentityEmpty · InstanceMismatch · ForeignManager · KernelUnsupported · NotRoot
    │   ├── NetlinkFailed · DatapathFailed · JournalFailed · NamespaceMissing · InterfaceAbsent
    ├── CniError                      cni_code, answered to the runtime
    ├── NotLeading                    a mutation outside our lease term: not sent
    ├── SettingsInvalid · ClassInvalid · UsageError · AgentUnreachable · LabFailed
    └── InternalError                 a bug: says what was believed

Nothing matches on message text: EC2's codes are mapped to leaves in `EC2_CODES`, HTTP statuses in the Kubernetes port.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from enitide_api.reasons import Reason


class Retry(StrEnum):
    """When trying again makes sense."""

    NEVER = "never"
    LATER = "later"
    NOW = "now"
    AFTER_REREAD = "after-reread"


class EnitideError(Exception):
    """Root. `str()` is a sentence for a person; `help` says what to do; both stand beside the reason code."""

    reason: ClassVar[Reason] = Reason.INTERNAL
    retry: ClassVar[Retry] = Retry.NEVER
    help: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1

    def sentence(self) -> str:
        """`Reason: message. What to do.` for logs and the command line."""
        text = f"{self.reason}: {self}"
        return f"{text}. {self.help}" if self.help else text


class EC2Error(EnitideError):
    """What EC2 answered, or that it did not. `code` is EC2's own word, `verb` the call."""

    reason = Reason.EC2_REFUSED

    def __init__(self, message: str, *, code: str = "", verb: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.verb = verb


class EC2Throttled(EC2Error):
    reason = Reason.THROTTLED
    retry = Retry.LATER
    help = "The budget slows this verb down by itself; if it lasts, lower --budget or ask AWS for a higher quota"


class EC2Unauthorized(EC2Error):
    reason = Reason.UNAUTHORIZED
    retry = Retry.LATER
    help = "Grant the operator's role the verb named here; docs/iam.md lists the whole policy"


class EC2NotFound(EC2Error):
    reason = Reason.EC2_NOT_FOUND
    retry = Retry.AFTER_REREAD


class EC2InstanceMissing(EC2NotFound):
    reason = Reason.INSTANCE_MISSING


class EC2SubnetExhausted(EC2Error):
    reason = Reason.SUBNET_EXHAUSTED
    retry = Retry.LATER
    help = "Add a subnet of this zone to the ENIClass, or free addresses in it"


class EC2NoWholePrefix(EC2Error):
    reason = Reason.NO_WHOLE_PREFIX
    retry = Retry.LATER
    help = "The subnet has no whole free /28; single addresses are used meanwhile"


class EC2LimitExceeded(EC2Error):
    reason = Reason.LIMIT_EXCEEDED
    retry = Retry.AFTER_REREAD


class EC2IndexOccupied(EC2Error):
    reason = Reason.INDEX_OCCUPIED
    retry = Retry.NOW


class EC2InUse(EC2Error):
    reason = Reason.EC2_REFUSED
    retry = Retry.AFTER_REREAD


class EC2GroupsMissing(EC2Error):
    reason = Reason.SECURITY_GROUPS_MISSING
    retry = Retry.LATER
    help = "Correct interfaces.securityGroupSelector of the ENIClass: every id must exist and tags must match a group"


class EC2Ambiguous(EC2Error):
    """Time-out, 5xx or lost connection: the call may have taken effect."""

    reason = Reason.EC2_AMBIGUOUS
    retry = Retry.AFTER_REREAD


class EC2Unavailable(EC2Error):
    """Nothing was reached, so nothing took effect."""

    reason = Reason.EC2_UNAVAILABLE
    retry = Retry.LATER


class EC2Refused(EC2Error):
    reason = Reason.EC2_REFUSED
    retry = Retry.NEVER


class EC2Unknown(EC2Refused):
    """A code of which nobody here knows whether it passes: held for hopeless, an outage under a new name would last."""

    retry = Retry.LATER


# EC2's error codes by meaning. A code that is not here: 4xx is EC2Unknown, 5xx and no answer EC2Ambiguous.
EC2_CODES: dict[str, type[EC2Error]] = {
    "RequestLimitExceeded": EC2Throttled,
    "Throttling": EC2Throttled,
    "ThrottlingException": EC2Throttled,
    "RequestThrottled": EC2Throttled,
    "EC2ThrottledException": EC2Throttled,
    "UnauthorizedOperation": EC2Unauthorized,
    "AuthFailure": EC2Unauthorized,
    "OptInRequired": EC2Unauthorized,
    "ExpiredToken": EC2Unauthorized,
    "InvalidClientTokenId": EC2Unauthorized,
    "InvalidNetworkInterfaceID.NotFound": EC2NotFound,
    "InvalidAttachmentID.NotFound": EC2NotFound,
    "InvalidSubnetID.NotFound": EC2NotFound,
    "InvalidVpcID.NotFound": EC2NotFound,
    "InvalidInstanceID.NotFound": EC2InstanceMissing,
    "InvalidInstanceID.Malformed": EC2InstanceMissing,
    "IncorrectInstanceState": EC2InstanceMissing,
    "InsufficientFreeAddressesInSubnet": EC2SubnetExhausted,
    "InsufficientCidrBlocks": EC2NoWholePrefix,
    "AttachmentLimitExceeded": EC2LimitExceeded,
    "PrivateIpAddressLimitExceeded": EC2LimitExceeded,
    "NetworkInterfaceLimitExceeded": EC2LimitExceeded,
    "InvalidGroup.NotFound": EC2GroupsMissing,
    "InvalidGroupId.Malformed": EC2GroupsMissing,
    "InvalidNetworkInterface.InUse": EC2InUse,
    "InvalidIPAddress.InUse": EC2InUse,
    "IncorrectState": EC2InUse,
    "Resource.AlreadyAssociated": EC2InUse,
    "InvalidAllocationID.NotFound": EC2NotFound,
    "InternalError": EC2Ambiguous,
    "InternalFailure": EC2Ambiguous,
    "ServiceUnavailable": EC2Ambiguous,
    "Unavailable": EC2Ambiguous,
    "RequestTimeout": EC2Ambiguous,
    "RequestTimeoutException": EC2Ambiguous,
    "RequestExpired": EC2Unauthorized,
    "IdempotentParameterMismatch": EC2Refused,
    "InvalidParameterValue": EC2Refused,
    "InvalidParameterCombination": EC2Refused,
    "OperationNotPermitted": EC2Refused,
}


def ec2_error(code: str, message: str, verb: str, http_status: int) -> EC2Error:
    """The leaf for EC2's answer. Unknown codes are judged by the HTTP status alone, never by their text."""
    leaf = EC2_CODES.get(code) or (EC2Ambiguous if http_status >= 500 else EC2Unknown)
    return leaf(f"{verb}: {code}: {message}", code=code, verb=verb)


class KubeError(EnitideError):
    """What the API server answered. `status` is the HTTP status, 0 where there was no answer."""

    reason = Reason.API_UNAVAILABLE

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KubeConflict(KubeError):
    reason = Reason.API_CONFLICT
    retry = Retry.AFTER_REREAD


class KubeNotFound(KubeError):
    reason = Reason.API_NOT_FOUND
    retry = Retry.AFTER_REREAD


class KubeExists(KubeError):
    reason = Reason.API_EXISTS
    retry = Retry.AFTER_REREAD


class KubeGone(KubeError):
    reason = Reason.API_GONE
    retry = Retry.AFTER_REREAD


class KubeForbidden(KubeError):
    reason = Reason.API_FORBIDDEN
    help = "Compare the ClusterRole with charts/enitide; an ENINode may be written only by its own node's agent"


class KubeInvalid(KubeError):
    reason = Reason.API_INVALID


class KubeThrottled(KubeError):
    """429, with the server's Retry-After in seconds."""

    reason = Reason.API_UNAVAILABLE
    retry = Retry.LATER

    def __init__(self, message: str, *, status: int = 429, retry_after_s: float = 1.0) -> None:
        super().__init__(message, status=status)
        self.retry_after_s = retry_after_s


class KubeUnavailable(KubeError):
    reason = Reason.API_UNAVAILABLE
    retry = Retry.LATER
    help = "Is the API server up, and is it the one that is meant (--kubeconfig, KUBECONFIG)?"


class NodeError(EnitideError):
    """What an agent finds wrong on its own node."""


class MetadataUnavailable(NodeError):
    reason = Reason.METADATA_UNAVAILABLE
    retry = Retry.LATER
    help = "Enable instance metadata (IMDSv2) for host-network pods, or set --metadata-endpoint"


class IdentityEmpty(NodeError):
    reason = Reason.IDENTITY_EMPTY
    retry = Retry.LATER
    help = "Instance metadata answered without this field; nothing is published until it does"


class InstanceMismatch(NodeError):
    reason = Reason.INSTANCE_MISMATCH
    retry = Retry.LATER
    help = "Correct Node.spec.providerID (the cloud controller writes it), or --node-name if this is another node"


class ForeignManager(NodeError):
    reason = Reason.FOREIGN_MANAGER
    help = "Remove the other CNI from this node first (its conflist, rules and daemon), then restart the agent"


class KernelUnsupported(NodeError):
    reason = Reason.KERNEL_UNSUPPORTED
    help = "enitide needs Linux 6.1 or newer with BTF, cls_bpf, ring buffers and cgroup v2"


class NotRoot(NodeError):
    reason = Reason.NOT_ROOT
    help = "Run it as root (CAP_NET_ADMIN, CAP_BPF, CAP_SYS_ADMIN)"


class NetlinkFailed(NodeError):
    reason = Reason.NETLINK_FAILED
    retry = Retry.LATER


class DatapathFailed(NodeError):
    reason = Reason.DATAPATH_FAILED
    retry = Retry.LATER


class JournalFailed(NodeError):
    reason = Reason.JOURNAL_FAILED
    retry = Retry.LATER
    help = "Make --run-dir writable with free space; no address is handed out that cannot be recorded"


class NamespaceMissing(NodeError):
    reason = Reason.NAMESPACE_MISSING


class InterfaceAbsent(NodeError):
    reason = Reason.INTERFACE_ABSENT
    retry = Retry.LATER


class CniError(EnitideError):
    """A CNI error object.

    `cni_code` is of the CNI specification: 1 version, 4 bad variables, 6 decode, 7 config, 11 try later, 50 not
    available.
    """

    def __init__(self, message: str, *, cni_code: int, reason: Reason, details: str = "") -> None:
        super().__init__(message)
        self.cni_code = cni_code
        self.cni_reason = reason
        self.details = details


class NotLeading(EnitideError):
    reason = Reason.NOT_LEADING
    retry = Retry.LATER


class SettingsInvalid(EnitideError):
    reason = Reason.SETTINGS_INVALID
    exit_code = 2


class ClassInvalid(EnitideError):
    reason = Reason.CLASS_INVALID


class UsageError(EnitideError):
    reason = Reason.USAGE
    exit_code = 2


class AgentUnreachable(EnitideError):
    reason = Reason.AGENT_UNREACHABLE
    retry = Retry.LATER
    exit_code = 3
    help = "Is `enitide agent` running on this node, and do you have the right --run-dir?"


class LabFailed(EnitideError):
    reason = Reason.LAB_FAILED


class InternalError(EnitideError):
    reason = Reason.INTERNAL
