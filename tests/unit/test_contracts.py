"""Schema, structs, reasons, errors and the tree: what must never drift apart."""

import ast
import inspect
from pathlib import Path

import msgspec
import pytest

from enitide_api import errors
from enitide_api.commands import COMMANDS
from enitide_api.crds import definitions
from enitide_api.reasons import DROP_TEXT, Drop, Reason
from enitide_api.resources import (
    EndpointBatch,
    ENIClass,
    ENINode,
    ENINodeSpec,
    Interface,
    SecurityIdentity,
    builtins,
    decode,
)
from enitide_api.subnetreport import SubnetReport
from enitide_ipam.limits import known_types, limits_for

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parent.parent.parent


def schema_of(file):
    return definitions()[file]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def compare(struct, schema, where):
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    assert set(fields) == set(schema["properties"]), where
    for name, kind in fields.items():
        inner = schema["properties"][name]
        inner = inner.get("items", inner)
        for candidate in [kind, *getattr(kind, "__args__", ())]:
            if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
                compare(candidate, inner, f"{where}.{name}")


@pytest.mark.parametrize(
    ("file", "struct"),
    [
        ("enitide.io_subnetreports.yaml", SubnetReport),
        ("enitide.io_eninodes.yaml", ENINode),
        ("enitide.io_eniclasses.yaml", ENIClass),
        ("enitide.io_securityidentities.yaml", SecurityIdentity),
        ("enitide.io_endpointbatches.yaml", EndpointBatch),
    ],
)
def test_every_field_of_a_struct_stands_in_its_schema_and_the_other_way_round(file, struct):
    schema = schema_of(file)
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    assert set(schema["properties"]) == set(fields)
    for part in {"spec", "status"} & set(fields):
        compare(fields[part], schema["properties"][part], part)


def every_schema(schema, where=""):
    yield where, schema
    for name, inner in schema.get("properties", {}).items():
        yield from every_schema(inner, f"{where}.{name}")
    if "items" in schema:
        yield from every_schema(schema["items"], f"{where}[]")


@pytest.mark.parametrize("file", list(definitions()))
def test_lists_and_strings_are_bounded_and_every_rule_says_what_to_write(file):
    for where, schema in every_schema(schema_of(file)):
        if schema.get("type") == "array":
            assert "maxItems" in schema, where
        if schema.get("type") == "string" and where not in (".apiVersion", ".kind"):
            assert "maxLength" in schema or schema.get("format") == "date-time", where
        for rule in schema.get("x-kubernetes-validations", ()):
            assert ":" in rule["message"], rule


def test_defaults_of_the_class_schema_equal_those_of_the_struct():
    def fill(schema):
        if schema.get("type") != "object" or "properties" not in schema:
            return schema.get("default")
        filled = {name: fill(inner) for name, inner in schema["properties"].items()}
        return {name: value for name, value in filled.items() if value not in (None, {})}

    from_schema = fill(schema_of("enitide.io_eniclasses.yaml")["properties"]["spec"])
    empty = decode(b'{"metadata":{},"spec":{}}', ENIClass).spec
    filled = msgspec.convert(from_schema, type(empty))
    assert filled == empty


def test_an_eninode_reads_back_what_it_wrote():
    node = ENINode(spec=ENINodeSpec(yielded=("10.0.0.1/32",)))
    assert decode(msgspec.json.encode(node), ENINode) == node


def test_a_part_of_a_merge_patch_replaces_what_stood_there():
    assert builtins(ENINodeSpec().demand) == {"inUse": 0, "cooling": 0, "waiting": 0}
    assert builtins(()) == []
    assert builtins(None) is None


def test_an_interface_always_shows_its_card_and_index():
    assert builtins(Interface(id="eni-1", card=0, index=0)) == {"id": "eni-1", "card": 0, "index": 0}


def leaves(root):
    for leaf in root.__subclasses__():
        yield leaf
        yield from leaves(leaf)


def test_every_error_stands_in_the_tree_at_the_top_of_its_module_with_a_reason_and_a_retry():
    drawn = inspect.getdoc(errors)
    for leaf in leaves(errors.EnitideError):
        assert leaf.__name__ in drawn, leaf
        assert leaf.reason in Reason
        assert leaf.retry in errors.Retry


def test_an_unknown_ec2_code_is_judged_by_its_http_status_alone():
    assert isinstance(errors.ec2_error("Whatever", "m", "V", 503), errors.EC2Ambiguous)
    assert isinstance(errors.ec2_error("Whatever", "RequestLimitExceeded", "V", 400), errors.EC2Refused)
    assert isinstance(errors.ec2_error("RequestLimitExceeded", "m", "V", 503), errors.EC2Throttled)


def test_every_drop_reason_has_a_number_of_its_own_and_a_text():
    assert set(DROP_TEXT) == set(Drop)
    assert len({int(d) for d in Drop}) == len(Drop.__members__)


def test_every_reason_has_a_section_in_the_runbook():
    headings = {
        line.removeprefix("## ").strip()
        for line in (ROOT / "docs" / "runbook.md").read_text().splitlines()
        if line.startswith("## ")
    }
    assert {str(r) for r in Reason} - headings == set()
    assert {d.word for d in Drop} - headings == set()


def test_the_operator_folder_never_shadows_pythons_own_operator_module():
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_the_unrelated_bcc_of_pypi_is_nowhere_a_dependency():
    for name in ("pyproject.toml", "requirements.lock"):
        for line in (ROOT / name).read_text().splitlines():
            assert not line.strip().strip('"').lower().startswith("bcc"), line


def test_every_command_of_the_table_can_be_found_without_importing_it():
    for row in COMMANDS:
        module = row.target.split(":")[0]
        rooms = [ROOT / room / Path(*module.split(".")) for room in ("api", "ipam", "operator", "enidp", "lab")]
        assert any(p.with_suffix(".py").exists() or (p / "__init__.py").exists() for p in rooms), row


def public_functions():
    for room in ("api", "ipam", "operator", "enidp", "lab"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                    yield path, node


def test_four_of_five_public_functions_and_classes_say_what_they_are():
    found = [ast.get_docstring(node) is not None for _, node in public_functions()]
    assert sum(found) / len(found) >= 0.8


def test_no_file_of_ours_is_longer_than_400_lines():
    for room in ("api", "ipam", "operator", "enidp", "lab", "bpf"):
        for path in (ROOT / room).rglob("*"):
            if path.suffix in (".py", ".c", ".h"):
                assert len(path.read_text().splitlines()) <= 400, path


def test_the_largest_instance_of_the_table_fits_into_an_eninode():
    limits = [limits_for(each) for each in known_types()]
    enis = max(sum(each.cards) for each in limits)
    addresses = max(sum(each.cards) * (each.ipv4_per_interface - 1) for each in limits)
    properties = schema_of("enitide.io_eninodes.yaml")["properties"]
    status, spec = (properties[part]["properties"] for part in ("status", "spec"))
    assert min(status["interfaces"]["maxItems"], status["pending"]["maxItems"]) >= enis
    assert min(status["releasing"]["maxItems"], spec["yielded"]["maxItems"]) >= addresses
