"""The hooks that every driver has. Extensions and the drivers' own device families implement them alike.

Mark an implementation with `hvcore.plugin.hookimpl`. A function may take fewer arguments than the hook has.
A hook without arguments may also be a constant with the hook's name in capitals: ``PARAMS`` replaces ``params()``.
Hooks that begin with ``before_`` run before the point of no return. An exception in one undoes the operation and is
reported with the plugin's name. Hooks that begin with ``after_`` run when the operation is done. An exception in one is
reported with the outcome and changes nothing.

The project's tests run each example below.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import pluggy

from hvcore.errors import Problem
from hvcore.frozen import dataclass
from hvcore.model.answers import Outcome
from hvcore.model.instance import Instance
from hvcore.model.state import Op
from hvcore.params.param import ParamGroup
from hvcore.params.values import Params
from hvcore.resources.kind import ResourceKind

__all__ = ["PROJECT", "Condition", "called_when", "condition_of", "hookimpl", "hookspec", "when_given"]

F = TypeVar("F", bound=Callable[..., Any])

PROJECT: Final = "hvcore"
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
_CONDITION: Final = "hvcore_condition"


@hookspec
def params() -> ParamGroup:  # type: ignore[empty-body]
    """The parameters that this plugin adds to the driver. Called once, when the driver is loaded.

    >>> import hvcore.plugin as hv
    >>> volume = hv.Param("volume", hv.integer(minimum=0, maximum=11), default=5, help="The loudness.")
    >>> PARAMS = hv.ParamGroup("audio", volume)
    >>> PARAMS.params[0].key
    'volume'
    """


@hookspec
def resource_kinds() -> Iterable[ResourceKind[Any, Any]]:  # type: ignore[empty-body]
    """The resource kinds that this plugin adds: how the node checks, shows, acquires and releases such resources.

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
    """Problems across parameters. Pure: the check runs on any machine, so it must not read files or the clock.

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
    """Warnings about settings that work but are seldom useful: slow, unsafe, hard to migrate. Pure, like ``check``.

    Called only for an instance that passed every check. An exception here becomes a warning too. Warn about a default
    only if a better value can be set once for all instances of a node: operators ignore a warning that always appears.

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
    """Called after all checks and before any resource is acquired. Raise to refuse the start.

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
def before_stop(instance: Instance, params: Params, force: bool) -> None:  # noqa: FBT001 - hook arguments are passed by name
    """Called before a running instance is stopped. Raise to refuse; a stop by force continues and reports the error.

    ``params`` are those of the instance's start, from its record; secrets are None.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def before_stop(instance, force):
    ...     print("draining", instance.name)
    >>> before_stop(hv.Instance(name="web1", driver="fake"), force=False)
    draining web1
    """


@hookspec
def after_stop(instance: Instance, params: Params, outcome: Outcome) -> None:
    """Called when the instance has ended and its resources are released, also by recovery or after a failed start.

    ``params`` are as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def after_stop(outcome):
    ...     print(outcome.name, "ended by", outcome.stopped_by)
    >>> after_stop(hv.Outcome(name="w", op=hv.Op.STOP, changed=True, state=hv.State.STOPPED, stopped_by="quit"))
    w ended by quit
    """


@hookspec
def before_pause(instance: Instance, params: Params) -> None:
    """Called before a running instance is paused. Raise to refuse. Not called for an instance that is paused already.

    ``params`` are as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def before_pause(instance):
    ...     if "never-paused" in instance.tags:
    ...         raise RuntimeError("its clients would fail over")
    >>> before_pause(hv.Instance(name="web1", driver="fake"))
    """


@hookspec
def after_pause(instance: Instance, params: Params, outcome: Outcome) -> None:
    """Called when the instance is paused. ``params`` are as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def after_pause(instance):
    ...     print("mute the alarms of", instance.name)
    >>> after_pause(hv.Instance(name="web1", driver="fake"))
    mute the alarms of web1
    """


@hookspec
def before_resume(instance: Instance, params: Params) -> None:
    """Called before a paused instance is resumed. Raise to refuse. Not called for an instance that runs already.

    ``params`` are as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> frozen = {"web1"}
    >>> @hv.hookimpl
    ... def before_resume(instance):
    ...     if instance.name in frozen:
    ...         raise RuntimeError("its backup still reads the disk")
    >>> before_resume(hv.Instance(name="web2", driver="fake"))
    """


@hookspec
def after_resume(instance: Instance, params: Params, outcome: Outcome) -> None:
    """Called when the instance runs again. ``params`` are as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def after_resume(outcome):
    ...     print(outcome.name, "is", outcome.state)
    >>> after_resume(hv.Outcome(name="web1", op=hv.Op.RESUME, changed=True, state=hv.State.RUNNING))
    web1 is running
    """


@hookspec
def before_attach(instance: Instance, params: Params, device: str) -> None:
    """Called after all checks of a device, and before anything is acquired for it. Raise to refuse.

    ``device`` is its name in the instance, such as ``disk1``. ``instance`` is the one without the device, ``params`` are
    as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def before_attach(instance, device):
    ...     if device.startswith("usb") and "public" in instance.tags:
    ...         raise RuntimeError("no USB devices in public instances")
    >>> before_attach(hv.Instance(name="web1", driver="fake"), "usb0")
    """


@hookspec
def after_attach(instance: Instance, params: Params, device: str, outcome: Outcome) -> None:
    """Called when the instance has the device. ``instance`` is the one with it.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def after_attach(instance, device):
    ...     print(instance.name, "has", device)
    >>> after_attach(hv.Instance(name="web1", driver="fake"), "disk1")
    web1 has disk1
    """


@hookspec
def before_detach(instance: Instance, params: Params, device: str) -> None:
    """Called before the guest is asked to give the device up. Raise to refuse.

    ``instance`` is the one with the device, ``params`` are as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def before_detach(instance, device):
    ...     if device == "disk0":
    ...         raise RuntimeError("the system is on it")
    >>> before_detach(hv.Instance(name="web1", driver="fake"), "disk1")
    """


@hookspec
def after_detach(instance: Instance, params: Params, device: str, outcome: Outcome) -> None:
    """Called when the device is gone and what it held is released. ``instance`` is the one without it.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def after_detach(instance, device):
    ...     print(instance.name, "has no", device)
    >>> after_detach(hv.Instance(name="web1", driver="fake"), "disk1")
    web1 has no disk1
    """


@hookspec
def before_change(instance: Instance, params: Params, device: str, op: Op) -> None:
    """Called before a device changes that the instance keeps, after all checks. Raise to refuse.

    ``op`` is `hvcore.plugin.Op.INSERT`, ``EJECT``, ``MODIFY`` or ``RESIZE``. ``instance`` is the one of before, ``params``
    are as in ``before_stop``.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def before_change(device, op):
    ...     if op is hv.Op.RESIZE:
    ...         raise RuntimeError("disks are resized by the storage team")
    >>> before_change("cdrom1", hv.Op.EJECT)
    """


@hookspec
def after_change(instance: Instance, params: Params, device: str, outcome: Outcome) -> None:
    """Called when the device has changed: ``outcome.op`` says how. ``instance`` is the one of afterwards.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... def after_change(instance, device, outcome):
    ...     print(instance.name, device, outcome.op)
    >>> done = hv.Outcome(name="web1", op=hv.Op.MODIFY, changed=True, state=hv.State.RUNNING)
    >>> after_change(hv.Instance(name="web1", driver="fake"), "nic0", done)
    web1 nic0 modify
    """


# ------------------------------------------------------------------------------------- conditions of implementations


@dataclass(frozen=True, slots=True)
class Condition:
    """Decorates an implementation: it is called only if ``holds`` is true of this argument. ``keys``: parameters named."""

    argument: str
    holds: Callable[[Any], bool]
    keys: frozenset[str] = frozenset()

    def __call__(self, function: F) -> F:
        """Mark the function."""
        setattr(function, _CONDITION, self)
        return function


def called_when(argument: str, holds: Callable[[Any], bool]) -> Condition:
    """Call the function only if this holds of that argument of its hook."""
    return Condition(argument, holds)


def when_given(*keys: str) -> Condition:
    """Call the function only if one of these parameters is set, even to its default: `Params.any_given`.

    >>> import hvcore.plugin as hv
    >>> @hv.hookimpl
    ... @hv.when_given("volume")
    ... def check(params):
    ...     if params["volume"] > 9 and not params["neighbours_away"]:
    ...         yield hv.Problem(path="params.volume", what="is loud")
    """
    wanted = frozenset(keys)
    return Condition("params", operator.methodcaller("any_given", wanted), wanted)


def condition_of(function: object) -> Condition | None:
    """The condition for calling the function, or None."""
    found = getattr(function, _CONDITION, None)
    return found if isinstance(found, Condition) else None
