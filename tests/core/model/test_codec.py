"""Frozen dataclasses to plain JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.errors import InputError
from hvcore.model.codec import DecodeError
from hvcore.plugin import decode, encode


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Disk:
    path: str
    size_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Cd:
    path: str


@dataclass(frozen=True, slots=True)
class Kinded:
    kind: str


@dataclass(frozen=True, slots=True)
class Spec:
    name: str
    count: int
    ratio: float
    on: bool
    colour: Colour
    pair: tuple[int, str]
    tags: tuple[str, ...]
    table: dict[str, int]
    devices: tuple[Disk | Cd, ...]
    main: Disk | None
    either: int | str | None
    free: Any = None
    view: Mapping[str, Disk] = field(default_factory=dict)
    kinded: Kinded | None = None


TEXT = st.text(max_size=6)
NUMBER = st.floats(allow_nan=False)
DISK = st.builds(Disk, TEXT, st.none() | st.integers())
SPECS = st.builds(
    Spec,
    name=TEXT,
    count=st.integers(),
    ratio=NUMBER,
    on=st.booleans(),
    colour=st.sampled_from(Colour),
    pair=st.tuples(st.integers(), TEXT),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    table=st.dictionaries(TEXT, st.integers(), max_size=3),
    devices=st.lists(DISK | st.builds(Cd, TEXT), max_size=3).map(tuple),
    main=st.none() | DISK,
    either=st.none() | st.integers() | TEXT,
    free=st.none() | NUMBER | st.lists(TEXT, max_size=2) | st.dictionaries(TEXT, TEXT, max_size=2),
    view=st.dictionaries(TEXT, DISK, max_size=2),
    kinded=st.none() | st.builds(Kinded, TEXT),
)
GOOD = Spec("n", 1, 1.0, True, Colour.RED, (1, "a"), (), {}, (Disk("/a"),), None, None)


@given(SPECS)
def test_what_was_encoded_is_decoded_to_the_same_through_json(spec: Spec) -> None:
    assert decode(Spec, json.loads(json.dumps(encode(spec)))) == spec


@pytest.mark.parametrize("text", ["\udcff/srv", "\ud800", "\0"])
def test_a_path_that_is_no_utf8_survives(text: str) -> None:
    assert decode(Disk, json.loads(json.dumps(encode(Disk(text))))) == Disk(text)


WRONG = [
    ({"name": 1}, r"record\.name: must be str, got 1"),
    ({"count": "1"}, r"record\.count: must be int"),
    ({"count": True}, r"record\.count: must be int"),
    ({"count": 1.0}, r"record\.count: must be int"),
    ({"on": 1}, r"record\.on: must be bool"),
    ({"ratio": True}, r"record\.ratio: must be float"),
    ({"ratio": "x"}, r"record\.ratio: must be float"),
    ({"colour": "green"}, r"record\.colour: 'green' is not a valid Colour"),
    ({"pair": [1]}, r"record\.pair: must have 2 items, got 1"),
    ({"pair": {"0": 1}}, r"record\.pair: must be a list"),
    ({"tags": ["a", 2]}, r"record\.tags\[1\]: must be str"),
    ({"tags": "ab"}, r"record\.tags: must be a list"),
    ({"table": []}, r"record\.table: must be an object"),
    ({"table": {"a": "b"}}, r"record\.table\.a: must be int"),
    ({"devices": [{"kind": "Tape", "path": "/a"}]}, r"record\.devices\[0\]: none of the allowed kinds"),
    ({"devices": [{"path": "/a"}]}, r"record\.devices\[0\]: none of the allowed kinds"),
    ({"devices": [{"kind": "Cd", "path": "/a", "size_mib": 1}]}, r"devices\[0\]: unknown keys size_mib"),
    ({"main": 7}, r"record\.main: "),
    ({"main": {"kind": "Disk"}}, r"record\.main: .*path"),
    ({"either": []}, r"record\.either: none of the allowed"),
    ({"zzz": 1, "aaa": 2}, r"record: unknown keys aaa, zzz"),
    ({"view": {"a": {"kind": "Disk", "path": 1}}}, r"record\.view\.a\.path: must be str"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[row[1] for row in WRONG])
def test_data_of_another_type_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(Spec, {**encode(GOOD), **change})


def test_a_missing_key_is_refused() -> None:
    with pytest.raises(DecodeError, match=r"record: .*count"):
        decode(Spec, {key: value for key, value in encode(GOOD).items() if key != "count"})


@pytest.mark.parametrize("data", [None, 1, "x", [], [1]])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(DecodeError, match="must be an object"):
        decode(Spec, data)


def test_one_dataclass_or_none_needs_no_kind() -> None:
    assert decode(Spec, {**encode(GOOD), "main": {"path": "/a"}}).main == Disk("/a")


@dataclass(frozen=True)
class Strict:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise InputError("n: is negative")
        if self.n > 9:
            raise ValueError("n: is above 9")


@pytest.mark.parametrize("number", [-1, 10])
def test_what_the_type_itself_refuses_is_refused_as_the_rest(number: int) -> None:
    with pytest.raises(DecodeError, match="record: n: is"):
        decode(Strict, {"n": number})


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), 1j, Spec])
def test_what_json_does_not_have_cannot_be_encoded(value: object) -> None:
    with pytest.raises(TypeError, match="cannot encode a"):
        encode({"x": value})
