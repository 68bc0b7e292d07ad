"""Any text in an instance file or on the command line: an exit code, one error, and no traceback."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import hvcore
from hvcore.cli.app import COMMANDS, hv

NODE = hvcore.Node(tempfile.mkdtemp(prefix="hvcore-test-"))
DRIVERS = ("fake", "kvm", "chroot")
KEYS = sorted({key for name in DRIVERS for key in NODE.driver(name).schema.params})
# Valid words, so that more code is reached than the first refusal.
WORDS = st.sampled_from(
    (
        *DRIVERS,
        "web1",
        "/",
        "/dev/null",
        "/etc/passwd",
        "a,b=c",
        "..",
        "-x",
        "default",
        "enabled",
        "disabled",
        "1",
        "0:1",
    )
)
TEXTS = WORDS | st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=12)
SCALARS = TEXTS | st.integers(-3, 2**63 - 1) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=6
)
DISKS = st.fixed_dictionaries({}, optional={"path": VALUES, "read_only": VALUES, "other": VALUES})
NICS = st.fixed_dictionaries({}, optional=dict.fromkeys(("mac", "mode", "link", "other"), VALUES))
INSTANCES = st.fixed_dictionaries(
    {"name": st.just("web1") | VALUES, "driver": st.sampled_from(DRIVERS) | VALUES},
    optional={
        "memory_mib": VALUES,
        "vcpus": VALUES,
        "uuid": VALUES,
        "profile": VALUES,
        "disks": st.lists(DISKS, max_size=3) | VALUES,
        "nics": st.lists(NICS, max_size=3) | VALUES,
        "params": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6) | VALUES,
        "other": VALUES,
    },
)


@pytest.fixture(autouse=True, scope="module")
def _removed() -> Iterator[None]:
    yield
    shutil.rmtree(NODE.run_dir)


def toml(value: Any) -> str:
    """The value in TOML, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def ended_well(arguments: list[str], stdin: str | None = None) -> None:
    ended = CliRunner().invoke(hv, ["--run-dir", str(NODE.run_dir), *arguments], input=stdin)
    assert ended.exit_code in range(6), (arguments, ended.output)
    assert "Traceback" not in ended.output, ended.output
    assert "internal error" not in ended.output, ended.output
    if ended.exit_code != 0 and "--json" not in arguments:
        assert ended.stderr.startswith("hv: "), ended.output
        assert ended.stdout == ""


@pytest.mark.heavy  # whole instances, each through a whole command
@given(INSTANCES, st.sampled_from(["check", "verify", "plan"]), st.booleans())
def test_any_instance_file_is_accepted_or_refused(data: dict[str, Any], subcommand: str, as_json: bool) -> None:  # noqa: FBT001
    text = "".join(f"{key} = {toml(value)}\n" for key, value in data.items())
    if data.get("driver") == "kvm":
        subcommand = "check"  # the others would start QEMU
    ended_well([subcommand, "-", *(["--json"] if as_json else [])], stdin=text)


@given(st.binary(max_size=40))
def test_any_bytes_for_an_instance_file_are_refused(data: bytes) -> None:
    ended = CliRunner().invoke(hv, ["check", "-"], input=data)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("hv: stdin: ")


@given(
    st.sampled_from([name for section in COMMANDS.values() for name in section if name in {"info", "stop", "list"}]),
    st.lists(st.sampled_from(["--json", "--force", "--deadline", "--", "-h"]) | TEXTS, max_size=3),
)
def test_any_command_line_ends_with_an_exit_code(subcommand: str, arguments: list[str]) -> None:
    ended_well([subcommand, *arguments])


def test_nothing_was_made() -> None:
    assert [path for path in Path(NODE.run_dir).rglob("*") if path.is_file() and "cache" not in path.parts] == []
