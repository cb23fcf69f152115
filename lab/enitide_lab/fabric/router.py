"""The router's namespace: made once, with the source checks in force before the first cable is plugged."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pyroute2 import IPRoute

from enitide_api.errors import LabFailed
from enitide_lab.fabric.kernel import ROUTER_SYSCTLS, SOURCE_CHECK6
from enitide_lab.house import mounts

METADATA_ADDRESS = "169.254.169.254"
CONTROL_ADDRESS = "198.18.0.1"  # of the range for tests between networks (RFC 2544): no VPC uses it


def build_router(namespace: Path, own_addresses: Sequence[str] = ()) -> None:
    """Make the namespace; `own_addresses` are the fabric's own, on its loopback, which every node reaches."""
    mounts.make_namespace(namespace, ROUTER_SYSCTLS)
    mounts.in_namespace(namespace, lambda: _prepare(own_addresses))


def _prepare(own_addresses: Sequence[str]) -> None:
    rules = subprocess.run(["nft", "-f", "-"], input=SOURCE_CHECK6, capture_output=True, text=True, check=False)
    if rules.returncode != 0:
        raise LabFailed(f"the source check for IPv6 cannot be set up: {rules.stderr.strip()}")
    with IPRoute() as ipr:
        loopback = ipr.link_lookup(ifname="lo")[0]
        for address in own_addresses:
            ipr.addr("add", index=loopback, address=address, prefixlen=128 if ":" in address else 32)
