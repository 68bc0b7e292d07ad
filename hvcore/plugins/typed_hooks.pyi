# Made by docs/generate.py from the code. Change it there.

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from hvcore.errors import Problem
from hvcore.model.answers import Outcome
from hvcore.model.instance import Instance
from hvcore.params.param import ParamGroup
from hvcore.params.values import Params
from hvcore.resources.kind import ResourceKind

class _Params0(Protocol):
    def __call__(self) -> ParamGroup: ...

_Params = TypeVar("_Params", bound=_Params0)

def params(function: _Params) -> _Params: ...

class _ResourceKinds0(Protocol):
    def __call__(self) -> Iterable[ResourceKind[Any, Any]] | None: ...

_ResourceKinds = TypeVar("_ResourceKinds", bound=_ResourceKinds0)

def resource_kinds(function: _ResourceKinds) -> _ResourceKinds: ...

class _Check0(Protocol):
    def __call__(self) -> Iterable[Problem] | None: ...

class _Check1(Protocol):
    def __call__(self, *, instance: Instance) -> Iterable[Problem] | None: ...

class _Check2(Protocol):
    def __call__(self, *, params: Params) -> Iterable[Problem] | None: ...

class _Check3(Protocol):
    def __call__(self, *, instance: Instance, params: Params) -> Iterable[Problem] | None: ...

_Check = TypeVar("_Check", bound=_Check0 | _Check1 | _Check2 | _Check3)

def check(function: _Check) -> _Check: ...

class _Assess0(Protocol):
    def __call__(self) -> Iterable[Problem] | None: ...

class _Assess1(Protocol):
    def __call__(self, *, instance: Instance) -> Iterable[Problem] | None: ...

class _Assess2(Protocol):
    def __call__(self, *, params: Params) -> Iterable[Problem] | None: ...

class _Assess3(Protocol):
    def __call__(self, *, instance: Instance, params: Params) -> Iterable[Problem] | None: ...

_Assess = TypeVar("_Assess", bound=_Assess0 | _Assess1 | _Assess2 | _Assess3)

def assess(function: _Assess) -> _Assess: ...

class _BeforeStart0(Protocol):
    def __call__(self) -> None: ...

class _BeforeStart1(Protocol):
    def __call__(self, *, instance: Instance) -> None: ...

class _BeforeStart2(Protocol):
    def __call__(self, *, params: Params) -> None: ...

class _BeforeStart3(Protocol):
    def __call__(self, *, instance: Instance, params: Params) -> None: ...

_BeforeStart = TypeVar("_BeforeStart", bound=_BeforeStart0 | _BeforeStart1 | _BeforeStart2 | _BeforeStart3)

def before_start(function: _BeforeStart) -> _BeforeStart: ...

class _AfterStart0(Protocol):
    def __call__(self) -> None: ...

class _AfterStart1(Protocol):
    def __call__(self, *, instance: Instance) -> None: ...

class _AfterStart2(Protocol):
    def __call__(self, *, params: Params) -> None: ...

class _AfterStart3(Protocol):
    def __call__(self, *, outcome: Outcome) -> None: ...

class _AfterStart4(Protocol):
    def __call__(self, *, instance: Instance, params: Params) -> None: ...

class _AfterStart5(Protocol):
    def __call__(self, *, instance: Instance, outcome: Outcome) -> None: ...

class _AfterStart6(Protocol):
    def __call__(self, *, params: Params, outcome: Outcome) -> None: ...

class _AfterStart7(Protocol):
    def __call__(self, *, instance: Instance, params: Params, outcome: Outcome) -> None: ...

_AfterStart = TypeVar("_AfterStart", bound=_AfterStart0 | _AfterStart1 | _AfterStart2 | _AfterStart3 | _AfterStart4 | _AfterStart5 | _AfterStart6 | _AfterStart7)

def after_start(function: _AfterStart) -> _AfterStart: ...

class _BeforeStop0(Protocol):
    def __call__(self) -> None: ...

class _BeforeStop1(Protocol):
    def __call__(self, *, instance: Instance) -> None: ...

class _BeforeStop2(Protocol):
    def __call__(self, *, params: Params) -> None: ...

class _BeforeStop3(Protocol):
    def __call__(self, *, force: bool) -> None: ...

class _BeforeStop4(Protocol):
    def __call__(self, *, instance: Instance, params: Params) -> None: ...

class _BeforeStop5(Protocol):
    def __call__(self, *, instance: Instance, force: bool) -> None: ...

class _BeforeStop6(Protocol):
    def __call__(self, *, params: Params, force: bool) -> None: ...

class _BeforeStop7(Protocol):
    def __call__(self, *, instance: Instance, params: Params, force: bool) -> None: ...

_BeforeStop = TypeVar("_BeforeStop", bound=_BeforeStop0 | _BeforeStop1 | _BeforeStop2 | _BeforeStop3 | _BeforeStop4 | _BeforeStop5 | _BeforeStop6 | _BeforeStop7)

def before_stop(function: _BeforeStop) -> _BeforeStop: ...

class _AfterStop0(Protocol):
    def __call__(self) -> None: ...

class _AfterStop1(Protocol):
    def __call__(self, *, instance: Instance) -> None: ...

class _AfterStop2(Protocol):
    def __call__(self, *, params: Params) -> None: ...

class _AfterStop3(Protocol):
    def __call__(self, *, outcome: Outcome) -> None: ...

class _AfterStop4(Protocol):
    def __call__(self, *, instance: Instance, params: Params) -> None: ...

class _AfterStop5(Protocol):
    def __call__(self, *, instance: Instance, outcome: Outcome) -> None: ...

class _AfterStop6(Protocol):
    def __call__(self, *, params: Params, outcome: Outcome) -> None: ...

class _AfterStop7(Protocol):
    def __call__(self, *, instance: Instance, params: Params, outcome: Outcome) -> None: ...

_AfterStop = TypeVar("_AfterStop", bound=_AfterStop0 | _AfterStop1 | _AfterStop2 | _AfterStop3 | _AfterStop4 | _AfterStop5 | _AfterStop6 | _AfterStop7)

def after_stop(function: _AfterStop) -> _AfterStop: ...
