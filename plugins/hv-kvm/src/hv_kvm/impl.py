"""Typed decorators for implementations of the kvm driver's own hooks, as `hvcore.impl` has them for the core's.

>>> import hv_kvm.impl
>>> @hv_kvm.impl.render
... def watchdog(spec: hv_kvm.spec.KvmSpec) -> list[hv_kvm.option.Opt]:
...     return []
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from hv_kvm.bindings import Bindings
from hv_kvm.facts import Facts
from hv_kvm.option import Opt
from hv_kvm.spec import Device, KvmSpec
from hvcore import Instance, Params, Problem, hookimpl

__all__ = ["devices", "plan", "render", "verify"]

_R_co = TypeVar("_R_co", covariant=True)
_Any = TypeVar("_Any", bound=Callable[..., object])


class _Nothing(Protocol[_R_co]):
    def __call__(self) -> _R_co: ...


class _I(Protocol[_R_co]):
    def __call__(self, *, instance: Instance) -> _R_co: ...


class _P(Protocol[_R_co]):
    def __call__(self, *, params: Params) -> _R_co: ...


class _IP(Protocol[_R_co]):
    def __call__(self, *, instance: Instance, params: Params) -> _R_co: ...


class _S(Protocol[_R_co]):
    def __call__(self, *, spec: KvmSpec) -> _R_co: ...


class _F(Protocol[_R_co]):
    def __call__(self, *, facts: Facts) -> _R_co: ...


class _B(Protocol[_R_co]):
    def __call__(self, *, bindings: Bindings) -> _R_co: ...


class _SF(Protocol[_R_co]):
    def __call__(self, *, spec: KvmSpec, facts: Facts) -> _R_co: ...


class _SB(Protocol[_R_co]):
    def __call__(self, *, spec: KvmSpec, bindings: Bindings) -> _R_co: ...


class _FB(Protocol[_R_co]):
    def __call__(self, *, facts: Facts, bindings: Bindings) -> _R_co: ...


class _SFB(Protocol[_R_co]):
    def __call__(self, *, spec: KvmSpec, facts: Facts, bindings: Bindings) -> _R_co: ...


_Devices = Iterable[Device] | None
_Problems = Iterable[Problem] | None
_Options = Iterable[Opt] | None
_Classes = TypeVar("_Classes", bound=Callable[[], Iterable[type[Device]]])
_Plan = TypeVar("_Plan", bound=_Nothing[_Devices] | _I[_Devices] | _P[_Devices] | _IP[_Devices])
_Verify = TypeVar("_Verify", bound=_Nothing[_Problems] | _S[_Problems] | _F[_Problems] | _SF[_Problems])
_Render = TypeVar(
    "_Render",
    bound=_Nothing[_Options]
    | _S[_Options]
    | _F[_Options]
    | _B[_Options]
    | _SF[_Options]
    | _SB[_Options]
    | _FB[_Options]
    | _SFB[_Options],
)


def devices(function: _Classes) -> _Classes:
    """The classes of what ``plan`` gives: `hv_kvm.hookspecs.devices`."""
    return _marked(function, "devices")


def plan(function: _Plan) -> _Plan:
    """The devices that the guest gets: `hv_kvm.hookspecs.plan`."""
    return _marked(function, "plan")


def verify(function: _Verify) -> _Verify:
    """What this QEMU lacks for them: `hv_kvm.hookspecs.verify`."""
    return _marked(function, "verify")


def render(function: _Render) -> _Render:
    """The options for this plugin's own devices: `hv_kvm.hookspecs.render`."""
    return _marked(function, "render")


def _marked(function: _Any, hook: str) -> _Any:
    return hookimpl(specname=hook)(function)
