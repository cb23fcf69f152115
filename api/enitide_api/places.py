"""Defaults of the settings that commands of a node name too: here, so that their `--help` loads no settings model."""

from __future__ import annotations

from pathlib import Path

RUN_DIR = Path("/run/enitide")
PIN_DIR = Path("/sys/fs/bpf/enitide")
