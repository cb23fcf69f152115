"""Build hook: a wheel carries the compiled eBPF objects and the CNI plugin, for no node has a compiler.

An editable install finds them in the checkout instead. A wheel without them would fail on the first node, so building
one is refused until `make setup` (or `make -C bpf && make -C enidp/cni`) has made them.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {
    "build/bpf/entry.bpf.o": "enitide_enidp/datapath/compiled/entry.bpf.o",
    "build/bpf/eni.bpf.o": "enitide_enidp/datapath/compiled/eni.bpf.o",
    "build/bpf/pod.bpf.o": "enitide_enidp/datapath/compiled/pod.bpf.o",
    "build/cni/enitide-cni": "enitide_enidp/cni/compiled/enitide-cni",
}


class CompiledHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled files to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "editable" or "standard"; called before the files are collected."""
        if version == "editable":
            return
        missing = [name for name in CARRIED if not (Path(self.root) / name).is_file()]
        if missing:
            raise FileNotFoundError(f"not built: {', '.join(missing)}; run `make setup` first")
        build_data["force_include"].update(CARRIED)
        build_data["pure_python"] = False
        build_data["infer_tag"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
