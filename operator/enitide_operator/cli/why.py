"""`enitide why POD|NODE`: the chain from a pending pod to the subnet, with the first link that does not hold."""

from __future__ import annotations

from typing import Any

import click

from enitide_api.output import Column, emit, output_option, paint
from enitide_operator.cli.chain import Answer
from enitide_operator.cli.collect import cluster_options, with_kube
from enitide_operator.cli.evidence import answer_for

_COLUMNS = (Column("link", "link"), Column("holds", "holds"), Column("reason", "reason"), Column("says", "says"))
_COLOURS = {"ok": "green", "waits": "yellow", "broken": "red", "unknown": "bright_black"}


@click.command(epilog="Examples: enitide why shop/web-7f9c   enitide why ip-10-0-1-7.ec2.internal")
@click.argument("subject", metavar="POD|NODE")
@click.option("-n", "--namespace", default="", help="Namespace of the pod; also as NAMESPACE/POD.")
@cluster_options
@output_option
def main(subject: str, namespace: str, form: str, **where: Any) -> int:
    """Why POD has no address, or why NODE is not at its tide: every link, and the first one that is broken.

    Exit code 0: nothing is amiss; 1: something waits or is broken.
    """
    lease = (where["lease_namespace"], where["lease_name"])
    answer = with_kube(where["kubeconfig"], lambda kube: answer_for(kube, subject, namespace, lease))
    if form in ("json", "yaml"):
        emit(as_json(answer), form)
    else:
        emit([_row(each) for each in as_json(answer)["links"]], form, _COLUMNS)
        click.echo()
        click.echo(sentence(answer))
        for each in answer.unseen:
            click.echo(f"not seen: {each}")
    return 0 if answer.cause is None else 1


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as plain data."""
    links = [
        {"link": each.name, "holds": each.holds.value, "reason": str(each.reason) or None, "says": each.says}
        for each in answer.links
    ]
    cause = next((row for row, each in zip(links, answer.links, strict=True) if each is answer.cause), None)
    return {
        "subject": answer.subject,
        "links": links,
        "cause": cause,
        "next": answer.next or None,
        "unseen": list(answer.unseen),
    }


def sentence(answer: Answer) -> str:
    """The verdict in a line or two."""
    cause = answer.cause
    if cause is None:
        return f"{answer.subject}: nothing is amiss."
    word = "is broken" if cause.holds == "broken" else "waits"
    reason = f"{cause.reason}: " if cause.reason else ""
    return f"{answer.subject}: {cause.name} {word}: {reason}{cause.says}." + (
        f"\n{answer.next}." if answer.next else ""
    )


def _row(link: dict[str, Any]) -> dict[str, Any]:
    return link | {"holds": paint(link["holds"], _COLOURS[link["holds"]])}
