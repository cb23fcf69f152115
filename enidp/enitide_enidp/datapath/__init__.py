"""The eBPF datapath of one node, as the agent uses it: `Datapath` and the data it takes. See bpf/README.md."""

from __future__ import annotations

from enitide_enidp.datapath.datapath import Datapath
from enitide_enidp.datapath.policymaps import PolicyMaps
from enitide_enidp.datapath.rulesets import Applied
from enitide_enidp.datapath.types import (
    ENI_MARK_MASK,
    Endpoint,
    EndpointPolicy,
    Eni,
    NodeConfig,
    Routing,
    eni_mark,
)

__all__ = [
    "ENI_MARK_MASK",
    "Applied",
    "Datapath",
    "Endpoint",
    "EndpointPolicy",
    "Eni",
    "NodeConfig",
    "PolicyMaps",
    "Routing",
    "eni_mark",
]
