"""The reference page and what the other pages say of metrics: no name that nobody exports."""

import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def names():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import generate_metrics as made
    finally:
        sys.path.pop(0)
    rows = [*made.rows(made.operator_registry()), *made.rows(made.agent_registry())]
    assert len(rows) > 50
    assert all(labels is not None and text for _, _, labels, text in rows)
    return {name for name, *_ in rows}


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_every_metric_that_a_page_names_is_exported(page, names):
    text = page.read_text()
    # `enitide_operator` alone is a package, `enitide_operator_ec2_...` a metric
    for found in set(re.findall(r"\benitide_[a-z0-9_]+_[a-z0-9_]+\b", text)):
        base = re.sub(r"_(count|sum|bucket)$", "", found)
        assert {found, base} & names, f"{page.name}: {found}"
    if page.name == "metrics.md":
        table = text.partition("## For those")[2]
        columns = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")][2:]
        for found in re.findall(r"`([a-z0-9_]+)", "\n".join(columns)):
            assert f"enitide_operator_{found}" in names or found == "node_metrics", found


def test_no_metric_is_labelled_by_node_but_with_the_setting():
    from enitide_operator.gauges import FAMILIES, NODE_FAMILIES

    assert not [each.name for each in FAMILIES if "node" in each.labels]
    assert all("node" in each.labels for each in NODE_FAMILIES)
