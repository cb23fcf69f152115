"""`enitide operator`: the engine on real ports, under a Lease, until SIGTERM or SIGINT.

On a signal: no new decision and no new call, calls under way are awaited, then the Lease is given back, so that the
next leader starts at once and never beside us. A second signal ends the process as it stands; the Lease then expires.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

import click

from enitide_api.collector import collect_seldom
from enitide_api.errors import SettingsInvalid
from enitide_api.logging import configure, get_logger
from enitide_api.options import read_settings, settings_options
from enitide_api.reasons import Reason

if TYPE_CHECKING:
    from enitide_api.settings import OperatorSettings

_log = get_logger(__name__)


@click.command(help="Run the operator: EC2, pools, leases.")
@settings_options("operator")
def main(**flags: Any) -> None:
    """Read settings from flags, environment and file, and run until told to stop."""
    from enitide_api.settings import OperatorSettings

    settings = read_settings(OperatorSettings, "operator", flags)
    configure(settings.log_level, settings.log_format, component="operator")
    collect_seldom()
    asyncio.run(run(settings))


async def run(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    from enitide_kube.client import HttpKube
    from enitide_operator.ec2.wire import AwsEc2
    from enitide_operator.engine import Engine
    from enitide_operator.health import serve
    from enitide_operator.metrics import Metrics
    from enitide_operator.term import TermGate

    rng: Random = SystemRandom()
    identity = settings.identity or f"{socket.gethostname()}-{rng.getrandbits(32):08x}"
    gate, metrics = TermGate(), Metrics()
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(HttpKube.connect(settings.kubeconfig or None, "enitide-operator"))
        ec2 = await stack.enter_async_context(
            AwsEc2.connect(
                region=settings.aws_region
                or os.environ.get("AWS_REGION", ""),  # botocore reads AWS_DEFAULT_REGION alone
                endpoint_url=settings.aws_endpoint_url,
                call_timeout_s=settings.call_timeout,
                before_send=gate.require,
            )
        )
        now = steady_clock()
        engine = Engine(kube, ec2, settings, gate=gate, metrics=metrics, now=now, rng=rng, identity=identity)
        election = _election(kube, settings, identity, rng, engine)
        listener = serve(settings.metrics_address, metrics.registry, lambda: engine.ready, engine.preview)
        port = await stack.enter_async_context(listener)
        _log.info("operator", identity=identity, metrics_port=port, cluster=settings.cluster_name or "(none)")
        if not settings.cluster_name:
            _log.warning("no cluster name: ENIs carry no cluster tag and leaked ones are not swept")
        await _until_signal(engine, election)


def steady_clock() -> Callable[[], float]:
    """Unix seconds as of the start, moved on by the monotonic clock: a step of the wall clock changes no age."""
    began_unix, began = time.time(), time.monotonic()
    return lambda: began_unix + time.monotonic() - began


def _election(kube: Any, settings: OperatorSettings, identity: str, rng: Random, engine: Any) -> Any:
    from enitide_kube.lease import CALL_MAX_S, LeaderElection

    if settings.call_timeout > CALL_MAX_S:
        raise SettingsInvalid(f"--call-timeout: a leader's call may take at most {CALL_MAX_S:g}s: write that or less")

    def on_change(leading: bool) -> None:
        if leading:
            engine.lead(election.may_mutate)
        else:
            engine.follow()

    def on_state(reason: Reason | None, detail: str) -> None:
        if reason is not None:
            _log.warning("lease", reason=reason, why=detail)
        else:
            _log.info("lease reachable again")

    try:
        election = LeaderElection(
            kube,
            settings.lease_namespace,
            settings.lease_name,
            identity,
            rng=rng,
            duration_s=settings.lease_duration,
            renew_s=settings.lease_renew,
            on_change=on_change,
            on_state=on_state,
        )
    except ValueError as error:
        raise SettingsInvalid(f"--lease-duration, --lease-renew: {error}") from error
    return election


async def _until_signal(engine: Any, election: Any) -> None:
    """Run engine and election side by side; a failure of either ends both and the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)

    async def elect() -> None:
        await engine.synced()
        await election.run()

    running = loop.create_task(engine.run(), name="engine")
    electing = loop.create_task(elect(), name="election")
    stopping = loop.create_task(stop.wait(), name="signal")
    done, _ = await asyncio.wait({running, electing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    _log.info("stopping", because="signal" if stopping in done else "failure")
    await engine.drain()
    for task in (electing, running, stopping):
        task.cancel()
        await asyncio.wait({task})
    for task in (running, electing):
        if not task.cancelled() and task.exception() is not None:
            raise task.exception() or SystemError
    sys.stderr.flush()
