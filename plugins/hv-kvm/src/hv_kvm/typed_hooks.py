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
from hv_kvm.qmp import QmpClient
from hvcore.plugin import Job, Problem, hook_arguments, hookimpl

__all__ = ["devices", "on_ready", "plan", "render", "verify"]

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


class _OnS(Protocol):
    def __call__(self, *, spec: KvmSpec) -> None: ...


class _OnF(Protocol):
    def __call__(self, *, facts: Facts | None) -> None: ...


class _OnC(Protocol):
    def __call__(self, *, client: QmpClient) -> None: ...


class _OnJ(Protocol):
    def __call__(self, *, job: Job) -> None: ...


class _OnSF(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None) -> None: ...


class _OnSC(Protocol):
    def __call__(self, *, spec: KvmSpec, client: QmpClient) -> None: ...


class _OnSJ(Protocol):
    def __call__(self, *, spec: KvmSpec, job: Job) -> None: ...


class _OnFC(Protocol):
    def __call__(self, *, facts: Facts | None, client: QmpClient) -> None: ...


class _OnFJ(Protocol):
    def __call__(self, *, facts: Facts | None, job: Job) -> None: ...


class _OnCJ(Protocol):
    def __call__(self, *, client: QmpClient, job: Job) -> None: ...


class _OnSFC(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None, client: QmpClient) -> None: ...


class _OnSFJ(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None, job: Job) -> None: ...


class _OnSCJ(Protocol):
    def __call__(self, *, spec: KvmSpec, client: QmpClient, job: Job) -> None: ...


class _OnFCJ(Protocol):
    def __call__(self, *, facts: Facts | None, client: QmpClient, job: Job) -> None: ...


class _OnSFCJ(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None, client: QmpClient, job: Job) -> None: ...


_Ready: TypeAlias = (
    hook_arguments.Nothing[None]
    | _OnS
    | _OnF
    | _OnC
    | _OnJ
    | _OnSF
    | _OnSC
    | _OnSJ
    | _OnFC
    | _OnFJ
    | _OnCJ
    | _OnSFC
    | _OnSFJ
    | _OnSCJ
    | _OnFCJ
    | _OnSFCJ
)
_SpecFacts: TypeAlias = hook_arguments.Nothing[_R] | _S[_R] | _F[_R] | _SF[_R]
_SpecFactsBindings: TypeAlias = _SpecFacts[_R] | _B[_R] | _SB[_R] | _FB[_R] | _SFB[_R]

_Classes = TypeVar("_Classes", bound=hook_arguments.Nothing[Iterable[type[Device]]])
_Plan = TypeVar("_Plan", bound=hook_arguments.InstanceParams[Iterable[Device] | None])
_Verify = TypeVar("_Verify", bound=_SpecFacts[Iterable[Problem] | None])
_Render = TypeVar("_Render", bound=_SpecFactsBindings[Iterable[Opt] | None])
_OnReady = TypeVar("_OnReady", bound=_Ready)


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


def on_ready(function: _OnReady) -> _OnReady:
    """What QMP has to say before the guest runs: `hv_kvm.hookspecs.on_ready`."""
    return hookimpl(specname="on_ready")(function)
