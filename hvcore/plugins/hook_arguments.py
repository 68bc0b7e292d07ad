"""Functions that take some of a hook's arguments, as types: what the typed decorators of hooks are made of.

A type checker has no word for "any of these arguments", so each choice is spelt out, by keyword: then the order in
which a function has them does not matter. A driver with hooks of its own makes decorators for them of `Nothing` and
Protocols like these, as ``hv_kvm.typed_hooks`` does; those that the core's hooks have are here for it to use.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias, TypeVar

from hvcore.model.instance import Instance
from hvcore.model.outcome import Outcome
from hvcore.params.values import Params

__all__ = ["InstanceForce", "InstanceOutcome", "InstanceParams", "InstanceParamsOutcome", "Nothing"]

_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)


class Nothing(Protocol[_R_co]):
    """A function without arguments."""

    def __call__(self) -> _R_co:
        """What the hook returns."""


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


InstanceParams: TypeAlias = Nothing[_R] | _I[_R] | _P[_R] | _IP[_R]
InstanceOutcome: TypeAlias = Nothing[_R] | _I[_R] | _O[_R] | _IO[_R]
InstanceForce: TypeAlias = Nothing[_R] | _I[_R] | _F[_R] | _IF[_R]
InstanceParamsOutcome: TypeAlias = InstanceParams[_R] | _O[_R] | _IO[_R] | _PO[_R] | _IPO[_R]
