"""The eBPF datapath of one node, as the agent uses it: `Datapath` and the data it takes. See bpf/README.md."""

from __future__ import annotations

from enitide_enidp.datapath.datapath import Datapath
from enitide_enidp.datapath.types import ENI_MARK_MASK, Endpoint, Eni, NodeConfig, Routing, eni_mark

__all__ = ["ENI_MARK_MASK", "Datapath", "Endpoint", "Eni", "NodeConfig", "Routing", "eni_mark"]
