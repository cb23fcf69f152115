import subprocess
import sys

import click
import pytest

from enitide_api import cli
from enitide_api.commands import COMMANDS, Command
from enitide_api.errors import AgentUnreachable, KubeUnavailable, SettingsInvalid

pytestmark = pytest.mark.unit


def run(*args):
    return subprocess.run(
        [sys.executable, "-c", "from enitide_api.cli import main; main()", *args],
        capture_output=True,
        text=True,
        check=False,
    )


def exit_code(args, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    return caught.value.code, capsys.readouterr()


def test_help_lists_every_command_of_the_table(capsys):
    code, printed = exit_code(["--help"], capsys)
    assert code == 0
    for row in COMMANDS:
        assert row.name in printed.out
        assert row.help in " ".join(printed.out.split())


HEAVY = {
    "PIL", "aioboto3", "aiobotocore", "aiohttp", "bcc", "boto3", "botocore", "celpy", "jsonschema", "kubernetes",
    "matplotlib", "moto", "prometheus_client", "pydantic", "pyroute2", "rich", "structlog", "yaml",
}  # fmt: skip


@pytest.mark.parametrize("args", [(), *((row.name,) for row in COMMANDS)], ids=lambda args: " ".join(args) or "-")
def test_no_help_loads_a_client_a_settings_model_or_a_kernel_library(args):
    """Nor do groups' own: what `--help` needs is the table and the command's own module."""
    program = (
        "import sys\nfrom enitide_api.cli import main\n"
        f"try: main([*{args!r}, '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        f"heavy = {HEAVY!r} & {{name.partition('.')[0] for name in sys.modules}}\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_that_looks_shows_an_example():
    for name in ("why", "who", "plan", "frag", "forecast", "preflight", "gc"):
        done = run(name, "--help")
        assert f"enitide {name}" in done.stdout.replace("\n", " ").split("Example", 1)[1], name


def test_a_misspelt_command_is_answered_with_the_closest_right_one(capsys):
    code, printed = exit_code(["statsu"], capsys)
    assert code == 2
    assert "did you mean" in printed.err
    assert "status" in printed.err


def test_as_kubectl_plugin_the_help_names_kubectl(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-enitide"])
    assert "kubectl enitide" in exit_code(["--help"], capsys)[1].out


@pytest.mark.parametrize(
    ("error", "code"),
    [(SettingsInvalid("x"), 2), (KubeUnavailable("x"), 3), (AgentUnreachable("x"), 3), (click.UsageError("x"), 2)],
)
def test_an_error_becomes_its_exit_code_and_a_sentence_without_a_traceback(error, code, capsys, monkeypatch):
    @click.command()
    def failing():
        raise error

    monkeypatch.setattr(cli, "load", lambda _: failing)
    found, printed = exit_code(["status"], capsys)
    assert found == code
    assert "Traceback" not in printed.err
    assert "x" in printed.err


def test_a_command_whose_extra_is_missing_says_what_to_install():
    row = Command("x", "enitide_api.no_such_module_at_all:main", "h", "g", needs="lab")
    with pytest.raises(ModuleNotFoundError):
        cli.load(row)
    with pytest.raises(click.ClickException, match=r"pip install 'enitide\[lab\]'"):
        cli.load(Command("x", "no_such_package_at_all:main", "h", "g", needs="lab"))


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_every_command_explains_itself(row):
    done = run(row.name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_a_cluster_that_cannot_be_reached_is_exit_code_3(tmp_path):
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    done = run("status", "--kubeconfig", str(config))
    assert done.returncode == 3, done.stderr
    assert "APIUnavailable" in done.stderr
