"""Typed decorators for hook implementations: ``@hv.impl.check`` is `hvcore.plugin.hookimpl` that a type checker understands.

A function may have any name and takes those of the hook's arguments that it needs, by name, in any order. An argument
that the hook does not have, another type, or another result is an error of the type checker before it is one at load.
For functions; in a class, mark methods with `hvcore.plugin.hookimpl`.

>>> import hvcore.plugin as hv
>>> @hv.impl.check
... def loud_enough(params: hv.Params) -> list[hv.Problem]:
...     return [] if params["volume"] else [hv.Problem(path="params.volume", what="is 0")]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from hvcore.errors import Problem
from hvcore.params.param import ParamGroup
from hvcore.plugins import hook_arguments
from hvcore.plugins.hookspecs import hookimpl
from hvcore.resources.kind import ResourceKind

__all__ = ["after_start", "after_stop", "assess", "before_start", "before_stop", "check", "params", "resource_kinds"]

# One for each kind of hook, and not a decorator that is called with its hook: that would forget the function's own type.
_Group = TypeVar("_Group", bound=hook_arguments.Nothing[ParamGroup])
_Kinds = TypeVar("_Kinds", bound=hook_arguments.Nothing[Iterable[ResourceKind[Any, Any]] | None])
_Check = TypeVar("_Check", bound=hook_arguments.InstanceParams[Iterable[Problem] | None])
_Begin = TypeVar("_Begin", bound=hook_arguments.InstanceParams[None])
_Begun = TypeVar("_Begun", bound=hook_arguments.InstanceParamsOutcome[None])
_End = TypeVar("_End", bound=hook_arguments.InstanceForce[None])
_Ended = TypeVar("_Ended", bound=hook_arguments.InstanceOutcome[None])


def params(function: _Group) -> _Group:
    """The parameters that this plugin adds: `hvcore.plugins.hookspecs.params`."""
    return hookimpl(specname="params")(function)


def resource_kinds(function: _Kinds) -> _Kinds:
    """The kinds of resources that this plugin adds: `hvcore.plugins.hookspecs.resource_kinds`."""
    return hookimpl(specname="resource_kinds")(function)


def check(function: _Check) -> _Check:
    """What is wrong across parameters: `hvcore.plugins.hookspecs.check`."""
    return hookimpl(specname="check")(function)


def assess(function: _Check) -> _Check:
    """What works and is rarely wanted: `hvcore.plugins.hookspecs.assess`."""
    return hookimpl(specname="assess")(function)


def before_start(function: _Begin) -> _Begin:
    """Before anything is acquired: `hvcore.plugins.hookspecs.before_start`."""
    return hookimpl(specname="before_start")(function)


def after_start(function: _Begun) -> _Begun:
    """When it runs: `hvcore.plugins.hookspecs.after_start`."""
    return hookimpl(specname="after_start")(function)


def before_stop(function: _End) -> _End:
    """Before it is told to stop: `hvcore.plugins.hookspecs.before_stop`."""
    return hookimpl(specname="before_stop")(function)


def after_stop(function: _Ended) -> _Ended:
    """When it is gone: `hvcore.plugins.hookspecs.after_stop`."""
    return hookimpl(specname="after_stop")(function)
