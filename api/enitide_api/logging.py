"""Structured logs, set up once per process: JSON in a cluster, readable lines at a terminal, always on stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any


def configure(level: str = "info", log_format: str = "auto", *, component: str = "") -> None:
    """Route structlog and the standard library to stderr. `log_format`: auto, json or console."""
    import structlog

    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(levelname)s %(name)s %(message)s", force=True)
    for noisy in ("botocore", "aiobotocore", "urllib3", "aiohttp.access", "pyroute2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if component:
        structlog.contextvars.bind_contextvars(component=component)


def get_logger(name: str) -> Any:
    """A logger whose events are short constants and whose facts are keyword arguments."""
    return _Late(name)


class _Late:
    """structlog's logger, loaded when something is said: most commands, and every `--help`, say nothing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger: Any = None

    def __getattr__(self, method: str) -> Any:
        if self._logger is None:
            import structlog

            self._logger = structlog.get_logger(source=self._name)
        return getattr(self._logger, method)
