# Made by docs/generate.py from the code. Change it there.

from collections.abc import Iterable
from typing import Protocol, TypeVar

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qmp import QmpClient
from hvcore.plugin import Instance, Job, Params, Problem

class _Devices0(Protocol):
    def __call__(self) -> Iterable[type[Device]] | None: ...

_Devices = TypeVar("_Devices", bound=_Devices0)

def devices(function: _Devices) -> _Devices: ...

class _Plan0(Protocol):
    def __call__(self) -> Iterable[Device] | None: ...

class _Plan1(Protocol):
    def __call__(self, *, instance: Instance) -> Iterable[Device] | None: ...

class _Plan2(Protocol):
    def __call__(self, *, params: Params) -> Iterable[Device] | None: ...

class _Plan3(Protocol):
    def __call__(self, *, instance: Instance, params: Params) -> Iterable[Device] | None: ...

_Plan = TypeVar("_Plan", bound=_Plan0 | _Plan1 | _Plan2 | _Plan3)

def plan(function: _Plan) -> _Plan: ...

class _Verify0(Protocol):
    def __call__(self) -> Iterable[Problem] | None: ...

class _Verify1(Protocol):
    def __call__(self, *, spec: KvmSpec) -> Iterable[Problem] | None: ...

class _Verify2(Protocol):
    def __call__(self, *, facts: Facts) -> Iterable[Problem] | None: ...

class _Verify3(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts) -> Iterable[Problem] | None: ...

_Verify = TypeVar("_Verify", bound=_Verify0 | _Verify1 | _Verify2 | _Verify3)

def verify(function: _Verify) -> _Verify: ...

class _Render0(Protocol):
    def __call__(self) -> Iterable[Opt] | None: ...

class _Render1(Protocol):
    def __call__(self, *, spec: KvmSpec) -> Iterable[Opt] | None: ...

class _Render2(Protocol):
    def __call__(self, *, facts: Facts) -> Iterable[Opt] | None: ...

class _Render3(Protocol):
    def __call__(self, *, bindings: Bindings) -> Iterable[Opt] | None: ...

class _Render4(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts) -> Iterable[Opt] | None: ...

class _Render5(Protocol):
    def __call__(self, *, spec: KvmSpec, bindings: Bindings) -> Iterable[Opt] | None: ...

class _Render6(Protocol):
    def __call__(self, *, facts: Facts, bindings: Bindings) -> Iterable[Opt] | None: ...

class _Render7(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts, bindings: Bindings) -> Iterable[Opt] | None: ...

_Render = TypeVar("_Render", bound=_Render0 | _Render1 | _Render2 | _Render3 | _Render4 | _Render5 | _Render6 | _Render7)

def render(function: _Render) -> _Render: ...

class _OnReady0(Protocol):
    def __call__(self) -> None: ...

class _OnReady1(Protocol):
    def __call__(self, *, spec: KvmSpec) -> None: ...

class _OnReady2(Protocol):
    def __call__(self, *, facts: Facts | None) -> None: ...

class _OnReady3(Protocol):
    def __call__(self, *, client: QmpClient) -> None: ...

class _OnReady4(Protocol):
    def __call__(self, *, job: Job) -> None: ...

class _OnReady5(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None) -> None: ...

class _OnReady6(Protocol):
    def __call__(self, *, spec: KvmSpec, client: QmpClient) -> None: ...

class _OnReady7(Protocol):
    def __call__(self, *, spec: KvmSpec, job: Job) -> None: ...

class _OnReady8(Protocol):
    def __call__(self, *, facts: Facts | None, client: QmpClient) -> None: ...

class _OnReady9(Protocol):
    def __call__(self, *, facts: Facts | None, job: Job) -> None: ...

class _OnReady10(Protocol):
    def __call__(self, *, client: QmpClient, job: Job) -> None: ...

class _OnReady11(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None, client: QmpClient) -> None: ...

class _OnReady12(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None, job: Job) -> None: ...

class _OnReady13(Protocol):
    def __call__(self, *, spec: KvmSpec, client: QmpClient, job: Job) -> None: ...

class _OnReady14(Protocol):
    def __call__(self, *, facts: Facts | None, client: QmpClient, job: Job) -> None: ...

class _OnReady15(Protocol):
    def __call__(self, *, spec: KvmSpec, facts: Facts | None, client: QmpClient, job: Job) -> None: ...

_OnReady = TypeVar("_OnReady", bound=_OnReady0 | _OnReady1 | _OnReady2 | _OnReady3 | _OnReady4 | _OnReady5 | _OnReady6 | _OnReady7 | _OnReady8 | _OnReady9 | _OnReady10 | _OnReady11 | _OnReady12 | _OnReady13 | _OnReady14 | _OnReady15)

def on_ready(function: _OnReady) -> _OnReady: ...
