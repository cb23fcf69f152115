"""The lab's own paths beside the EC2 API: what changed, what is, what was called, and faults on command.

`GET /_enitide/events?since=N&wait=S`, `GET /_enitide/state`, `GET /_enitide/calls`, `GET|POST|DELETE /_enitide/faults`,
`POST /_enitide/physics`, `POST /_enitide/room`, `POST /_enitide/reset`. JSON both ways; `control.py` is the client.
Real EC2 has none of these: nothing that runs outside the lab may use them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from enitide_lab.ec2model import Effect, Fault, ModelError
from enitide_lab.ec2server.app import Endpoint, Reply

PREFIX = "/_enitide/"
LONGEST_WAIT_S = 60.0
KNOBS = ("attach_delay_s", "detach_delay_s", "terminate_delay_s", "visible_after_s")


class LabPaths:
    """Answers the lab's paths for one endpoint. `metadata_faults` is the metadata service's (instance id to fault)."""

    def __init__(self, endpoint: Endpoint, metadata_faults: dict[str, dict[str, Any]]) -> None:
        self._endpoint = endpoint
        self._metadata_faults = metadata_faults

    def handle(self, method: str, path: str, query: str, body: bytes) -> Reply:
        """One request. 404 for an unknown path, 400 with what is wrong for bad input."""
        asked = {key: values[-1] for key, values in parse_qs(query).items()}
        try:
            wanted = json.loads(body) if body else {}
            match method, path.removeprefix(PREFIX):
                case "GET", "events":
                    result = self._events(int(asked.get("since", "0")), float(asked.get("wait", "0")))
                case "GET", "state":
                    result = self._state()
                case "GET", "calls":
                    result = self._calls(int(asked.get("last", "0")))
                case "GET", "faults":
                    with self._endpoint.changed:
                        result = {"faults": [dataclasses.asdict(fault) for fault in self._endpoint.physics.faults]}
                case "POST", "faults":
                    with self._endpoint.changed:
                        result = {"id": self._endpoint.physics.add(read_fault(wanted))}
                case "DELETE", "faults":
                    with self._endpoint.changed:
                        self._endpoint.physics.remove(int(asked["id"]) if "id" in asked else None)
                    result = {}
                case "POST", "metadata-faults":
                    result = self._set_metadata_fault(wanted)
                case "POST", "physics":
                    result = self._physics(wanted)
                case "POST", "room":
                    with self._endpoint.changed:
                        self._endpoint.model.set_subnet_room(
                            wanted["subnet"], wanted["free"], wanted.get("wholePrefixes")
                        )
                    result = {}
                case "POST", "reset":
                    self._endpoint.reset()
                    self._metadata_faults.clear()
                    result = {}
                case _:
                    return _json({"error": f"no such path: {method} {path}"}, 404)
        except (KeyError, TypeError, ValueError, ModelError) as exc:
            return _json({"error": f"{type(exc).__name__}: {exc}"}, 400)
        return _json(result)

    def _events(self, since: int, wait_s: float) -> dict[str, Any]:
        endpoint = self._endpoint
        deadline_s = time.monotonic() + min(wait_s, LONGEST_WAIT_S)
        with endpoint.changed:
            while True:
                found, forgotten = endpoint.model.events(since)
                left_s = deadline_s - time.monotonic()
                if found or forgotten or left_s <= 0:
                    break
                due_s = endpoint.model.next_due_s()
                if due_s is not None:  # a transition may be due before anybody calls
                    left_s = min(left_s, max(0.001, due_s - endpoint.model.clock()))
                endpoint.changed.wait(left_s)
        return {
            "events": [dataclasses.asdict(event) for event in found],
            "last": endpoint.model.feed_number,
            "forgotten": forgotten,
        }

    def _state(self) -> dict[str, Any]:
        model = self._endpoint.model
        with self._endpoint.changed:
            model.advance()
            return {
                "last": model.feed_number,
                "vpcs": [dataclasses.asdict(vpc) for vpc in model.describe_vpcs()],
                "subnets": [dataclasses.asdict(subnet) for subnet in model.describe_subnets().items],
                "route_tables": [dataclasses.asdict(table) for table in model.describe_route_tables()],
                "instances": [
                    {"id": i.id, "type": i.type, "state": i.state, "zone": i.subnet.zone, "subnet_id": i.subnet.id}
                    for i in model.instances.values()
                ],
                "interfaces": [dataclasses.asdict(model.view(record)) for record in model.interfaces.values()],
            }

    def _calls(self, last: int) -> dict[str, Any]:
        physics = self._endpoint.physics
        with self._endpoint.changed:
            recent = list(physics.calls)[-last:] if last else []
            return {
                "calls": physics.summary(),
                "largest_reply": physics.largest_reply,
                "recent": [dataclasses.asdict(call) for call in recent],
            }

    def _physics(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        endpoint = self._endpoint
        unknown = set(wanted) - {*KNOBS, "latency_s", "throttling"}
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}; write {', '.join(KNOBS)}, latency_s or throttling")
        with endpoint.changed:
            for name in KNOBS:
                if name in wanted:
                    setattr(endpoint.model, name, float(wanted[name]))
            if "latency_s" in wanted:
                endpoint.physics.latency_s = float(wanted["latency_s"])
            if "throttling" in wanted:
                endpoint.physics.throttle(on=bool(wanted["throttling"]))
        return {}

    def _set_metadata_fault(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        unknown = set(wanted) - {"instance", "absent", "refuse", "empty", "delay_s"}
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}; write instance, absent, refuse, empty or delay_s")
        fault = {key: value for key, value in wanted.items() if key != "instance"}
        if fault:
            self._metadata_faults[wanted["instance"]] = fault
        else:
            self._metadata_faults.pop(wanted["instance"], None)
        return {}


def read_fault(wanted: Mapping[str, Any]) -> Fault:
    """A fault from JSON: the fields of `Fault` by name. `ValueError` for an unknown one, saying which there are."""
    settable = {field.name for field in dataclasses.fields(Fault)} - {"id", "seen", "hit", "until_s"}
    unknown = set(wanted) - settable
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}; write {', '.join(sorted(settable))}")
    return Fault(**{**wanted, "effect": Effect(wanted.get("effect", Effect.REFUSE))})


def _json(value: Mapping[str, Any], status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), "application/json")
