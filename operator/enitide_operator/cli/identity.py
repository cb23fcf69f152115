"""`enitide identity`: who is who in the cluster, as the API server has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from enitide_api.output import Column, emit, output_option
from enitide_api.resources import BatchEndpoint, EndpointBatch, SecurityIdentity
from enitide_kube.port import ENDPOINTBATCH, SECURITYIDENTITY, KubePort
from enitide_operator.cli.collect import list_all, with_kube
from enitide_policy.numbers import FIRST_NUMBER, Reserved

_COLUMNS = (
    Column("id", "id"),
    Column("namespace", "namespace"),
    Column("labels", "labels"),
    Column("endpoints", "endpoints"),
    Column("state", "state"),
    Column("name", "name", wide=True),
)
_ENDPOINTS = (Column("address", "address"), Column("node", "node"), Column("pod uid", "podUID"))
_kubeconfig = click.option("--kubeconfig", default=None, help="Cluster to read; default as kubectl.")


def records(batches: Iterable[EndpointBatch]) -> dict[str, BatchEndpoint]:
    """Address -> what the newest record says of it; addresses that nobody has are left out."""
    best: dict[str, BatchEndpoint] = {}
    for batch in batches:
        for record in batch.spec.endpoints:
            for address in record.addresses:
                if address not in best or best[address].revision < record.revision:
                    best[address] = record
    return {address: record for address, record in best.items() if record.identity}


def labels_text(found: SecurityIdentity) -> str:
    """The labels in one line: pod labels, then what else makes the identity."""
    spec = found.spec
    parts = [f"{key}={value}" for key, value in sorted(spec.pod_labels.items())]
    parts += [f"namespace:{key}={value}" for key, value in sorted(spec.namespace_labels.items())]
    parts += [f"serviceaccount={spec.service_account}"] if spec.service_account else []
    parts += [f"port:{each.name}={each.number}/{each.protocol}" for each in spec.ports]
    return ",".join(parts)


def rows(identities: Iterable[SecurityIdentity], known: Mapping[str, BatchEndpoint]) -> list[dict[str, Any]]:
    """One row an identity, reserved ones that some address has first."""
    by_identity: dict[int, list[dict[str, str]]] = {}
    for address, record in sorted(known.items()):
        row = {"address": address, "node": record.node, "podUID": record.pod_uid}
        by_identity.setdefault(record.identity, []).append(row)
    reserved: list[dict[str, Any]] = [
        {"id": number, "namespace": "", "labels": f"reserved:{Reserved(number).word}", "state": "reserved", "name": ""}
        for number in sorted(by_identity)
        if number < FIRST_NUMBER and number in list(Reserved)
    ]
    found: list[dict[str, Any]] = [
        {
            "id": each.spec.id,
            "namespace": each.spec.namespace,
            "labels": labels_text(each),
            "state": f"retired since {each.status.retired}" if each.status.retired else "in force",
            "name": each.metadata.name,
        }
        for each in sorted(identities, key=lambda each: each.spec.id)
    ]
    return [{**row, "where": by_identity.get(row["id"], [])} for row in (*reserved, *found)]


@click.group()
def main() -> None:
    """Who is who: identities, their labels, and which addresses have them."""


@main.command("list")
@click.option("--endpoints", is_flag=True, help="Also the addresses that have each.")
@_kubeconfig
@output_option
def list_(kubeconfig: str | None, form: str, *, endpoints: bool) -> None:
    """Every identity: number, labels, how many addresses have it."""
    found = [_shown(row, endpoints=endpoints) for row in _read(kubeconfig)]
    columns = (*_COLUMNS, Column("addresses", "addresses")) if endpoints else _COLUMNS
    emit(found, form, columns)


@main.command()
@click.argument("identity")
@click.option("--endpoints", is_flag=True, help="The addresses that have it, one a line.")
@_kubeconfig
@output_option
def get(identity: str, kubeconfig: str | None, form: str, *, endpoints: bool) -> None:
    """One identity, by its number or the name of its object."""
    found = [row for row in _read(kubeconfig) if identity in (str(row["id"]), row["name"])]
    if not found:
        raise click.UsageError(f"there is no identity {identity!r}: `enitide identity list` shows those there are")
    if endpoints:
        emit(found[0]["where"], form, _ENDPOINTS)
    else:
        emit(_shown(found[0], endpoints=False), form, _COLUMNS, [_shown(found[0], endpoints=False)])


def _shown(row: Mapping[str, Any], *, endpoints: bool) -> dict[str, Any]:
    where = row["where"]
    shown = {key: value for key, value in row.items() if key != "where"} | {"endpoints": len(where)}
    return shown | ({"addresses": [each["address"] for each in where]} if endpoints else {})


def _read(kubeconfig: str | None) -> list[dict[str, Any]]:
    async def reading(kube: KubePort) -> list[dict[str, Any]]:
        identities = await list_all(kube, SECURITYIDENTITY, SecurityIdentity)
        batches = await list_all(kube, ENDPOINTBATCH, EndpointBatch)
        return rows(identities, records(batches))

    return with_kube(kubeconfig, reading)
