"""Who has which address, in two tiers: exact records (pods, nodes), and CIDRs by longest prefix.

Additions come before removals. After a change the epochs of the addresses it concerns count up: verdicts of
connections that were given before are asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath import codec, syscalls
from enitide_enidp.datapath import policycodec as pc
from enitide_enidp.datapath.stamp import Stamp
from enitide_policy.mapstate import Network
from enitide_policy.numbers import Reserved

MAX_IDENTITIES, MAX_CIDRS = 524_288, 131_072
PIECE = 4096  # records that are read or written at once


class Epochs:
    """How often what an address means has changed, by a hash over the address.

    Read before each write: whoever flushes records by hand counts up too.
    """

    def __init__(self, fds: Mapping[str, int]) -> None:
        self._fd = fds["epochs"]
        self._stamp = Stamp(fds)

    def bump(self, addresses: Iterable[codec.Address]) -> None:
        """Count up where these addresses count."""
        keys = [codec.U32.pack(place) for place in {pc.epoch_place(address) for address in addresses}]
        self._write((key, syscalls.lookup(self._fd, key, 4) or bytes(4)) for key in keys)

    def bump_all(self) -> None:
        self._write(syscalls.dump(self._fd, 4, 4, pc.EPOCHS))

    def _write(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        up = [(key, codec.U32.pack((codec.U32.unpack(value)[0] + 1) & 0xFFFF_FFFF)) for key, value in entries]
        syscalls.update_batch(self._fd, up)
        self._stamp.renew()


class Addresses:
    """Both tiers. The exact one is not mirrored here: its owner knows what it put."""

    def __init__(self, fds: Mapping[str, int]) -> None:
        self._identities, self._cidrs = fds["identities"], fds["cidrs"]
        self._epochs = Epochs(fds)
        self._named: dict[Network, int] = {}
        self._cluster: frozenset[Network] = frozenset()
        self._written: dict[Network, tuple[int, int]] = {}
        self._adopt()

    def _adopt(self) -> None:
        """Which CIDRs an earlier process wrote; what is not named again goes with the next `sync_cidrs`."""
        found = syscalls.dump(self._cidrs, pc.CIDR_KEY_BYTES, pc.CIDR_BYTES, MAX_CIDRS)
        self._written = {pc.decode_cidr_key(key): pc.decode_cidr(value) for key, value in found}

    # --- exact -----------------------------------------------------------------------------------------------------

    def put(self, identities: Mapping[codec.Address, int]) -> None:
        """Insert or replace records of single addresses, in one call."""
        entries = [(codec.encode_address(a), codec.U32.pack(number)) for a, number in identities.items()]
        try:
            syscalls.update_batch(self._identities, entries)
            self._epochs.bump(identities)
        except OSError as error:
            raise DatapathFailed(f"identities cannot be written: {error.strerror}") from error

    def delete(self, addresses: Iterable[codec.Address]) -> int:
        """Remove records; returns how many there were. Such an address is unknown or world from now on."""
        gone = list(addresses)
        try:
            count = syscalls.delete_batch(self._identities, [codec.encode_address(address) for address in gone])
            self._epochs.bump(gone)
        except OSError as error:
            raise DatapathFailed(f"identities cannot be removed: {error.strerror}") from error
        return count

    def sync(self, wanted: Mapping[codec.Address, int]) -> int:
        """Make the exact tier these records, by difference, additions first; returns how many changed.

        Both sides are walked in pieces: of what is in order already only the keys are kept. All epochs count up: a
        process that died may have written records and not come to that.
        """
        gone: list[codec.Address] = []
        right: set[bytes] = set()
        for key, value in self._scan():
            number = wanted.get(codec.decode_address(key))
            if number is None:
                gone.append(codec.decode_address(key))
            elif codec.U32.pack(number) == value:
                right.add(key)
        wrong = ((address, n) for address, n in wanted.items() if codec.encode_address(address) not in right)
        count = 0
        while piece := dict(islice(wrong, PIECE)):
            self.put(piece)
            count += len(piece)
        count += self.delete(gone)
        self._epochs.bump_all()
        return count

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        token: bytes | None = None
        while True:
            found, token = syscalls.scan(self._identities, codec.ADDRESS.codec.size, 4, PIECE, token)
            yield from found
            if token is None:
                return

    def get(self, address: codec.Address) -> int | None:
        """The exact record of an address."""
        value = syscalls.lookup(self._identities, codec.encode_address(address), 4)
        return None if value is None else int(codec.U32.unpack(value)[0])

    def all(self) -> dict[codec.Address, int]:
        """Every exact record."""
        found = syscalls.dump(self._identities, codec.ADDRESS.codec.size, 4, MAX_IDENTITIES)
        return {codec.decode_address(key): codec.U32.unpack(value)[0] for key, value in found}

    def cidrs(self) -> dict[Network, tuple[int, int]]:
        """Every CIDR in the kernel: its identity, and that of an address there without a record."""
        return dict(self._written)

    def known_cidrs(self) -> dict[Network, int]:
        """The ranges that an earlier process named, with their identities.

        An engine starts from these: a number that changed its range would change the meaning of rule sets in force. A
        cluster's own network has the identity of the range that holds it, so of several the widest is the named one.
        """
        found: dict[int, Network] = {}
        for network in sorted(self._written, key=lambda network: network.prefixlen):
            number = self._written[network][0]
            if number:
                found.setdefault(number, network)
        return {network: number for number, network in found.items()}

    # --- CIDRs -----------------------------------------------------------------------------------------------------

    def put_cidrs(self, identities: Mapping[Network, int]) -> None:
        """CIDRs that policies name, with their identities (`numbers.local_number`)."""
        self._named.update(identities)
        self._write(identities)

    def delete_cidrs(self, networks: Iterable[Network]) -> None:
        """CIDRs that no policy names any more."""
        gone = [network for network in networks if self._named.pop(network, None) is not None]
        self._write(gone)

    def sync_cidrs(self, wanted: Mapping[Network, int]) -> int:
        """Make the named CIDRs exactly these; returns how many entries changed."""
        before = dict(self._written)
        self._named = dict(wanted)
        self._write({*wanted, *before})
        return sum(before.get(each) != self._written.get(each) for each in {*before, *self._written})

    def set_cluster_networks(self, networks: Iterable[Network]) -> None:
        """The subnets of the cluster's own ENIs: an address in them without a record is unknown, never world."""
        before, self._cluster = self._cluster, frozenset(networks)
        if before != self._cluster:
            self._write({*self._named, *before, *self._cluster})

    def _write(self, networks: Iterable[Network]) -> None:
        """Bring these CIDRs, and the cluster's own inside them, to what they should be."""
        puts, deletes = dict[Network, tuple[int, int]](), list[Network]()
        for network in {*networks, *self._cluster}:
            wanted = self._wanted(network)
            if wanted is None and network in self._written:
                deletes.append(network)
            elif wanted is not None and self._written.get(network) != wanted:
                puts[network] = wanted
        if not puts and not deletes:
            return
        try:
            entries = [(pc.encode_cidr_key(network), pc.encode_cidr(*value)) for network, value in puts.items()]
            syscalls.update_batch(self._cidrs, entries)
            self._written.update(puts)
            syscalls.delete_batch(self._cidrs, [pc.encode_cidr_key(network) for network in deletes])
            for network in deletes:
                del self._written[network]
            self._epochs.bump_all()
        except OSError as error:
            raise DatapathFailed(f"CIDRs cannot be written: {error.strerror}") from error

    def _wanted(self, network: Network) -> tuple[int, int] | None:
        """Identity of the longest named CIDR that holds `network`, and what an address there is without a record."""
        if network not in self._named and network not in self._cluster:
            return None
        inside = any(network.version == own.version and network.subnet_of(own) for own in self._cluster)  # type: ignore[arg-type]
        return self._covering(network), int(Reserved.UNKNOWN if inside else Reserved.WORLD)

    def _covering(self, network: Network) -> int:
        found = self._named.get(network)
        while found is None and network.prefixlen:
            network = network.supernet()
            found = self._named.get(network)
        return found or 0
