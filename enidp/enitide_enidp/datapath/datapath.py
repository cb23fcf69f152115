"""The datapath of one node as one object: open it, tell it the pods and ENIs, ask what it dropped.

Everything acts in the network namespace of the calling thread. Every verb is level-triggered and idempotent: telling the
kernel what it already knows changes nothing. Per pod all verbs cost O(1) and well under 0.2 ms. Closing (or crashing)
leaves everything in the kernel as it is: packets flow without an agent, and the next `open` adopts what is there.
Not thread-safe; one owner, as the agent is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Self

from enitide_api.reasons import Drop
from enitide_enidp.datapath.types import Endpoint, Eni, NodeConfig


class Datapath:
    """The one facade. Errors are `DatapathFailed`, `KernelUnsupported`, `NotRoot` or `NetlinkFailed`."""

    @classmethod
    def open(cls, pin_dir: Path, config: NodeConfig) -> Self:
        """Load the program set for `config`, or adopt the one that is pinned under `pin_dir` and equal.

        Mounts a bpffs on the parent of `pin_dir` (or on `pin_dir`) if it does not lie on one. Takes about 30 ms when it loads, 5 ms
        when it adopts; packets flow throughout.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release this process's handles; the kernel keeps everything."""
        raise NotImplementedError

    def put_endpoint(self, endpoint: Endpoint) -> None:
        """Let the pod's packets through from now on. Do this before its programs are attached and its route is set."""
        raise NotImplementedError

    def delete_endpoint(self, ifindex: int) -> None:
        """Forget the pod on `ifindex`; its packets are dropped. Unknown is no error. Addresses a newer pod holds stay."""
        raise NotImplementedError

    def endpoints(self) -> list[Endpoint]:
        """What the kernel knows, ordered by ifindex."""
        raise NotImplementedError

    def sync(self, endpoints: Iterable[Endpoint]) -> int:
        """Make the kernel's endpoints exactly these, by difference. Returns how many entries changed."""
        raise NotImplementedError

    def set_node_addresses(self, addresses: Mapping[IPv4Address | IPv6Address, int]) -> int:
        """Make the node's own addresses (of all its devices, with their ifindex) exactly these; returns changes."""
        raise NotImplementedError

    def attach_messages(self, ifindex: int) -> list[bytes]:
        """The netlink messages that put both pod programs on veth `ifindex`: clsact, then two filters.

        Each is a whole message with NLM_F_REQUEST | NLM_F_ACK; its sequence number (bytes 8 to 12, little endian as the
        host) is 0 for the caller to fill. Idempotent: a repeat replaces the filters atomically. Valid only in this
        process, since they carry file descriptors. `ifindex` may not exist yet when they are built, only when sent.
        """
        raise NotImplementedError

    def attach_pod(self, ifindex: int) -> None:
        """Send `attach_messages` over a socket of our own."""
        raise NotImplementedError

    def attach_eni(self, eni: Eni) -> None:
        """Put the ENI programs on a managed ENI and record its number. Idempotent."""
        raise NotImplementedError

    def detach_eni(self, ifindex: int) -> None:
        """Take our programs off an ENI. A device that is gone already is no error."""
        raise NotImplementedError

    def reconcile_attachments(self, pods: set[int], enis: Iterable[Eni]) -> list[str]:
        """Compare what hangs on these devices with what should; repair; return one sentence for each repair.

        Repairs: missing programs, foreign programs on our hook, programs of an older entry, records and links of ENIs
        that are no longer managed. Call it at every start and from time to time.
        """
        raise NotImplementedError

    def drops(self) -> dict[Drop, int]:
        """Packets dropped since the maps were made, by reason; every reason is a key."""
        raise NotImplementedError
