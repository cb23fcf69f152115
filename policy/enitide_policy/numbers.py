"""How identities are numbered: 32 bits, the same on every node but for those of bit 31.

Bit 31: node-local (a CIDR). Bits 30-22: cluster, 0 to 511. Bits 21-0: the number inside that cluster; 0 to 255 are
reserved in every cluster. The layout is part of the datapath's contract (`bpf/include/consts.h`).
"""

from __future__ import annotations

from enum import IntEnum

LOCAL_BIT = 1 << 31
CLUSTER_SHIFT = 22
MAX_CLUSTER = 511
NUMBER_MASK = (1 << CLUSTER_SHIFT) - 1
FIRST_NUMBER = 256


class Reserved(IntEnum):
    """Identities that mean the same in every cluster and are never allocated.

    `UNKNOWN` is also "any" in a policy key. An address inside the cluster's own ENI subnets without a record is
    UNKNOWN, never WORLD.
    """

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_API_SERVER = 7
    INGRESS = 8

    @property
    def word(self) -> str:
        """As in entities and on the command line: `remote-node`."""
        return "kube-apiserver" if self is Reserved.KUBE_API_SERVER else self.name.lower().replace("_", "-")


def identity_number(cluster: int, number: int) -> int:
    """The 32-bit identity. `ValueError` outside 0-511 and 256-4194303."""
    if not 0 <= cluster <= MAX_CLUSTER or not FIRST_NUMBER <= number <= NUMBER_MASK:
        raise ValueError(
            f"cluster {cluster}, number {number}: write 0 to {MAX_CLUSTER} and {FIRST_NUMBER} to {NUMBER_MASK}"
        )
    return cluster << CLUSTER_SHIFT | number


def local_number(number: int) -> int:
    """A node-local identity (of a CIDR). `ValueError` outside 1-2147483647."""
    if not 1 <= number < LOCAL_BIT:
        raise ValueError(f"{number} is no node-local number: 1 to {LOCAL_BIT - 1}")
    return LOCAL_BIT | number


def is_local(identity: int) -> bool:
    """Known on this node only."""
    return bool(identity & LOCAL_BIT)
