"""One value or table of a TOML text changes, and the rest of the text stays."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.model.definitions.toml_text import (
    TomlTextError,
    toml_of,
    with_table,
    with_value,
    without_table,
    without_value,
)

COMMENTED = """\
# the web server
name = "web1"   # its name
tags = [
  "a",  # [not a table]
  "b",
]

[params]   # of kvm
kernel_path = 'vmlinuz'
motd = \"\"\"
autostart = false
[nics]\"\"\"

# the system
[[disks]]
path = "web1.img"  # here

[[disks]]
path = "data.img"
"""


@pytest.mark.parametrize(
    ("place", "value", "before", "after"),
    [
        (("name",), "web2", 'name = "web1"   # its name', 'name = "web2"   # its name'),
        (("tags",), ["c"], 'tags = [\n  "a",  # [not a table]\n  "b",\n]', 'tags = ["c"]'),
        (("params", "kernel_path"), "/boot/k", "kernel_path = 'vmlinuz'", 'kernel_path = "/boot/k"'),
        (("params", "motd"), "x", 'motd = """\nautostart = false\n[nics]"""', 'motd = "x"'),
        (("disks", 0, "path"), "/srv/1", 'path = "web1.img"  # here', 'path = "/srv/1"  # here'),
        (("disks", 1, "path"), "/srv/2", 'path = "data.img"', 'path = "/srv/2"'),
    ],
)
def test_a_value_is_replaced_and_comments_stay(
    place: tuple[str | int, ...], value: object, before: str, after: str
) -> None:
    assert with_value(COMMENTED, place, value) == COMMENTED.replace(before, after)


def test_a_missing_value_is_added_to_its_table() -> None:
    assert with_value(COMMENTED, ("autostart",), True) == COMMENTED.replace(
        '  "b",\n]\n', '  "b",\n]\nautostart = true\n'
    )
    assert with_value(COMMENTED, ("disks", 0, "format"), "raw") == COMMENTED.replace(
        '"web1.img"  # here\n', '"web1.img"  # here\nformat = "raw"\n'
    )
    assert with_value("# nothing\n", ("autostart",), False) == "# nothing\nautostart = false\n"
    assert with_value("[params]\n", ("autostart",), False) == "autostart = false\n[params]\n"
    assert with_value('name = "a"', ("params", "x y"), 1) == 'name = "a"\n\n[params]\n"x y" = 1\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("params = { a = 1 }\n", ("params", "a")),  # inline
        ("params = { a = 1 }\n", ("params", "b")),
        ('disks = [{ path = "a" }]\n', ("disks", 0, "path")),
        ("[[disks]]\n", ("disks", 1, "path")),
        ("name = 1\n", ("name", "a", "b")),
    ],
)
def test_what_cannot_be_changed_is_refused(text: str, place: tuple[str | int, ...]) -> None:
    with pytest.raises(TomlTextError):
        with_value(text, place, 2)


@pytest.mark.parametrize("text", ["name = \n", 'a = """', "[[a]\n"])
def test_what_is_not_toml_is_refused(text: str) -> None:
    with pytest.raises(TomlTextError, match="is not TOML"):
        with_value(text, ("autostart",), True)


def test_other_forms_of_keys_and_texts_are_read() -> None:
    text = '"name" = \'a#b\' # c\r\nparams."a.b" = """x\\"""""\r\nparams.c = [{ d = \'\'\'#]\'\'\' }] # e\r\n'
    assert with_value(text, ("name",), "b") == text.replace("'a#b'", '"b"')
    assert with_value(text, ("params", "a.b"), 1) == text.replace('"""x\\"""""', "1")
    assert with_value(text, ("params", "c"), 1) == text.replace("[{ d = '''#]''' }]", "1")
    assert with_value(text, ("autostart",), True).count("\r\n") == 4


def test_tables_are_added_and_removed() -> None:
    more = with_table(COMMENTED, "disks", {"path": "/srv/3", "read_only": True})
    assert more == f'{COMMENTED}\n[[disks]]\npath = "/srv/3"\nread_only = true\n'
    assert tomllib.loads(without_table(more, "disks", 2)) == tomllib.loads(COMMENTED)
    first = without_table(COMMENTED, "disks", 0)
    assert "# the system" in first
    assert tomllib.loads(first)["disks"] == [{"path": "data.img"}]
    none = without_table(first, "disks", 0)
    assert "disks" not in tomllib.loads(none)
    assert with_table('name = "a"\n', "nics", {}) == 'name = "a"\n\n[[nics]]\n'


@pytest.mark.parametrize("text", ['disks = [{ path = "a" }]\n', "name = 1\n"])
def test_tables_that_are_written_inline_are_refused(text: str) -> None:
    with pytest.raises(TomlTextError):
        without_table(text, "disks", 0)
    with pytest.raises(TomlTextError):
        with_table('disks = [{ path = "a" }]\n', "disks", {"path": "b"})


SCALARS = (
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3), max_leaves=6
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5), st.text(max_size=8), VALUES)
def test_data_is_written_and_changed(data: dict[str, Any], key: str, value: object) -> None:
    text = toml_of(data)
    assert tomllib.loads(text) == data
    try:
        changed = with_value(text, (key,), value)
    except TomlTextError:
        assert key in data  # as a table
    else:
        assert tomllib.loads(changed) == {**data, key: value}


def test_what_toml_does_not_have_is_refused() -> None:
    for value in (object(), float("nan"), "\udc80", {"a": b"x"}):
        with pytest.raises(TomlTextError):
            toml_of({"a": value})
    assert toml_of({"a": None, "b": {"c": None}}) == "[b]\n"


def test_a_value_is_removed_with_its_line_and_nothing_else() -> None:
    text = 'name = "w"  # its name\nmemory_mib = 64\n\n[[disks]]\npath = "/a" # a\ncache = "none"\n[params]\nx.y = [\n  1,\n]\nz = 2'
    assert without_value(text, ("memory_mib",)) == text.replace("memory_mib = 64\n", "")
    assert without_value(text, ("disks", 0, "cache")) == text.replace('cache = "none"\n', "")
    assert without_value(text, ("params", "z")) == text.removesuffix("z = 2")
    assert without_value(text, ("params", "nothing")) == text
    assert without_value(text, ("disks", 7, "cache")) == text
    with pytest.raises(TomlTextError, match="only an editor"):
        without_value('disks = [{path = "/a", cache = "none"}]', ("disks", 0, "cache"))
    with pytest.raises(TomlTextError, match="only an editor"):
        without_value("params = {x = 1, y = 2}", ("params", "x"))
