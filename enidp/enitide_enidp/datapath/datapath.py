"""The datapath of one node as one object: open it, tell it the pods and ENIs, ask what it dropped.

Everything acts in the network namespace of the calling thread. Every verb is level-triggered and idempotent: telling
the kernel what it already knows changes nothing. Per pod all verbs cost O(1) and well under 0.2 ms. Closing (or
crashing) leaves everything in the kernel as it is: packets flow without an agent, and the next `open` adopts what is
there. Not thread-safe; one owner, as the agent is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Self

from enitide_api.errors import DatapathFailed, InterfaceAbsent, NetlinkFailed
from enitide_api.reasons import Drop
from enitide_enidp.datapath import codec, counters, loader, syscalls, upgrade
from enitide_enidp.datapath.attach import POD_HOOKS, Attacher
from enitide_enidp.datapath.maps import Maps
from enitide_enidp.datapath.places import Places
from enitide_enidp.datapath.policycodec import POLICY_OPEN, Word, encode_word
from enitide_enidp.datapath.policymaps import PolicyMaps
from enitide_enidp.datapath.stamp import Stamp
from enitide_enidp.datapath.types import Endpoint, Eni, Hook, LocalPod, NodeConfig, Onward


def _local_pod(endpoint: Endpoint) -> LocalPod:
    return LocalPod(endpoint.ifindex, endpoint.endpoint_id, endpoint.place, endpoint.pod_mac, endpoint.host_mac)


class Datapath:
    """The one facade. Errors: `DatapathFailed`, `KernelUnsupported`, `NotRoot`, `NetlinkFailed`, `InterfaceAbsent`."""

    def __init__(self, pin_dir: Path, loaded: loader.Loaded, config: NodeConfig, *, tcx: bool | None = None) -> None:
        self._pin_dir = pin_dir
        self._loaded = loaded
        self._config = config
        self._maps = Maps.of(loaded.maps)
        self._places = Places({ifindex: each.place for ifindex, each in self._maps.endpoints.dump().items()})
        self._stamp = Stamp(loaded.maps)
        self._stamp.renew()  # a process that died may have changed something and not said so
        self._known_before = loader.endpoints_of_other_schemas(pin_dir)
        self.lost = tuple(loaded.carried.lost)
        """A sentence for each other schema whose connections could not be carried over."""
        self.policy = PolicyMaps(loaded.maps, self._places)
        self._attacher = Attacher(loaded.entries, loaded.schema_dir / "links", tcx=tcx)

    @classmethod
    def open(cls, pin_dir: Path, config: NodeConfig, *, tcx: bool | None = None) -> Self:
        """Load the program set for `config`, or adopt the one that is pinned under `pin_dir` and equal.

        Mounts a bpffs where `pin_dir` does not lie on one (see `bpffs.ensure`). Packets flow throughout. `tcx` False
        forces the way of older kernels onto ENIs.
        """
        loaded = loader.load(pin_dir, config)
        try:
            return cls(pin_dir, loaded, config, tcx=tcx)
        except BaseException:
            loaded.close()
            raise

    def close(self) -> None:
        """Release this process's handles; the kernel keeps everything."""
        self._attacher.close()
        self._loaded.close()

    @property
    def adopted(self) -> bool:
        """True if `open` found everything in place and loaded nothing."""
        return self._loaded.adopted

    @property
    def uses_tcx(self) -> bool:
        """True if ENIs carry TCX links, False if filters."""
        return self._attacher.tcx

    def put_endpoint(self, endpoint: Endpoint) -> None:
        """Let the datapath know a pod. Do this before its programs are attached and its route is set.

        Where policy is on, a pod that is new is closed until `policy.set_endpoint` gives it a rule set. What holds for
        one that is known stays.
        """
        placed = self._placed(endpoint)
        previous = self._maps.endpoints.get(endpoint.ifindex)
        self._maps.endpoints.put(endpoint.ifindex, placed)
        for address in endpoint.addresses:
            self._maps.local.put(address, _local_pod(placed))
        self._write_pod(placed.place, codec.encode_local_pod(_local_pod(placed)))
        if previous is not None:
            self._forget_addresses(previous, keep=endpoint.addresses)
        self._stamp.renew()

    def _placed(self, endpoint: Endpoint) -> Endpoint:
        """With its place; a new one's policy is written before anything points at it."""
        place = self._places.of(endpoint.ifindex)
        if place is None:
            place = self._places.take(endpoint.ifindex)
            open_now = not self._config.policy or endpoint.ifindex in self._known_before
            self._write_word(place, Word(flags=POLICY_OPEN) if open_now else Word())
        return replace(endpoint, place=place)

    def _write_word(self, place: int, word: Word) -> None:
        syscalls.update(self._loaded.maps["policies"], codec.U32.pack(place), encode_word(word))

    def _write_pod(self, place: int, pod: bytes) -> None:
        syscalls.update(self._loaded.maps["pods"], codec.U32.pack(place), pod)

    def _give_back(self, ifindex: int) -> None:
        place = self._places.give_back(ifindex)
        if place is not None:
            self._write_word(place, Word())
            self._write_pod(place, bytes(codec.LOCAL_POD.codec.size))

    def delete_endpoint(self, ifindex: int) -> None:
        """Forget the pod on `ifindex`; its packets are dropped.

        Unknown is no error. Addresses that a newer pod holds stay.
        """
        endpoint = self._maps.endpoints.get(ifindex)
        if endpoint is not None:
            self._forget_addresses(endpoint, keep=())
            self._maps.endpoints.delete(ifindex)
            self._give_back(ifindex)
            self._stamp.renew()

    def _forget_addresses(self, endpoint: Endpoint, keep: tuple[IPv4Address | IPv6Address, ...]) -> None:
        for address in endpoint.addresses:
            holder = None if address in keep else self._maps.local.get(address)
            if holder is not None and holder.ifindex == endpoint.ifindex:
                self._maps.local.delete(address)

    def endpoints(self) -> list[Endpoint]:
        """What the kernel knows, ordered by ifindex."""
        return [endpoint for _, endpoint in sorted(self._maps.endpoints.dump().items())]

    def sync(self, endpoints: Iterable[Endpoint]) -> int:
        """Make the kernel's endpoints exactly these, by difference. Returns how many entries changed."""
        wanted = {endpoint.ifindex: self._placed(endpoint) for endpoint in endpoints}
        local = {address: _local_pod(endpoint) for endpoint in wanted.values() for address in endpoint.addresses}
        changes = self._maps.endpoints.put_missing(wanted) + self._maps.local.put_missing(local)
        for endpoint in wanted.values():
            self._write_pod(endpoint.place, codec.encode_local_pod(_local_pod(endpoint)))
        changes += self._maps.local.delete_others(local) + self._maps.endpoints.delete_others(wanted)
        for ifindex in self._places.ifindexes() - wanted.keys():
            self._give_back(ifindex)
        self._stamp.renew()
        return changes

    def set_node_addresses(self, addresses: Mapping[IPv4Address | IPv6Address, int]) -> int:
        """Make the node's own addresses (of all its devices, with their ifindex) exactly these; returns changes."""
        changes = self._maps.node_addresses.sync(addresses)
        if changes:
            self._stamp.renew()
        return changes

    def attach_messages(self, ifindex: int) -> list[bytes]:
        """The netlink messages that put both pod programs on veth `ifindex`: clsact, then two filters.

        Each is a whole message with NLM_F_REQUEST | NLM_F_ACK; its sequence number (bytes 8 to 12, in the host's order)
        is 0 for the caller to fill. Idempotent: a repeat replaces the filters atomically. Valid only in this
        process, since they carry file descriptors. `ifindex` may not exist yet when they are built, only when sent.
        """
        return self._attacher.messages(ifindex, POD_HOOKS)

    def attach_pod(self, ifindex: int) -> None:
        """Send `attach_messages` over a socket of our own."""
        self._attacher.attach_pod(ifindex)

    def attach_eni(self, eni: Eni) -> None:
        """Put the ENI programs on a managed ENI and record its number. Idempotent."""
        self._maps.enis.put(eni.ifindex, eni)
        self._attacher.repair_eni(eni.ifindex)

    def detach_eni(self, ifindex: int) -> None:
        """Take our programs off an ENI. A device that is gone already is no error."""
        self._attacher.detach_eni(ifindex)
        self._maps.enis.delete(ifindex)

    def reconcile_attachments(self, pods: set[int], enis: Iterable[Eni]) -> list[str]:
        """Compare what hangs on these devices with what should; repair; return one sentence for each repair.

        Repairs: pinned maps that were none of ours (replaced when the datapath was opened), missing programs, foreign
        programs on our hook, programs of an older entry, records and links of ENIs that are no longer managed; at last
        the pins of other schemas, which nothing needs any more. Call it at every start and from time to time. A device
        that fails does not keep the others from repair: the failures are raised together as `NetlinkFailed`
        afterwards, and then nothing is taken off.
        """
        wanted = {eni.ifindex: eni for eni in enis}
        self._maps.enis.put_missing(wanted)
        repairs, failures = list(self._loaded.repairs), list[str]()
        jobs = [(ifindex, self._attacher.repair_pod) for ifindex in sorted(pods)]
        jobs += [(ifindex, self._attacher.repair_eni) for ifindex in sorted(wanted)]
        for ifindex, repair in jobs:
            try:
                repairs += repair(ifindex)
            except InterfaceAbsent:
                repairs.append(f"ifindex {ifindex} has gone: nothing to attach to")
            except NetlinkFailed as error:
                failures.append(str(error))
        if failures:
            raise NetlinkFailed("; ".join(failures))
        for ifindex in sorted((self._attacher.linked_enis() | self._maps.enis.dump().keys()) - wanted.keys()):
            self.detach_eni(ifindex)
            repairs.append(f"programs taken off ifindex {ifindex}: no managed ENI")
        for folder in loader.other_schemas(self._pin_dir):
            repairs.append(self._leave(folder))
        self._loaded.repairs.clear()
        return repairs

    def _leave(self, folder: Path) -> str:
        """Nothing runs on another schema's maps any more: what began there since the load is ours now."""
        try:
            followed = upgrade.follow(folder, self._loaded.maps)
        except OSError as error:
            raise DatapathFailed(f"connections of {folder.name} cannot be carried over: {error.strerror}") from error
        loader.remove_pins(folder)
        late = f" ({followed} connections that began meanwhile carried over)" if followed else ""
        return f"pins of another schema removed: {folder.name}{late}"

    def drops(self) -> dict[Drop, int]:
        """Packets dropped since the maps were made, by reason; every reason is a key."""
        totals = dict.fromkeys(Drop, 0)
        for (reason, _), count in self.drop_counts().items():
            totals[reason] += count.packets
        return totals

    def audit_counts(self) -> dict[tuple[Drop, Hook], counters.Count]:
        """Packets and bytes that policy would have dropped at endpoints that only audit, by reason and hook."""
        return counters.drops(self._loaded.maps["audits"])

    def drop_counts(self) -> dict[tuple[Drop, Hook], counters.Count]:
        """Packets and bytes dropped, by reason and hook."""
        return counters.drops(self._loaded.maps["drops"])

    def forward_counts(self) -> dict[tuple[Hook, Onward], counters.Count]:
        """Packets and bytes let through, by hook and way onward."""
        return counters.forwards(self._loaded.maps["forwards"])
