"""When an implementation of a hook is asked at all: said beside it, so that nobody calls what has nothing to say.

>>> import hvcore.plugin as hv
>>> @hv.hookimpl
... @hv.when_given("volume")
... def check(params):
...     if params["volume"] > 9 and not params["neighbours_away"]:
...         yield hv.Problem(path="params.volume", what="is loud")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

__all__ = ["Condition", "asked_when", "condition_of", "when_given"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "hvcore_condition"


@dataclass(frozen=True, slots=True)
class Condition:
    """Of which argument of the hook it is, and whether it holds of that; the parameters that it names."""

    argument: str
    holds: Callable[[Any], bool]
    keys: frozenset[str] = frozenset()


def asked_when(argument: str, holds: Callable[[Any], bool]) -> Callable[[F], F]:
    """The function is asked only when this holds of that argument of its hook; else it has nothing to say."""
    return _marked(Condition(argument, holds))


def _marked(condition: Condition) -> Callable[[F], F]:
    def mark(function: F) -> F:
        setattr(function, _MARK, condition)
        return function

    return mark


def when_given(*keys: str) -> Callable[[F], F]:
    """The function is asked only when one of these parameters is set, be it to its default: `Params.any_given`.

    For what has nothing to say of a guest that leaves all of them out.
    """
    wanted = frozenset(keys)
    return _marked(Condition("params", lambda params: params.any_given(wanted), wanted))


def condition_of(function: object) -> Condition | None:
    """When the function is asked; None when always."""
    found = getattr(function, _MARK, None)
    return found if isinstance(found, Condition) else None
