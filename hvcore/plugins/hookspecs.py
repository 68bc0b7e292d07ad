"""The hooks that every driver has. Extensions and the drivers' own device families implement them alike.

Mark an implementation with `hvcore.plugin.hookimpl`. A function may take fewer arguments than are listed.
A hook without arguments may also be a constant with the hook's name in capitals: ``PARAMS`` is what ``params()`` would return.
Hooks that begin with ``before_`` run before the point of no return: an exception in one undoes the
operation and is reported as that plugin's. Hooks that begin with ``after_`` run when it is done: an
exception is reported with the outcome and changes nothing.

Each example below is run by the project's tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pluggy

from hvcore.errors import Problem
from hvcore.model.instance import Instance
from hvcore.model.outcome import Outcome
from hvcore.params.param import ParamGroup
from hvcore.params.values import Params
from hvcore.resources.kind import ResourceKind

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT: Final = "hvcore"
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


@hookspec
def params() -> ParamGroup:  # type: ignore[empty-body]
    """The parameters that this plugin adds to the driver. Called once, when the driver is loaded.

    >>> import hvcore.plugin as hv
    >>> volume = hv.Param("volume", hv.integer(minimum=0, maximum=11), default=5, help="Loudness.")
    >>> PARAMS = hv.ParamGroup("audio", volume)
    >>> PARAMS.params[0].key
    'volume'
    """


@hookspec
def resource_kinds() -> Iterable[ResourceKind[Any, Any]]:  # type: ignore[empty-body]
    """The kinds of resources that this plugin adds: what the node does to check, show, get and release them.

    >>> import hvcore.plugin
    >>> from hvcore.plugin import Requirement, Turn
    >>> class Licence(hvcore.plugin.Resource[None]):
    ...     pass
    >>> class LicenceKind(Requirement[Licence], name="licence", turn=Turn.FILE):
    ...     pass
    >>> RESOURCE_KINDS = (LicenceKind(),)
    >>> [kind.name for kind in RESOURCE_KINDS]
    ['licence']
    """


@hookspec
def check(instance: Instance, params: Params) -> Iterable[Problem]:  # type: ignore[empty-body]
    """What is wrong across parameters. Pure: it runs anywhere, so it may not look at files or the clock.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def check(instance, params):
    ...     if instance.vcpus > 1 and not params["smp"]:
    ...         yield hv.Problem(path="vcpus", what="needs smp", got="2", todo="set smp = true")
    >>> web1 = hv.Instance(name="web1", driver="fake", vcpus=2)
    >>> [str(problem) for problem in check(web1, {"smp": False})]
    ['vcpus: needs smp, got 2; set smp = true']
    """


@hookspec
def assess(instance: Instance, params: Params) -> Iterable[Problem]:  # type: ignore[empty-body]
    """What works and is rarely wanted: slow, unsafe, hard to move. Pure, like ``check``; nothing fails because of it.

    Called only for an instance that passed every check. What one plugin raises here is itself told as a warning. Warn
    of a default only when a node can name something better once for all instances: what is always told is soon
    read by nobody.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def assess(params):
    ...     if params["volume"] > 9:
    ...         yield hv.Problem(path="params.volume", what="hurts the ears", got=str(params["volume"]))
    >>> [str(problem) for problem in assess({"volume": 11})]
    ['params.volume: hurts the ears, got 11']
    """


@hookspec
def before_start(instance: Instance, params: Params) -> None:
    """Called when everything has been checked and nothing has been acquired. Raise to refuse the start.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def before_start(instance):
    ...     if instance.name.startswith("old-"):
    ...         raise RuntimeError("retired instances stay off")
    """


@hookspec
def after_start(instance: Instance, params: Params, outcome: Outcome) -> None:
    """Called when the instance runs.

    >>> import hvcore.plugin as hv
    >>> started = []
    >>> @hv.hookimpl
    ... def after_start(outcome):
    ...     started.append(outcome.name)
    >>> after_start(hv.Outcome(name="web1", op=hv.Op.START, changed=True, state=hv.State.RUNNING))
    >>> started
    ['web1']
    """


@hookspec
def before_stop(instance: Instance, force: bool) -> None:  # noqa: FBT001 - hook arguments are passed by name
    """Called before a running instance is told to stop. Raise to refuse; a forced stop goes on and reports it.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def before_stop(instance, force):
    ...     print("draining", instance.name)
    >>> before_stop(hv.Instance(name="web1", driver="fake"), force=False)
    draining web1
    """


@hookspec
def after_stop(instance: Instance, outcome: Outcome) -> None:
    """Called when the instance is gone and everything it held has been released, also by recovery or a failed start.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def after_stop(outcome):
    ...     print(outcome.name, "ended by", outcome.rung)
    >>> after_stop(hv.Outcome(name="w", op=hv.Op.STOP, changed=True, state=hv.State.STOPPED, rung="quit"))
    w ended by quit
    """
