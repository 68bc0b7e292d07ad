"""The JSON Schema of hv params kvm --schema accepts the values that the checker accepts."""

from __future__ import annotations

import math
import string
from typing import Any, Final

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from hvcore.params.reference import json_schema, rows
from hvcore.plugins.loader import load

SCHEMA: Final = load("kvm").schema
KEYS: Final = sorted(SCHEMA.params)
VALIDATOR: Final = Draft202012Validator(json_schema(SCHEMA, title="kvm"))
SETTINGS: Final = settings(suppress_health_check=list(HealthCheck))
# Of these JSON Schema can say everything; of the others it has no word for a part (bytes of a text, what an address is).
EXACT: Final = {"boolean", "integer", "port", "one of", "name", "list of one of"}

WORDS: Final = sorted(
    {word for param in SCHEMA.params.values() for word in param.type.choices if isinstance(word, str)}
)
SINGLE: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70_000),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not math.isfinite(value) or value % 1 != 0),
    st.sampled_from([*WORDS, "/srv/a", "/srv/../a", "127.0.0.1", "::1", "eth0", "0-3", "all", "2G", "", "-x", "a\n"]),
    st.text(string.ascii_letters + string.digits + "-_./:, \n", max_size=12),
)
VALUES: Final = st.one_of(
    SINGLE, st.lists(SINGLE, max_size=3), st.dictionaries(st.text(max_size=3), SINGLE, max_size=1)
)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema(SCHEMA, title="kvm"))


@SETTINGS
@given(st.sampled_from(KEYS), VALUES)
@example("migration_caps", ["xbzrle", "xbzrle"])
@example("nic_type", "ne2k_isa")
def test_they_agree_on_one_value(key: str, value: Any) -> None:
    accepted = not SCHEMA.problems({key: value})[1]
    valid = VALIDATOR.is_valid({key: value})
    if accepted or SCHEMA.params[key].type.kind in EXACT:
        assert valid == accepted, (key, value, [error.message for error in VALIDATOR.iter_errors({key: value})])


@SETTINGS
@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), VALUES, max_size=4))
def test_what_is_accepted_as_a_whole_is_valid_and_names_are_the_same(values: dict[str, Any]) -> None:
    accepted = not SCHEMA.problems(values)[1]
    assert not accepted or VALIDATOR.is_valid(values)
    unknown = {key for key in values if key not in SCHEMA.params and key != "unset"}
    assert not unknown or not VALIDATOR.is_valid(values)


@SETTINGS
@given(st.one_of(VALUES, st.lists(st.sampled_from([*KEYS, "no_such"]), max_size=4)))
def test_they_agree_on_what_may_be_unset(names: Any) -> None:
    assert VALIDATOR.is_valid({"unset": names}) == (not SCHEMA.problems({"unset": names})[1])


def test_every_default_and_example_is_valid() -> None:
    for row in rows(SCHEMA):
        for value in (row.default, row.example):
            given_as = list(value) if isinstance(value, tuple) else value
            assert value is None or VALIDATOR.is_valid({row.key: given_as}), row.key
