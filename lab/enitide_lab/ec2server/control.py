"""Client of the lab's paths of an EC2 server in another process: events, state, calls, faults.

Plain HTTP over the standard library, blocking, one connection per call; `LabFailed` when the server refuses or is not
there.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from enitide_api.errors import LabFailed


class Control:
    """`endpoint`: the URL that AWS clients use, such as `http://10.0.0.2:4566`."""

    def __init__(self, endpoint: str) -> None:
        self._base = f"{endpoint.rstrip('/')}/_enitide/"

    def events(self, since: int = 0, wait_s: float = 0) -> dict[str, Any]:
        """Changes numbered above `since`; waits up to `wait_s` for one. `forgotten`: read `state` anew."""
        return self._call("GET", f"events?since={since}&wait={wait_s}", timeout_s=wait_s + 10)

    def state(self) -> dict[str, Any]:
        """All VPCs, subnets, route tables, instances and ENIs now, and the number of the `last` event in them."""
        return self._call("GET", "state")

    def calls(self, last: int = 0) -> dict[str, Any]:
        """Counts by verb and outcome, and the `last` calls one by one."""
        return self._call("GET", f"calls?last={last}")

    def add_fault(self, **fault: Any) -> int:
        """Put a fault in force (fields of `ec2model.Fault`); its number."""
        return int(self._call("POST", "faults", fault)["id"])

    def remove_faults(self, number: int | None = None) -> None:
        """End one fault or all."""
        self._call("DELETE", "faults" if number is None else f"faults?id={number}")

    def set_metadata_fault(self, instance: str, **fault: Any) -> None:
        """`absent`, `refuse`, `empty` or `delay_s` for one instance's metadata; none of them ends the fault."""
        self._call("POST", "metadata-faults", {"instance": instance, **fault})

    def set_physics(self, **knobs: Any) -> None:
        """`latency_s`, `throttling`, `attach_delay_s`, `detach_delay_s`, `terminate_delay_s`, `visible_after_s`."""
        self._call("POST", "physics", knobs)

    def set_room(self, subnet: str, free: int, whole_prefixes: int | None = None) -> None:
        """Leave exactly this room in a subnet; strangers hold the rest."""
        self._call("POST", "room", {"subnet": subnet, "free": free, "wholePrefixes": whole_prefixes})

    def reset(self) -> None:
        """An EC2 as new."""
        self._call("POST", "reset", {})

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = 10
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data=data, method=method)  # noqa: S310 - http, given by the lab
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as exc:
            with exc:
                raise LabFailed(
                    f"the EC2 server refuses {method} {path}: {exc.read().decode(errors='replace')}"
                ) from exc
        except OSError as exc:
            raise LabFailed(f"the EC2 server does not answer {method} {path}: {exc}") from exc
