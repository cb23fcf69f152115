"""`enitide operator` that cannot start: what is wrong in settings and environment is a sentence before any call."""

import pytest
import yaml

from enitide_api.errors import SettingsInvalid
from enitide_api.settings import Bucket, OperatorSettings
from enitide_operator.main import run

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Of an operator that would reach its cluster, in an environment that knows nothing of AWS."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(document))
    return OperatorSettings(kubeconfig=str(tmp_path / "config"), metrics_address="127.0.0.1:0")


async def refused(settings):
    with pytest.raises(SettingsInvalid) as caught:
        await run(settings)
    return str(caught.value)


async def test_without_a_region_it_says_where_to_write_one(settings):
    assert "--aws-region or set AWS_REGION" in await refused(settings)


async def test_aws_region_in_the_environment_is_the_region_meant(settings, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "no region")
    assert "no region" in await refused(settings)


async def test_what_the_aws_sdk_refuses_in_its_own_environment_is_a_wrong_setting(settings, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no url")
    assert "Invalid endpoint: no url" in await refused(settings)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in await refused(settings)


async def test_a_budget_for_a_verb_that_is_never_called_is_refused_and_lists_the_verbs(settings):
    wrong = {"budget": {"CreateInterface": Bucket(rate=1, burst=1)}, "aws_region": "us-west-2"}
    said = await refused(settings.model_copy(update=wrong))
    assert "'CreateInterface' is no verb of ours" in said
    assert "CreateNetworkInterface" in said
