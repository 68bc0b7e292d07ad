"""The descriptions of a schema: rows, text, Markdown, JSON Schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.params.host_types import address, address_or_path, cpu_mask, directory, file, file_or_url
from hvcore.params.param import Param, ParamGroup, ParamType, Reject
from hvcore.params.reference import json_schema, markdown, rows
from hvcore.params.schema import Schema
from hvcore.params.types import boolean, integer, name, one_of, port, regexp, seconds, size_mib, text

TYPES: dict[str, ParamType] = {
    "boolean": boolean(),
    "integer": integer(-3, 100),
    "port": port(),
    "words": one_of("ide", "scsi-hd"),
    "numbers": one_of(0, 1, 4, 6),
    "explained": one_of({"ide": "As an IDE disk.", "scsi-hd": "As a SCSI disk."}),
    "size_mib": size_mib(64),
    "seconds": seconds(0.5, 60),
    "text": text(40),
    "empty": text(empty=True),
    "name": name(),
    "regexp": regexp("[a-f]{2}(:[a-f]{2})*", "letters in pairs"),
    "address": address(),
    "address_or_path": address_or_path(),
    "cpu_mask": cpu_mask(),
    "cpu_masks": cpu_mask(multi=True),
    "file": file(),
    "directory": directory(),
    "file_or_url": file_or_url(),
}
# Where JSON Schema has no word for a part of the check: it may say yes where the check says no, never the reverse.
LOOSE = {
    "size_mib",
    "text",
    "empty",
    "cpu_mask",
    "cpu_masks",
    "file",
    "directory",
    "file_or_url",
}

SCHEMA = Schema.compile(
    [
        (
            "hv-kvm 0.1",
            ParamGroup(
                "machine",
                Param("acpi", boolean(), default=True, help="Whether there is ACPI."),
                Param("kernel", file(), help="The kernel.", example="/boot/vmlinuz"),
                Param("speed", integer(0, 9), default=3, unit="MiB per second", help="How fast.", changes="live"),
                help="The machine.",
            ),
        ),
        (
            "hv-vnc 2.0",
            ParamGroup(
                "vnc",
                Param("mode", one_of("a|b", "<c>"), default="a|b", help="Which.", since="0.2", changes="launch"),
                Param("password", text(64), secret=True, default="hunter2", example="hunter3", help="The password."),
                Param("root", directory(), required=True, help="Where it is."),
            ),
        ),
    ]
)


def accepts(schema: dict[str, Any], value: object) -> bool:
    """What JSON Schema (draft 2020-12) says about a value, for the keywords in use; KeyError for another."""
    notes = {"description", "default", "examples", "writeOnly", "$schema", "$comment", "title"}
    return all(
        _KEYWORDS[word](rule, value, schema)
        for word, rule in schema.items()
        if word not in notes and not word.startswith("x-")
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return _is_number(value) and (isinstance(value, int) or float(str(value)).is_integer())


_TYPES: dict[str, Any] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
}
_KEYWORDS: dict[str, Any] = {
    "type": lambda rule, value, _: _TYPES[rule](value),
    "enum": lambda rule, value, _: any(
        value == one and isinstance(value, bool) == isinstance(one, bool) for one in rule
    ),
    "minimum": lambda rule, value, _: not _is_number(value) or value >= rule,
    "maximum": lambda rule, value, _: not _is_number(value) or value <= rule,
    "minLength": lambda rule, value, _: not isinstance(value, str) or len(value) >= rule,
    "maxLength": lambda rule, value, _: not isinstance(value, str) or len(value) <= rule,
    "pattern": lambda rule, value, _: not isinstance(value, str) or re.search(rule, value) is not None,
    "not": lambda rule, value, _: not accepts(rule, value),
    "oneOf": lambda rule, value, _: sum(accepts(one, value) for one in rule) == 1,
    "const": lambda rule, value, _: value == rule and isinstance(value, bool) == isinstance(rule, bool),
    "anyOf": lambda rule, value, _: any(accepts(one, value) for one in rule),
    "required": lambda rule, value, _: not isinstance(value, dict) or set(rule) <= value.keys(),
    "properties": lambda rule, value, _: (
        not isinstance(value, dict) or all(accepts(rule[key], one) for key, one in value.items() if key in rule)
    ),
    "additionalProperties": lambda rule, value, schema: (
        rule is False and (not isinstance(value, dict) or value.keys() <= schema["properties"].keys())
    ),
}

WORDS = st.sampled_from(
    [
        *(
            "ide",
            "scsi-hd",
            "512",
            "512M",
            "2G",
            "1.5 GiB",
            "2GB",
            "0-3,5",
            "all",
            "all:1",
            "1,",
            "127.0.0.1",
            "::1",
            "",
            "/",
        ),
        *(
            "/a",
            "/a/",
            "//a",
            "/a/../b",
            "/..\n",
            "/...",
            "/a\nb",
            "/.",
            "/..",
            "a/b",
            "http://h/",
            "file:///x",
            "ab",
            "ab:cd",
        ),
        *("ab\n", "-a", "a.b", "a\u2028", "\x85", "/a\0", "a" * 41),
    ]
)
VALUES = st.one_of(
    WORDS,
    st.text(st.sampled_from("/.,:-0123aMG\n\0é"), max_size=12),
    st.text(max_size=60),
    st.integers(-5, 70000),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


def parses(kind: ParamType, value: object) -> bool:
    try:
        kind.parse(value)
    except Reject:
        return False
    return True


@pytest.mark.parametrize("which", TYPES)
@given(value=VALUES)
def test_the_json_schema_of_a_type_agrees_with_its_check(which: str, value: object) -> None:
    kind = TYPES[which]
    said, checked = accepts(kind.json_schema(), value), parses(kind, value)
    integral = isinstance(value, float) and value.is_integer()  # 1.0 is an integer to JSON Schema
    if said != checked:
        assert said
        assert which in LOOSE or integral
        # What is loose is loose inside the right JSON type only.
        assert isinstance(value, str) or integral


@given(
    st.dictionaries(st.sampled_from([*SCHEMA.params, "other"]), VALUES | st.just("/ok"), max_size=6)
    | st.fixed_dictionaries({"root": st.just("/ok")}, optional={"acpi": st.booleans(), "speed": st.integers(-1, 10)})
)
def test_the_json_schema_of_the_whole_accepts_what_the_check_accepts(values: dict[str, object]) -> None:
    said = accepts(json_schema(SCHEMA, title="kvm"), values)
    params, problems = SCHEMA.problems(values)
    if params is not None:
        assert said
    elif any("not a parameter" in problem.what or "required" in problem.what for problem in problems):
        assert not said


def test_a_real_validator_reads_the_json_schema_the_same_way() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    whole = json_schema(SCHEMA, title="kvm")
    jsonschema.Draft202012Validator.check_schema(whole)
    samples = ["ide", "2G", "/a", "/a/..", "ab\n", "::1", 5, 5.5, True, None, [1], {}, "", "all:1", "1.0.0.1", 10**30]
    for kind in TYPES.values():
        schema = kind.json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        assert [validator.is_valid(value) for value in samples] == [accepts(schema, value) for value in samples]


def test_the_json_schema_of_the_whole_is_closed_and_carries_what_people_read() -> None:
    whole = json_schema(SCHEMA, title="kvm")
    assert (whole["type"], whole["additionalProperties"], whole["required"]) == ("object", False, ["root"])
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert whole["properties"]["speed"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 9,
        "description": "How fast.",
        "default": 3,
        "x-unit": "MiB per second",
        "x-since": "0.1",
        "x-changes": "live",
        "x-group": "machine",
        "x-owner": "hv-kvm 0.1",
    }
    assert whole["properties"]["kernel"]["anyOf"][1] == {"type": "null"}
    assert whole["properties"]["kernel"]["x-node-check"] == "file"
    assert whole["properties"]["password"]["writeOnly"] is True


def test_changing_the_json_schema_of_a_type_does_not_change_the_type() -> None:
    kind = size_mib()
    kind.json_schema()["anyOf"].clear()
    assert kind.json_schema()["anyOf"]


def test_rows_have_all_parameters_in_order() -> None:
    assert [(row.key, row.group, row.owner) for row in rows(SCHEMA)] == [
        ("acpi", "machine", "hv-kvm 0.1"),
        ("kernel", "machine", "hv-kvm 0.1"),
        ("speed", "machine", "hv-kvm 0.1"),
        ("mode", "vnc", "hv-vnc 2.0"),
        ("password", "vnc", "hv-vnc 2.0"),
        ("root", "vnc", "hv-vnc 2.0"),
    ]
    assert json.loads(json.dumps([row.to_json() for row in rows(SCHEMA)]))[2]["unit"] == "MiB per second"


def test_a_chapter_for_each_group_and_a_section_for_each_parameter() -> None:
    assert markdown(SCHEMA).startswith(
        "## machine\n"
        "\n"
        "The machine.\n"
        "\n"
        "### `acpi`\n"
        "\n"
        "Whether there is ACPI.\n"
        "\n"
        "- Value: true or false\n"
        "- Default: `true`\n"
        "- A change takes effect: at the next start\n"
        "- Since: 0.1\n"
        "\n"
        "### `kernel`\n"
    )
    assert markdown(SCHEMA).endswith("- Since: 0.1\n")


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("kernel", '- Example: `kernel = "/boot/vmlinuz"`'),
        ("kernel", "- Default: unset"),
        ("speed", "- Value: a whole number from 0 to 9, in MiB per second"),
        ("speed", "- A change takes effect: at once in a later release; in this one at the next launch of the process"),
        ("mode", "- Value: one of 'a|b', '\\<c>'"),
        ("mode", "- A change takes effect: at the next launch of the process"),
        ("password", "- Value: one line of text of at most 64 bytes (secret)"),
        ("password", '- Default: `"<secret>"`'),
        ("root", "- Default: none (required)"),
    ],
)
def test_a_section_has_the_facts_of_its_parameter(key: str, line: str) -> None:
    section = markdown(SCHEMA).partition(f"\n### `{key}`\n")[2].partition("\n#")[0]
    assert line in section.splitlines()


EXPLAINED = Param(
    "firmware",
    one_of({"bios": "Start with SeaBIOS.", "uefi": "Start with OVMF, see uefi_path."}),
    help="The firmware of the guest.",
    default_means="QEMU decides",
    example="uefi",
    deprecated="use machine_type",
    removed_in="2.0",
)


def test_the_whole_text_of_a_parameter() -> None:
    schema = Schema([("x", ParamGroup("boot", EXPLAINED))])
    (row,) = rows(schema)
    assert (
        row.text()
        == """firmware
    The firmware of the guest.

    Value: one of 'bios', 'uefi'
        bios: Start with SeaBIOS.
        uefi: Start with OVMF, see uefi_path.
    Default: QEMU decides
    Example: firmware = "uefi"
    A change takes effect: at the next start
    Since: 0.1
    Deprecated: will be removed in release 2.0; use machine_type"""
    )
    page = markdown(schema).splitlines()
    assert page[page.index("- Value: one of 'bios', 'uefi'") + 2] == "  - `uefi`: Start with OVMF, see `uefi_path`."
    assert row.to_json()["choices"]["bios"] == "Start with SeaBIOS."


def test_the_value_that_the_node_sets_is_in_the_text() -> None:
    values, _ = SCHEMA.problems({"root": "/srv"}, below=[("node", {"speed": 5})])
    assert "    On this node: 5 (node)" in rows(SCHEMA, values)[2].text().splitlines()


def test_the_json_schema_has_the_meanings_of_choices_and_default() -> None:
    number = Param("cores", integer(0, 9), default=0, help="Cores.", default_means="QEMU decides")
    found = json_schema(Schema([("x", ParamGroup("boot", EXPLAINED, number))]), title="x")["properties"]
    assert found["firmware"]["anyOf"][0]["oneOf"][0] == {"const": "bios", "description": "Start with SeaBIOS."}
    assert found["firmware"]["description"] == "The firmware of the guest. Default: QEMU decides."
    assert (found["cores"]["description"], found["cores"]["default"]) == ("Cores. Default: 0, QEMU decides.", 0)


def test_a_parameter_named_in_a_text_is_a_link_and_other_names_are_code() -> None:
    one = Param("disk_cache", boolean(), help="Goes with disk_aio, memory_mib and <b>*.")
    page = markdown(Schema([("x", ParamGroup("disk", one, Param("disk_aio", boolean(), help="How.")))]))
    assert "Goes with [`disk_aio`](#disk_aio), `memory_mib` and \\<b>\\*." in page


def test_a_secret_is_in_no_description() -> None:
    everything = markdown(SCHEMA) + json.dumps(json_schema(SCHEMA, title="kvm")) + repr(rows(SCHEMA))
    assert "hunter" not in everything
