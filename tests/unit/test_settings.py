import click
import pytest
from click.testing import CliRunner

from enitide_api.durations import duration, seconds
from enitide_api.errors import SettingsInvalid
from enitide_api.options import environment, flag, read_settings, settings_options
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
        ({"mtu": 1279}, "write 0 for that of the ENI, or 1280 to 9001"),
        ({"metrics_address": "foo"}, "metrics_address: write HOST:PORT"),
        ({"metrics_address": "127.0.0.1:65536"}, "write HOST:PORT"),
        ({"metadata_endpoint": "169.254.169.254"}, "metadata_endpoint: write a URL such as http://"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_write_instead(given, expected):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(AgentSettings, "agent", given, {})
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"aws_endpoint_url": "ec2.local"}, "aws_endpoint_url: write a URL"),
        ({"aws_region": "us west"}, "aws_region: write a region such as us-west-2"),
        ({"call_timeout": "0s"}, "call_timeout"),
        ({"call_timeout": "20s"}, "call_timeout"),
        ({"budget": {"all": {"rate": 0, "burst": 5}}}, "budget.all.rate"),
        ({"budget": {"all": {"rate": 1, "burst": 5, "brust": 6}}}, "unknown key 'budget.all.brust'"),
    ],
)
def test_a_wrong_operator_setting_is_refused_with_what_to_write_instead(given, expected):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(OperatorSettings, "operator", given, {})
    assert expected in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:0", ":9808", "[::1]:65535", "localhost:9"])
def test_an_address_to_listen_on_is_host_and_port(address):
    assert read_settings(AgentSettings, "agent", {"metrics_address": address}, {}).metrics_address == address


def test_a_misspelt_environment_name_is_refused_and_the_right_one_named():
    with pytest.raises(SettingsInvalid, match=r"ENITIDE_ADD_WIAT: did you mean ENITIDE_ADD_WAIT\?"):
        read_settings(AgentSettings, "agent", {}, {"ENITIDE_ADD_WIAT": "3s"})


def test_names_that_kubernetes_or_the_cni_plugin_put_into_the_environment_are_none_of_our_settings():
    links = {
        "ENITIDE_OPERATOR_SERVICE_HOST": "10.0.0.1",
        "ENITIDE_OPERATOR_SERVICE_PORT_METRICS": "9808",
        "ENITIDE_PORT": "tcp://10.0.0.1:9808",
        "ENITIDE_PORT_9808_TCP_ADDR": "10.0.0.1",
    }
    env = {**links, "ENITIDE_SOCKET": "/run/x.sock", "ENITIDE_LEASE_NAME": "of the operator"}
    assert read_settings(AgentSettings, "agent", {}, env) == AgentSettings()


@pytest.mark.parametrize(("name", "value", "bound"), [("lease_duration", "44s", "45"), ("lease_renew", "21s", "20")])
def test_a_lease_that_would_not_keep_terms_apart_is_refused_with_its_bound(name, value, bound):
    with pytest.raises(SettingsInvalid, match=f"{name}: .* {bound}"):
        read_settings(OperatorSettings, "operator", {name: value}, {})


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


@pytest.mark.parametrize(("model", "section"), [(OperatorSettings, "operator"), (AgentSettings, "agent")])
def test_every_setting_has_a_flag_an_environment_name_and_a_meaning(model, section):
    @click.command()
    @settings_options(section)
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
