"""The few commands that talk to EC2 themselves: where to, and the operator's own gateway without a term.

These are run by hand, with the credentials of whoever runs them. The gateway's budget and error classes are the
operator's; there is no Lease, so a command that changes anything rests on tags and on what is written down alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from enitide_operator.ec2.gateway import Gateway

F = TypeVar("F", bound=Callable[..., Any])


def aws_options(function: F) -> F:
    """`--aws-region`, `--aws-endpoint-url`, `--cluster-name`, as the operator has them."""
    for option in (
        click.option("--aws-endpoint-url", default="", envvar="ENITIDE_AWS_ENDPOINT_URL",
                     help="EC2 endpoint; default AWS_ENDPOINT_URL, else AWS's own."),
        click.option("--aws-region", default="", envvar="ENITIDE_AWS_REGION",
                     help="Region; default AWS_REGION, else the AWS configuration."),
        click.option("--cluster-name", default="", envvar="ENITIDE_CLUSTER_NAME", show_envvar=True,
                     help="The operator's --cluster-name: the tag by which ENIs are ours."),
    ):  # fmt: skip
        function = option(function)
    return function


class _Unbound:
    """No term, and nobody who counts."""

    def require(self) -> None:
        """Whoever runs a command by hand may."""

    def called(self, verb: str, outcome: str, took_s: float) -> None:
        """Not counted."""

    def waited(self, verb: str, waited_s: float) -> None:
        """Not counted."""


@asynccontextmanager
async def gateway(region: str, endpoint_url: str) -> AsyncIterator[Gateway]:
    """The operator's way to EC2, for the length of the context."""
    from enitide_operator.ec2.budget import Budget
    from enitide_operator.ec2.gateway import Gateway
    from enitide_operator.ec2.wire import AwsEc2

    unbound = _Unbound()
    async with AwsEc2.connect(region=region or os.environ.get("AWS_REGION", ""), endpoint_url=endpoint_url) as ec2:
        yield Gateway(ec2, Budget(), unbound, unbound, now=time.time, rng=SystemRandom())
