"""Typed decorators for hook implementations: ``@hvcore.impl.check`` is `hvcore.hookimpl` that a type checker understands.

A function may have any name and takes those of the hook's arguments that it needs, by name, in any order. An argument
that the hook does not have, another type, or another result is an error of the type checker before it is one at load.
For functions; in a class, mark methods with `hvcore.hookimpl`.

>>> import hvcore
>>> @hvcore.impl.check
... def loud_enough(params: hvcore.Params) -> list[hvcore.Problem]:
...     return [] if params["volume"] else [hvcore.Problem(path="params.volume", what="is 0")]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from hvcore.errors import Problem
from hvcore.hookspecs import hookimpl
from hvcore.model.info import Outcome
from hvcore.model.instance import Instance
from hvcore.params import ParamGroup, Params

__all__ = ["after_start", "after_stop", "assess", "before_start", "before_stop", "check", "params"]

_R_co = TypeVar("_R_co", covariant=True)
_Any = TypeVar("_Any", bound=Callable[..., object])


# One for each choice of arguments. By keyword: then the order in which a function has them does not matter.
class _Nothing(Protocol[_R_co]):
    def __call__(self) -> _R_co: ...


class _I(Protocol[_R_co]):
    def __call__(self, *, instance: Instance) -> _R_co: ...


class _P(Protocol[_R_co]):
    def __call__(self, *, params: Params) -> _R_co: ...


class _O(Protocol[_R_co]):
    def __call__(self, *, outcome: Outcome) -> _R_co: ...


class _F(Protocol[_R_co]):
    def __call__(self, *, force: bool) -> _R_co: ...


class _IP(Protocol[_R_co]):
    def __call__(self, *, instance: Instance, params: Params) -> _R_co: ...


class _IO(Protocol[_R_co]):
    def __call__(self, *, instance: Instance, outcome: Outcome) -> _R_co: ...


class _PO(Protocol[_R_co]):
    def __call__(self, *, params: Params, outcome: Outcome) -> _R_co: ...


class _IPO(Protocol[_R_co]):
    def __call__(self, *, instance: Instance, params: Params, outcome: Outcome) -> _R_co: ...


class _IF(Protocol[_R_co]):
    def __call__(self, *, instance: Instance, force: bool) -> _R_co: ...


_Problems = Iterable[Problem] | None
_Group = TypeVar("_Group", bound=Callable[[], ParamGroup])
_Check = TypeVar("_Check", bound=_Nothing[_Problems] | _I[_Problems] | _P[_Problems] | _IP[_Problems])
_Begin = TypeVar("_Begin", bound=_Nothing[None] | _I[None] | _P[None] | _IP[None])
_Begun = TypeVar(
    "_Begun",
    bound=_Nothing[None] | _I[None] | _P[None] | _O[None] | _IP[None] | _IO[None] | _PO[None] | _IPO[None],
)
_End = TypeVar("_End", bound=_Nothing[None] | _I[None] | _F[None] | _IF[None])
_Ended = TypeVar("_Ended", bound=_Nothing[None] | _I[None] | _O[None] | _IO[None])


def params(function: _Group) -> _Group:
    """The parameters that this plugin adds: `hvcore.hookspecs.params`."""
    return _marked(function, "params")


def check(function: _Check) -> _Check:
    """What is wrong across parameters: `hvcore.hookspecs.check`."""
    return _marked(function, "check")


def assess(function: _Check) -> _Check:
    """What works and is rarely wanted: `hvcore.hookspecs.assess`."""
    return _marked(function, "assess")


def before_start(function: _Begin) -> _Begin:
    """Before anything is acquired: `hvcore.hookspecs.before_start`."""
    return _marked(function, "before_start")


def after_start(function: _Begun) -> _Begun:
    """When it runs: `hvcore.hookspecs.after_start`."""
    return _marked(function, "after_start")


def before_stop(function: _End) -> _End:
    """Before it is told to stop: `hvcore.hookspecs.before_stop`."""
    return _marked(function, "before_stop")


def after_stop(function: _Ended) -> _Ended:
    """When it is gone: `hvcore.hookspecs.after_stop`."""
    return _marked(function, "after_stop")


def _marked(function: _Any, hook: str) -> _Any:
    return hookimpl(specname=hook)(function)
