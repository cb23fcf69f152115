"""`enitide identity`: what its rows say."""

import pytest

from enitide_api.resources import (
    BatchEndpoint,
    EndpointBatch,
    EndpointBatchSpec,
    Metadata,
    SecurityIdentity,
    SecurityIdentitySpec,
    SecurityIdentityStatus,
)
from enitide_operator.cli.identity import records, rows

pytestmark = pytest.mark.unit


def batch(*endpoints):
    return EndpointBatch(spec=EndpointBatchSpec(endpoints=endpoints))


def identity(number, retired="", **labels):
    spec = SecurityIdentitySpec(id=number, namespace="d", pod_labels=labels, namespace_labels={"team": "x"})
    status = SecurityIdentityStatus(retired=retired)
    return SecurityIdentity(metadata=Metadata(name=f"n{number}"), spec=spec, status=status)


def test_of_two_records_for_an_address_the_newer_is_shown_and_a_removed_address_is_nobodys():
    old = BatchEndpoint(addresses=("10.0.0.1", "10.0.0.2"), pod_uid="old", identity=300, node="n", revision=1)
    new = BatchEndpoint(addresses=("10.0.0.1",), pod_uid="new", identity=301, node="n", revision=3)
    gone = BatchEndpoint(addresses=("10.0.0.2",), revision=2)
    assert {a: r.pod_uid for a, r in records([batch(new), batch(old, gone)]).items()} == {"10.0.0.1": "new"}


def test_a_row_shows_number_labels_state_and_who_has_it():
    known = {"10.0.0.1": BatchEndpoint(addresses=("10.0.0.1",), pod_uid="u", identity=300, node="n", revision=1)}
    first, second = rows([identity(301, retired="2026-01-01T00:00:00Z"), identity(300, app="web")], known)
    assert (first["id"], first["labels"], first["state"]) == (300, "app=web,namespace:team=x", "in force")
    assert first["where"] == [{"address": "10.0.0.1", "node": "n", "podUID": "u"}]
    assert second["state"] == "retired since 2026-01-01T00:00:00Z"
    assert second["where"] == []


def test_nodes_are_shown_under_their_reserved_identity():
    known = {"10.0.0.9": BatchEndpoint(addresses=("10.0.0.9",), identity=6, node="n", revision=1)}
    (row,) = rows([], known)
    assert (row["id"], row["labels"], row["state"]) == (6, "reserved:remote-node", "reserved")
