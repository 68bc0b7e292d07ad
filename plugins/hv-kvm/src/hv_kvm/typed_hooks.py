"""Typed decorators for implementations of the kvm driver's own hooks, as `hvcore.plugin.impl` has them for the core's.

>>> import hv_kvm.plugin as kvm
>>> @kvm.impl.render
... def watchdog(spec: kvm.KvmSpec) -> list[kvm.Opt]:
...     return []
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias, TypeVar

from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import Problem, hook_arguments, hookimpl

__all__ = ["devices", "plan", "render", "verify"]

_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)


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


_SpecFacts: TypeAlias = hook_arguments.Nothing[_R] | _S[_R] | _F[_R] | _SF[_R]
_SpecFactsBindings: TypeAlias = _SpecFacts[_R] | _B[_R] | _SB[_R] | _FB[_R] | _SFB[_R]

_Classes = TypeVar("_Classes", bound=hook_arguments.Nothing[Iterable[type[Device]]])
_Plan = TypeVar("_Plan", bound=hook_arguments.InstanceParams[Iterable[Device] | None])
_Verify = TypeVar("_Verify", bound=_SpecFacts[Iterable[Problem] | None])
_Render = TypeVar("_Render", bound=_SpecFactsBindings[Iterable[Opt] | None])


def devices(function: _Classes) -> _Classes:
    """The classes of what ``plan`` gives: `hv_kvm.hookspecs.devices`."""
    return hookimpl(specname="devices")(function)


def plan(function: _Plan) -> _Plan:
    """The devices that the guest gets: `hv_kvm.hookspecs.plan`."""
    return hookimpl(specname="plan")(function)


def verify(function: _Verify) -> _Verify:
    """What this QEMU lacks for them: `hv_kvm.hookspecs.verify`."""
    return hookimpl(specname="verify")(function)


def render(function: _Render) -> _Render:
    """The options for this plugin's own devices: `hv_kvm.hookspecs.render`."""
    return hookimpl(specname="render")(function)
