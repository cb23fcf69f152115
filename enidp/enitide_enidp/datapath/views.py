"""The pinned maps and programs as rows for people and programs. Only reads; needs no agent."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enitide_api.errors import DatapathFailed, NotRoot, UsageError
from enitide_enidp.datapath import codec, counters, events, loader, policymapviews, syscalls
from enitide_enidp.datapath.maps import Maps
from enitide_enidp.datapath.mapview import MapView, Row
from enitide_enidp.datapath.policycodec import MAX_PLACES
from enitide_enidp.datapath.types import Endpoint, Hook, Onward


@contextmanager
def opened(pin_dir: Path) -> Iterator[dict[str, int]]:
    """Descriptors of the pinned maps by name. `DatapathFailed` if none are there, `NotRoot` if it is not permitted."""
    folder = loader.schema_dir(pin_dir) / "maps"
    fds: dict[str, int] = {}
    try:
        try:
            for name in loader.MAPS:
                fds[name] = syscalls.pinned(folder / name)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise NotRoot(f"{folder} may not be read by this user") from error
            text = f"no datapath is loaded under {folder} ({error.strerror}): start the agent, or give its --pin-dir"
            raise DatapathFailed(text) from error
        yield fds
    finally:
        for fd in fds.values():
            os.close(fd)


def _mac(data: bytes) -> str:
    return data.hex(":")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _endpoint(endpoint: Endpoint) -> Row:
    return {
        "ifindex": endpoint.ifindex,
        "id": endpoint.endpoint_id,
        "ipv4": _text(endpoint.ipv4),
        "ipv6": _text(endpoint.ipv6),
        "eni": endpoint.eni_number,
        "eniIfindex": endpoint.eni_ifindex,
        "gateway4": _text(endpoint.gateway4),
        "gateway6": _text(endpoint.gateway6),
        "podMAC": _mac(endpoint.pod_mac),
        "hostMAC": _mac(endpoint.host_mac),
    }


def _endpoints(fds: dict[str, int]) -> list[Row]:
    return [_endpoint(endpoint) for _, endpoint in sorted(Maps.of(fds).endpoints.dump().items())]


def _address_order(item: tuple[codec.Address, object]) -> tuple[int, bytes]:
    return item[0].version, item[0].packed


def _local(fds: dict[str, int]) -> list[Row]:
    return [
        {
            "address": str(address),
            "ifindex": pod.ifindex,
            "endpoint": pod.endpoint_id,
            "podMAC": _mac(pod.pod_mac),
            "hostMAC": _mac(pod.host_mac),
        }
        for address, pod in sorted(Maps.of(fds).local.dump().items(), key=_address_order)
    ]


def _pods(fds: dict[str, int]) -> list[Row]:
    rows = []
    for key, value in syscalls.dump(fds["pods"], 4, codec.LOCAL_POD.codec.size, MAX_PLACES):
        pod = codec.decode_local_pod(value)
        if pod.ifindex:
            rows.append({"place": codec.U32.unpack(key)[0], "ifindex": pod.ifindex, "endpoint": pod.endpoint_id})
    return rows


def _node_addresses(fds: dict[str, int]) -> list[Row]:
    found = sorted(Maps.of(fds).node_addresses.dump().items(), key=_address_order)
    return [{"address": str(address), "ifindex": ifindex} for address, ifindex in found]


def _enis(fds: dict[str, int]) -> list[Row]:
    return [{"ifindex": ifindex, "eni": eni.number} for ifindex, eni in sorted(Maps.of(fds).enis.dump().items())]


def active_half(fds: dict[str, int]) -> int:
    """Which half of `progs` runs."""
    return int(codec.U32.unpack(syscalls.lookup(fds["active"], codec.U32.pack(0), 4) or bytes(4))[0])


def _active(fds: dict[str, int]) -> list[Row]:
    return [{"half": active_half(fds)}]


def _program_ids(fds: dict[str, int]) -> Iterator[tuple[int, Hook, int]]:
    for half in range(codec.HALVES):
        for hook in Hook:
            found = syscalls.lookup(fds["progs"], codec.U32.pack(half * codec.HOOKS + hook), 4)
            if found is not None:
                yield half, hook, int(codec.U32.unpack(found)[0])


def _progs(fds: dict[str, int]) -> list[Row]:
    return [
        {"half": half, "hook": events.hook_word(hook), "program": number} for half, hook, number in _program_ids(fds)
    ]


def _sets(fds: dict[str, int]) -> list[Row]:
    rows = []
    for half in range(codec.HALVES):
        value = syscalls.lookup(fds["sets"], codec.U32.pack(half), codec.SET_INFO_CODEC.size) or bytes(8)
        fingerprint = codec.SET_INFO_CODEC.unpack(value)[0]
        rows.append({"half": half, "fingerprint": f"{fingerprint:016x}" if fingerprint else None})
    return rows


def _drops(fds: dict[str, int]) -> list[Row]:
    return [
        {
            "reason": events.reason_word(reason),
            "hook": events.hook_word(hook),
            "packets": count.packets,
            "bytes": count.bytes,
        }
        for (reason, hook), count in counters.drops(fds["drops"]).items()
        if count.packets
    ]


def _forwards(fds: dict[str, int]) -> list[Row]:
    return [
        {
            "hook": events.hook_word(hook),
            "onward": Onward(onward).name.lower(),
            "packets": count.packets,
            "bytes": count.bytes,
        }
        for (hook, onward), count in counters.forwards(fds["forwards"]).items()
        if count.packets
    ]


def _event_budgets(fds: dict[str, int]) -> list[Row]:
    rows, layout = [], codec.EVENT_BUDGET.codec
    for number in range(codec.MAX_DROP_REASONS):
        key = codec.U32.pack(number)
        value = syscalls.lookup(fds["event_budgets"], key, layout.size * counters.possible_cpus()) or b""
        for cpu, (start_ns, sent, suppressed) in enumerate(layout.iter_unpack(value)):
            if start_ns:
                word = events.reason_word(number)
                rows.append({"reason": word, "cpu": cpu, "sentInWindow": sent, "suppressed": suppressed})
    return rows


VIEWS: dict[str, MapView] = {
    "active": MapView("the half of progs that runs", ("half",), _active),
    "progs": MapView("programs by half and hook", ("half", "hook", "program"), _progs),
    "sets": MapView("what each half was filled with", ("half", "fingerprint"), _sets),
    "endpoints": MapView(
        "pods of this node by ifindex",
        (
            "ifindex",
            "id",
            "ipv4",
            "ipv6",
            "eni",
            "eniIfindex",
            "gateway4",
            "gateway6",
            "podMAC",
            "hostMAC",
        ),
        _endpoints,
    ),
    "local": MapView("pods of this node by address", ("address", "ifindex", "endpoint", "podMAC", "hostMAC"), _local),
    "pods": MapView("pods of this node by place", ("place", "ifindex", "endpoint"), _pods),
    "node_addresses": MapView("the node's own addresses", ("address", "ifindex"), _node_addresses),
    "enis": MapView("managed ENIs", ("ifindex", "eni"), _enis),
    "drops": MapView("dropped packets (not 0)", ("reason", "hook", "packets", "bytes"), _drops),
    "forwards": MapView("packets let through (not 0)", ("hook", "onward", "packets", "bytes"), _forwards),
    "event_budgets": MapView(
        "rate limit of drop events", ("reason", "cpu", "sentInWindow", "suppressed"), _event_budgets
    ),
}
VIEWS |= policymapviews.VIEWS
MAP_INFO = struct.Struct("=IIIIII")  # the head of struct bpf_map_info: type, id, key, value, entries, flags
PROGRAM_INFO = struct.Struct("=II8sII40x16s")  # struct bpf_prog_info: type, id, tag, jited, translated, …, name


def view(name: str) -> MapView:
    """The view of one map; `UsageError` says what to write instead."""
    if name == "events":
        raise UsageError("events is a ring buffer without entries to show: use `enitide monitor`")
    if name not in VIEWS:
        raise UsageError(f"there is no map {name!r}: write one of {', '.join(VIEWS)}")
    return VIEWS[name]


def list_maps(fds: dict[str, int]) -> list[Row]:
    """Every pinned map with its purpose and shape."""
    rows = []
    for name in loader.MAPS:
        _, number, key_bytes, value_bytes, entries, _ = MAP_INFO.unpack_from(syscalls.info(fds[name]))
        purpose = VIEWS[name].purpose if name in VIEWS else "drop events (ring buffer)"
        shape = {"keyBytes": key_bytes, "valueBytes": value_bytes, "capacity": entries}
        rows.append({"name": name, "id": number, **shape, "purpose": purpose})
    return rows


def list_programs(fds: dict[str, int]) -> list[Row]:
    """The programs of both halves; `runs` marks the half that does."""
    half_that_runs, rows = active_half(fds), []
    for half, hook, number in _program_ids(fds):
        fd = syscalls.program_fd(number)
        try:
            _, _, tag, jited, translated, name = PROGRAM_INFO.unpack_from(syscalls.info(fd))
        finally:
            os.close(fd)
        rows.append(
            {
                "hook": events.hook_word(hook),
                "half": half,
                "runs": half == half_that_runs,
                "id": number,
                "name": name.rstrip(b"\0").decode(),
                "tag": tag.hex(),
                "translatedBytes": translated,
                "machineCodeBytes": jited,
            }
        )
    return rows
