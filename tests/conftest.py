"""For every test: Hypothesis judges what the code does, never how long it took on a busy machine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("enitide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("enitide")
