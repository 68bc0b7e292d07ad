"""Frozen classes of `hvcore.frozen` are as those of `dataclasses`."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, FrozenInstanceError, field
from typing import Any, ClassVar

import pytest

from hvcore import frozen

Maker = Callable[..., Any]


def _both(define: Callable[[Maker], Any]) -> tuple[Any, Any]:
    return define(dataclasses.dataclass), define(frozen.dataclass)


def _plain(maker: Maker) -> Any:
    @maker(frozen=True, slots=True, kw_only=True)
    class Value:
        """A value."""

        kinds: ClassVar[int] = 2
        name: str
        count: int = 3
        parts: list[int] = field(default_factory=list)
        secret: str = field(default="x", repr=False, compare=False)
        made: int = field(default=7, init=False)
        later: list[int] = field(default_factory=list, init=False)

        def __post_init__(self) -> None:
            if self.count < 0:
                raise ValueError(self.count)

    return Value


def _positional(maker: Maker) -> Any:
    @maker(frozen=True, slots=True)
    class Value:
        first: int
        second: int = 2
        _: KW_ONLY
        third: int = 3

    return Value


def _empty(maker: Maker) -> Any:
    @maker(frozen=True, slots=True, kw_only=True)
    class Value:
        pass

    return Value


def _own_methods(maker: Maker) -> Any:
    @maker(frozen=True, slots=True, kw_only=True)
    class Value:
        name: str

        def __repr__(self) -> str:
            return "mine"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 5

    return Value


def _without_eq(maker: Maker) -> Any:
    @maker(frozen=True, slots=True, eq=False)
    class Value:
        name: str

    return Value


def _with_dict(maker: Maker) -> Any:
    @maker(frozen=True, kw_only=True)
    class Value:
        name: str = "a"

    return Value


def _derived(maker: Maker, base: Maker | None = None) -> Any:
    @(base or maker)(frozen=True, slots=True, kw_only=True)
    class Base:
        name: str
        count: int = 1

    @maker(frozen=True, slots=True, kw_only=True)
    class Value(Base):
        more: tuple[int, ...] = ()

    return Value


def _of_ours(maker: Maker) -> Any:
    return _derived(maker, frozen.dataclass)


def _of_theirs(maker: Maker) -> Any:
    return _derived(maker, dataclasses.dataclass)


CASES: list[tuple[Callable[[Maker], Any], dict[str, Any]]] = [
    (_plain, {"name": "a"}),
    (_plain, {"name": "a", "count": 4, "parts": [1], "secret": "y"}),
    (_positional, {"first": 1}),
    (_empty, {}),
    (_own_methods, {"name": "a"}),
    (_without_eq, {"name": "a"}),
    (_with_dict, {}),
    (_derived, {"name": "a", "more": (1,)}),
    (_of_ours, {"name": "a"}),
    (_of_theirs, {"name": "a"}),
]
each = pytest.mark.parametrize(("define", "values"), CASES)


@each
def test_a_class_has_the_same_fields_signature_and_flags(
    define: Callable[[Maker], Any], values: dict[str, Any]
) -> None:
    theirs, ours = _both(define)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert ours.__init__.__annotations__ == theirs.__init__.__annotations__
    assert ours.__match_args__ == theirs.__match_args__
    assert getattr(ours, "__slots__", None) == getattr(theirs, "__slots__", None)
    assert ours.__dataclass_params__.frozen
    assert [repr(one) for one in dataclasses.fields(ours)] == [repr(one) for one in dataclasses.fields(theirs)]
    for name in ("__init__", "__repr__", "__eq__", "__hash__"):
        assert getattr(ours, name).__qualname__ == getattr(theirs, name).__qualname__, name
    assert repr(ours(**values)).replace("define", "") == repr(theirs(**values)).replace("define", "")


def _answers(cls: Any, values: dict[str, Any]) -> dict[str, Any]:
    """What two objects of a class say about each other."""
    one, same = cls(**values), cls(**values)
    other = cls(**{**values, "name": "other"}) if "name" in values else cls(**values)
    copies = (dataclasses.replace(one), copy.copy(one), copy.deepcopy(one))
    return {
        "same": one == same,
        "other": one == other,
        "number": one == 1,
        "copies": [(type(made) is cls, dataclasses.asdict(made)) for made in copies],
        "hashes": _hash(one) == _hash(same),
    }


def _hash(one: object) -> object:
    try:
        return hash(one)
    except TypeError as error:
        return str(error)


@each
def test_objects_compare_and_copy_alike(define: Callable[[Maker], Any], values: dict[str, Any]) -> None:
    theirs, ours = _both(define)
    assert _answers(ours, values) == _answers(theirs, values)


@each
def test_an_object_stays_as_it_is(define: Callable[[Maker], Any], values: dict[str, Any]) -> None:
    for one in (cls(**values) for cls in _both(define)):
        for name in values:
            with pytest.raises(FrozenInstanceError):
                setattr(one, name, 1)
            with pytest.raises(FrozenInstanceError):
                delattr(one, name)
        assert dataclasses.asdict(one) == dataclasses.asdict(type(one)(**values))


def test_a_field_is_refused_with_the_error_of_dataclasses() -> None:
    for cls in _both(_plain):
        one = cls(name="a")
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
            one.name = "b"
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'count'"):
            del one.count


def test_each_object_has_a_list_of_its_own() -> None:
    for cls in _both(_plain):
        one, other = cls(name="a"), cls(name="a")
        assert one.parts is not other.parts
        assert one.later is not other.later
        assert one.parts == one.later == []


def test_a_wrong_value_and_a_wrong_keyword_are_refused() -> None:
    for cls in _both(_plain):
        with pytest.raises(ValueError, match="-1"):
            cls(name="a", count=-1)
        for wrong in ({}, {"name": "a", "made": 1}, {"name": "a", "other": 1}):
            with pytest.raises(TypeError, match=r"Value\.__init__\(\)"):
                cls(**wrong)
        with pytest.raises(TypeError):
            cls("a")


def test_a_derived_class_that_is_no_dataclass_can_have_other_attributes() -> None:
    for cls in _both(_with_dict):
        one = type("More", (cls,), {})()
        one.label = "x"
        assert one.label == "x"
        with pytest.raises(FrozenInstanceError):
            one.name = "b"


def test_a_derived_class_must_be_frozen_too() -> None:
    for maker in (dataclasses.dataclass, frozen.dataclass):
        with pytest.raises(TypeError, match="cannot inherit non-frozen"):
            maker(type("Thawed", (_with_dict(frozen.dataclass),), {"__annotations__": {"x": int}}))


def test_an_object_that_contains_itself_can_be_shown() -> None:
    for cls in _both(_plain):
        one = cls(name="a")
        one.parts.append(one)
        assert "parts=[...]" in repr(one)


def test_other_options_are_left_to_dataclasses() -> None:
    @frozen.dataclass(frozen=True, order=True)
    class Ordered:
        value: int

    @frozen.dataclass
    class Open:
        value: int = 1

    assert Ordered(1) < Ordered(2)
    one = Open()
    one.value = 2
    assert one == Open(2)


@frozen.dataclass(frozen=True, slots=True, kw_only=True)
class Pickled:
    """A class that pickle can find."""

    name: str
    parts: tuple[int, ...] = ()


@frozen.dataclass(frozen=True, slots=True, kw_only=True)
class PickledToo(Pickled):
    """And one derived from it."""

    more: int = 0


def test_pickle_restores_an_object() -> None:
    for one in (Pickled(name="a", parts=(1,)), PickledToo(name="b", more=2)):
        assert pickle.loads(pickle.dumps(one)) == one
    assert sys.modules[Pickled.__module__].Pickled is Pickled


def test_a_pattern_matches_the_fields() -> None:
    match _positional(frozen.dataclass)(1):
        case object(first=1, second=second):
            assert second == 2


def test_init_is_the_same_for_a_class_its_subclass_and_whoever_looks() -> None:
    @frozen.dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        name: str = "a"

    @frozen.dataclass(frozen=True, slots=True, kw_only=True)
    class Derived(Base):
        count: int = 3

    class Plain(Base):
        """Has no ``__init__``."""

    assert (Plain(name="b").name, Derived(name="c").name) == ("b", "c")  # the subclasses first
    assert inspect.signature(Base) == inspect.signature(Plain)
    assert Base.__init__ is Plain.__init__ is vars(Base)["__init__"]
    assert Base.__init__.__qualname__.endswith(".Base.__init__")
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        Derived(other=3)  # type: ignore[call-arg]
