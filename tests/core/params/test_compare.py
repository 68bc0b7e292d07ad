"""What a change of a parameter asks of the next version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.params.compare import Bump, as_schema, compare_schemas, largest
from hvcore.params.host_types import address, directory, file
from hvcore.params.param import Param, ParamGroup, ParamType, Reject
from hvcore.params.reference import json_schema, rows
from hvcore.params.schema import Schema
from hvcore.params.types import boolean, integer, list_of, name, one_of, regexp, seconds, size_mib, text


def schema_of(*params: Param) -> Schema:
    return Schema.compile([("x (hv-x 1.0)", ParamGroup("g", *params))])


def made(*params: Param) -> dict[str, Any]:
    return json_schema(schema_of(*params), title="x")


def param(kind: ParamType | None = None, **more: Any) -> Param:
    return Param("p", kind or integer(0, 9), **{"help": "A number.", **more})


CHANGES: dict[str, tuple[list[Param], list[Param], str, Bump]] = {
    "added": ([], [param()], "added", Bump.MINOR),
    "added and required": ([], [param(required=True)], "added", Bump.MAJOR),
    "removed": ([param()], [], "removed", Bump.MAJOR),
    "default": ([param(default=1)], [param(default=2)], "default changed", Bump.MAJOR),
    "more numbers": ([param()], [param(integer(0, 10))], "loosened", Bump.MINOR),
    "fewer numbers": ([param()], [param(integer(1, 9))], "tightened", Bump.MAJOR),
    "other numbers": ([param()], [param(integer(5, 15))], "tightened", Bump.MAJOR),
    "more choices": ([param(one_of("a"))], [param(one_of("a", "b"))], "loosened", Bump.MINOR),
    "fewer choices": ([param(one_of("a", "b"))], [param(one_of("b"))], "tightened", Bump.MAJOR),
    "choices become free": ([param(one_of(1, 2))], [param(integer(0, 9))], "loosened", Bump.MINOR),
    "free becomes choices": ([param()], [param(one_of(1, 2))], "tightened", Bump.MAJOR),
    "whole to any number": ([param(integer(0, 9))], [param(seconds(0, 9))], "loosened", Bump.MINOR),
    "longer text": ([param(text(5))], [param(text(6))], "loosened", Bump.MINOR),
    "another pattern": ([param(regexp("a+", "as"))], [param(regexp("b+", "bs"))], "tightened", Bump.MAJOR),
    "number to text": ([param()], [param(text())], "type changed", Bump.MAJOR),
    "one to a list": ([param()], [param(list_of(integer(0, 9)))], "type changed", Bump.MAJOR),
    "list with repeats": ([param(list_of(text()))], [param(list_of(text(), repeats=True))], "loosened", Bump.MINOR),
    "list without repeats": ([param(list_of(text(), repeats=True))], [param(list_of(text()))], "tightened", Bump.MAJOR),
    "wider list": ([param(list_of(integer(0, 9)))], [param(list_of(integer(0, 10)))], "loosened", Bump.MINOR),
    "required": ([param()], [param(required=True)], "tightened", Bump.MAJOR),
    "optional": ([param(required=True)], [param()], "loosened", Bump.MINOR),
    "deprecated": ([param()], [param(deprecated="use q", removed_in="2.0")], "deprecated", Bump.MINOR),
    "stays": ([param(deprecated="use q", removed_in="2.0")], [param()], "not deprecated", Bump.PATCH),
    "secret": ([param()], [param(secret=True)], "secret", Bump.MINOR),
    "not secret": ([param(secret=True)], [param()], "not secret", Bump.MAJOR),
    "unit": ([param(unit="bytes")], [param(unit="MiB")], "unit changed", Bump.MAJOR),
    "sooner": ([param()], [param(changes="live")], "takes effect", Bump.MINOR),
    "later": ([param(changes="live")], [param(changes="launch")], "takes effect", Bump.MAJOR),
    "looked for": ([param(file())], [param(directory())], "checked on the node", Bump.MAJOR),
    "words": ([param()], [param(help="A digit.")], "reworded", Bump.PATCH),
    "meaning of the default": ([param()], [param(default_means="none")], "reworded", Bump.PATCH),
    "choices are explained": ([param(one_of("a"))], [param(one_of({"a": "A."}))], "reworded", Bump.PATCH),
    "in a list": ([param(list_of(one_of("a")))], [param(list_of(one_of({"a": "A."})))], "reworded", Bump.PATCH),
    "explained otherwise": ([param(one_of({"a": "A."}))], [param(one_of({"a": "B."}))], "reworded", Bump.PATCH),
    "one explained choice more": (
        [param(one_of({"a": "A."}))],
        [param(one_of({"a": "A.", "b": "B."}))],
        "loosened",
        Bump.MINOR,
    ),
}


@pytest.mark.parametrize(("old", "new", "kind", "bump"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_named_and_requires_its_version(old: list[Param], new: list[Param], kind: str, bump: Bump) -> None:
    changes = compare_schemas(made(*old), made(*new))
    assert [change.bump for change in changes if change.kind == kind] == [bump], changes
    assert largest(changes) in (bump, Bump.MAJOR)
    assert {change.key for change in changes} == {"p"}


TYPES = [integer(0, 9), seconds(), size_mib(), text(9), name(), boolean(), address(), one_of("a", "b"), list_of(text())]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.kind)
def test_nothing_changed_is_no_change(kind: ParamType) -> None:
    assert compare_schemas(made(param(kind)), made(param(kind))) == ()
    assert largest(()) is Bump.NONE


@given(st.integers(0, 6), st.integers(6, 12), st.integers(0, 6), st.integers(6, 12), st.integers(-1, 13))
def test_what_counts_as_loosened_takes_every_value_that_it_took(
    low: int, high: int, low_after: int, high_after: int, value: int
) -> None:
    before, after = integer(low, high), integer(low_after, high_after)
    kinds = [change.kind for change in compare_schemas(made(param(before)), made(param(after)))]
    if "tightened" not in kinds and accepts(before, value):
        assert accepts(after, value)


def accepts(kind: ParamType, value: object) -> bool:
    try:
        kind.parse(value)
    except Reject:
        return False
    return True


def test_rows_are_as_good_as_a_schema() -> None:
    declared = schema_of(param(required=True), Param("q", text(), help="Words.", default="x"))
    printed = [row.to_json() for row in rows(declared)]
    assert compare_schemas(as_schema(printed), json_schema(declared, title="x")) == ()


@pytest.mark.parametrize("document", [None, {}, [1], [{"key": "p"}], "text", {"properties": 3}])
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="is not what hv params"):
        as_schema(document)


def test_the_change_that_requires_most_comes_first() -> None:
    old, new = made(param(), Param("q", text(), help="Words.")), made(param(help="Other."))
    assert [change.bump for change in compare_schemas(old, new)] == [Bump.MAJOR, Bump.PATCH]
