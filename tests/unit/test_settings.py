import click
import pytest
from click.testing import CliRunner

from enitide_api.errors import SettingsInvalid
from enitide_api.options import environment, flag, read_settings, settings_options
from enitide_api.resources import duration, seconds
from enitide_api.settings import AgentSettings, OperatorSettings

pytestmark = pytest.mark.unit


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("agent: {add_wait: 3s, mtu: 1500, node_name: from-file}\n")
    env = {"ENITIDE_MTU": "9001", "ENITIDE_NODE_NAME": "from-env"}
    found = read_settings(AgentSettings, "agent", {"config": file, "node_name": "from-flag"}, env)
    assert (found.add_wait, found.mtu, found.node_name, found.cni_version) == (3.0, 9001, "from-flag", "1.0.0")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"add_wiat": "3s"}, "did you mean 'add_wait'?"),
        ({"add_wait": "3"}, "write a number with a unit"),
        ({"cni_version": "2.0"}, "cni_version"),
        ({"mtu": 10000}, "mtu"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_write_instead(given, expected):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(AgentSettings, "agent", given, {})
    assert expected in str(caught.value)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(SettingsInvalid, match="lease_renew is too long"):
        read_settings(OperatorSettings, "operator", {"lease_duration": "10s"}, {})


def test_a_file_with_an_unknown_section_is_refused(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("agents: {}\n")
    with pytest.raises(SettingsInvalid, match="unknown key 'agents'"):
        read_settings(AgentSettings, "agent", {"config": file}, {})


def test_the_budget_is_read_as_json_from_a_flag_or_the_environment():
    text = '{"all": {"rate": 4, "burst": 20}}'
    for source in ({"budget": text}, {}):
        found = read_settings(OperatorSettings, "operator", source, {"ENITIDE_BUDGET": text})
        assert (found.budget["all"].rate, found.budget["all"].burst) == (4, 20)
    with pytest.raises(SettingsInvalid, match="--budget is no JSON"):
        read_settings(OperatorSettings, "operator", {"budget": "{"}, {})


@pytest.mark.parametrize("model", [OperatorSettings, AgentSettings])
def test_every_setting_has_a_flag_an_environment_name_and_a_meaning(model):
    @click.command()
    @settings_options(model)
    def command(**_):
        pass

    text = CliRunner().invoke(command, ["--help"]).output.replace("\n", " ")
    for name, field in model.model_fields.items():
        assert flag(name) in text
        assert environment(name) in "".join(text.split())
        assert field.description


@pytest.mark.parametrize(("text", "value_s"), [("30s", 30), ("1h30m", 5400), ("500ms", 0.5), ("0s", 0)])
def test_a_duration_reads_back_what_it_wrote(text, value_s):
    assert seconds(text) == value_s
    assert seconds(duration(value_s)) == value_s


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1d", "1 s"])
def test_a_malformed_duration_is_refused(text):
    with pytest.raises(ValueError, match="is no duration"):
        seconds(text)
