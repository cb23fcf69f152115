"""Flags and environment names made from the settings model, and the reading of all sources into one frozen value.

The flags stand in `flags.json`, generated from the model, so that `--help` loads no model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from enitide_api.errors import SettingsInvalid

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

    from enitide_api.settings import CommonSettings

S = TypeVar("S", bound="CommonSettings")
F = TypeVar("F", bound=Callable[..., Any])

_FLAGS = Path(__file__).with_name("flags.json")
# Environment names that are no settings: of the CNI plugin and `lab env`, and of where our own files lie.
_NO_SETTINGS = frozenset(f"ENITIDE_{name}" for name in ("SOCKET", "NETWORK", "NETNS", "BPF_DIR", "CNI_PLUGIN"))
# Kubernetes puts these into every container for a Service whose name begins with "enitide" (service links).
_SERVICE_LINK = re.compile(
    r"ENITIDE(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def flag(name: str) -> str:
    """`add_wait` -> `--add-wait`."""
    return "--" + name.replace("_", "-")


def environment(name: str) -> str:
    """`add_wait` -> `ENITIDE_ADD_WAIT`."""
    return "ENITIDE_" + name.upper()


def settings_options(section: Literal["operator", "agent"]) -> Callable[[F], F]:
    """A decorator that adds one click option per setting of the section, and `--config`."""
    rows = json.loads(_FLAGS.read_text())[section]

    def decorate(function: F) -> F:
        for name, row in reversed(rows.items()):
            function = click.option(flag(name), name, **_option(name, row))(function)
        text = "YAML file with settings; flags and environment override it."
        return click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=text)(
            function
        )

    return decorate


def _option(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    help_text = f"{row['help']} [{environment(name)}]"
    if "choices" in row:
        return {"type": click.Choice(row["choices"]), "default": None, "help": help_text}
    return {"default": None, "metavar": row["metavar"], "help": help_text}


def flag_rows(model: type[CommonSettings]) -> dict[str, dict[str, Any]]:
    """What `flags.json` holds of a model: by setting, its meaning and its choices or metavar."""
    return {name: _row(field) for name, field in model.model_fields.items()}


def _row(field: FieldInfo) -> dict[str, Any]:
    origin = get_origin(field.annotation)
    row: dict[str, Any] = {"help": (field.description or "").strip()}
    if origin is Literal:
        return row | {"choices": list(get_args(field.annotation))}
    kinds = {"dict": "JSON", "int": "NUMBER", "float": "DURATION"}
    return row | {"metavar": kinds.get(getattr(origin or field.annotation, "__name__", ""), "TEXT")}


def read_settings(model: type[S], section: str, flags: Mapping[str, Any], env: Mapping[str, str] | None = None) -> S:
    """Flags over environment over file over defaults. `SettingsInvalid` names each wrong key and what to write."""
    from pydantic import ValidationError

    source = dict(os.environ if env is None else env)
    _refuse_unknown(source)
    given = {name: value for name, value in flags.items() if name != "config" and value is not None}
    values = _from_file(flags.get("config"), section)
    values |= {name: source[environment(name)] for name in model.model_fields if source.get(environment(name))}
    values |= given
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is dict and isinstance(values.get(name), str):
            values[name] = _json(name, values[name])
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsInvalid(explain(error, model)) from None


def _refuse_unknown(source: Mapping[str, str]) -> None:
    """A misspelt environment name is an error like a misspelt key: otherwise a default would rule in silence."""
    from enitide_api.settings import AgentSettings, OperatorSettings

    known = {environment(name) for model in (OperatorSettings, AgentSettings) for name in model.model_fields}
    for name in sorted(source):
        if not name.startswith("ENITIDE_") or name in known | _NO_SETTINGS or _SERVICE_LINK.fullmatch(name):
            continue
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "see docs/reference/settings.md"
        raise SettingsInvalid(f"unknown environment name {name}: {hint}")


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsInvalid(f"{flag(name)} is no JSON ({error}): write for example '{{\"all\": {{...}}}}'") from None


def _from_file(path: Path | None, section: str) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise SettingsInvalid(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise SettingsInvalid(f"{path} must be a mapping with the keys operator and agent")
    unknown = sorted(set(content) - {"operator", "agent"})
    if unknown:
        raise SettingsInvalid(f"{path}: unknown key {unknown[0]!r}: write operator or agent")
    values = content.get(section) or {}
    if not isinstance(values, dict):
        raise SettingsInvalid(f"{path}: {section} must be a mapping of settings")
    return dict(values)


def explain(error: ValidationError, model: type[CommonSettings]) -> str:
    """The model's findings as sentences: which setting, what is wrong, what to write instead."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            close = get_close_matches(str(item["loc"][-1]), model.model_fields, n=1)
            lines.append(f"unknown key {where!r}" + (f": did you mean {close[0]!r}?" if close else ""))
        else:
            got = f" (got {item.get('input')!r})" if item["loc"] else ""
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{got}")
    return "; ".join(lines)
