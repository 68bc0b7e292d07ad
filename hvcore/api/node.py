"""The API of host applications: one node, its drivers and its instances.

Synchronous, and safe to share between threads. Every call has a deadline, and none needs a daemon. When a call returns,
its changes are on disk. Operations are imported when they are called, which saves `hv list` the milliseconds below.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from hvcore.api.changing_devices import ChangingDevices
from hvcore.api.tuned_node import Pressing, TunedNode
from hvcore.config import Config, absolute_params, absolute_paths, default_config_dir, default_definitions_dir, strict
from hvcore.deadline import Deadline, checked_seconds
from hvcore.errors import DriverLoadError, HookError, HvError, NodeError, ParamsError, Problem, UnknownDriverError
from hvcore.host.environment import Host, default_run_dir, default_state_dir, default_uid_pool
from hvcore.host.files import private_dir
from hvcore.model.instance import Instance, read_instance
from hvcore.operations.context import CallOptions, Context
from hvcore.params.words import shortened
from hvcore.state.store import Store

if TYPE_CHECKING:
    from hvcore.api.driver_handle import DriverHandle
    from hvcore.api.node_migrations import Migrations
    from hvcore.model.answers import Outcome
    from hvcore.operations.recovery.recover import Recovered
    from hvcore.params.schema import Schema
    from hvcore.plugins.loaded_driver import LoadedDriver  # with pluggy and metadata: not for those who load no driver

__all__ = ["Node"]


_START_S: Final = 30.0  # for the second half of a reboot
LOAD_S: Final = 30.0  # for one plugin; a driver takes a tenth of a second
_LOAD_RUNNING_S: Final = 10.0  # the same for a running instance, which has to be seen and stopped


class _Drivers:
    """The loaded drivers. Each is loaded once. Safe to share between threads.

    ``limit_s``: seconds that a plugin may take to load.
    """

    def __init__(self, limit_s: float = LOAD_S) -> None:
        self._limit_s = limit_s
        self._complete: dict[str, LoadedDriver] = {}
        self._partial: dict[str, LoadedDriver] = {}  # without extensions that cannot be used
        self._overdue: dict[str, DriverLoadError] = {}
        self._loading = threading.Lock()

    def get(self, name: str) -> LoadedDriver:
        """The driver with all its extensions. Raises `UnknownDriverError` or `DriverLoadError`."""
        from hvcore.plugins.loader import load  # noqa: PLC0415 - 91 ms

        with self._loading:
            if name not in self._complete:
                self._complete[name] = self._in_time(name, load, self._limit_s)
            return self._complete[name]

    def for_running(self, name: str) -> LoadedDriver:
        """The driver for a running instance, without broken extensions, which must not prevent its observation or stop.

        Raises `UnknownDriverError` or `DriverLoadError`, also when a hook of the driver fails.
        """
        try:
            return self.get(name) if strict() else self._without_broken(name)
        except HookError as error:
            raise DriverLoadError(str(error)) from error

    def _without_broken(self, name: str) -> LoadedDriver:
        from hvcore.plugins.loader import load_for_running  # noqa: PLC0415 - 91 ms

        with self._loading:
            known = self._complete.get(name) or self._partial.get(name)
            if known is not None:
                return known
            loaded = self._in_time(name, load_for_running, min(self._limit_s, _LOAD_RUNNING_S))
            (self._partial if loaded.skipped else self._complete)[name] = loaded
            return loaded

    def _in_time(self, name: str, loads: Callable[..., LoadedDriver], limit_s: float) -> LoadedDriver:
        from hvcore.plugins.importing import StillLoadingError  # noqa: PLC0415 - as the loader

        overdue = self._overdue.get(name)
        if overdue is not None:
            cause = overdue.__cause__
            if isinstance(cause, StillLoadingError) and cause.thread.is_alive():  # do not wait for it again
                raise overdue
            del self._overdue[name]
        try:
            return loads(name, limit_s=limit_s)
        except DriverLoadError as error:
            if isinstance(error.__cause__, StillLoadingError):
                self._overdue[name] = error
            raise


def _params_problems(config: Config, drivers: _Drivers, data: Mapping[str, Any]) -> tuple[Problem, ...]:
    """The driver's problems with the parameters, when the rest of the data makes no instance."""
    driver, params = data.get("driver"), data.get("params", {})
    if not isinstance(driver, str) or not isinstance(params, Mapping):
        return ()
    try:
        layers = config.layers(driver, None)
        return layers.placed(drivers.get(driver).schema.problems(params, below=layers.below)[1])
    except UnknownDriverError as error:
        return (Problem(path="driver", what=str(error)),)


def _with_absolute_paths(drivers: _Drivers, data: Mapping[str, Any], directory: str) -> dict[str, Any]:
    found = absolute_paths(data, directory)
    schema = _schema(drivers, data)
    if schema is not None and "params" in found:
        found["params"] = absolute_params(found["params"], schema.path_keys, directory)
    return found


def _placed(drivers: _Drivers, data: Mapping[str, Any], problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The problems, where an unknown key that is a parameter of the driver is sent below ``[params]``."""
    schema = _schema(drivers, data)
    if schema is None:
        return problems
    misplaced = {key for key in data if key in schema.params}
    return tuple(
        replace(problem, todo=f"{problem.path} belongs below [params]") if problem.path in misplaced else problem
        for problem in problems
    )


def _schema(drivers: _Drivers, data: Mapping[str, Any]) -> Schema | None:
    """The parameters of the driver in the data; None without a driver that can be loaded."""
    name = data.get("driver")
    with suppress(HvError):
        return drivers.get(name).schema if isinstance(name, str) else None
    return None


def _real(run_dir: Path) -> Path:
    """The directory that the path leads to: processes are found by that path. Raises `NodeError` for a link of others."""
    if run_dir.is_symlink() and run_dir.lstat().st_uid not in (0, os.geteuid()):
        what = f"is a link that uid {run_dir.lstat().st_uid} made"
        raise NodeError(f"run directory {str(run_dir)!r}: {what}; choose another with --run-dir")
    return Path(os.path.realpath(run_dir))


class Node(ChangingDevices, TunedNode, Pressing):
    """The instances of this node whose state is in one run directory.

    ``run_dir``: default ``HVCORE_RUN_DIR``, otherwise /run/hvcore for root, hvcore in ``XDG_RUNTIME_DIR`` for others.
    ``config_dir``, with the node's values, profiles and definitions: default ``HVCORE_CONFIG_DIR``, otherwise /etc/hvcore.
    ``state_dir``, with what a reboot of the node keeps: default ``HVCORE_STATE_DIR``, otherwise /var/lib/hvcore.
    ``uid_pool``: the uids for confined guests. Default: those in node.toml, otherwise 1880000000 to 1880065535.
    ``load_s``: the seconds that a plugin may take to be imported; a running instance waits at most 10 s for its driver.
    Time in which the plugin waits for a processor does not count.
    ``progress`` is called with short texts during slow work. Raises `NodeError` when the run directory is not safe to use.
    Operations also take ``busy_s``, the seconds to wait for another operation on the same instance, and ``progress``,
    called with name, operation and text: `CallOptions`.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str] | None = None,
        *,
        config_dir: str | os.PathLike[str] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        uid_pool: range | None = None,
        load_s: float = LOAD_S,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.run_dir = _real(Path(run_dir) if run_dir is not None else default_run_dir())
        if os.path.exists(self.run_dir):
            private_dir(self.run_dir)
        self._drivers = _Drivers(checked_seconds(load_s, "load_s"))
        self.config_dir = Path(config_dir) if config_dir is not None else default_config_dir()
        self._config = Config(self.config_dir)
        self._definitions_dir = default_definitions_dir() if config_dir is None else self.config_dir / "instances"
        pool = uid_pool or self._config.uid_pool() or default_uid_pool()
        host = Host(run_dir=self.run_dir, privileged=os.geteuid() == 0, uid_pool=pool)
        self._context = Context(
            host=host,
            store=Store(self.run_dir),
            driver=self._drivers.for_running,
            layers=lambda instance: self._config.layers(instance.driver, instance.profile),
            progress=progress,
            state_dir=Path(state_dir) if state_dir is not None else default_state_dir(),
        )

    @property
    def migrations(self) -> Migrations:
        """The migrations of the instances: to other nodes, and from there."""
        from hvcore.api.node_migrations import Migrations  # noqa: PLC0415 - as the operations

        return Migrations(self, self._context)

    def beside(self, run_dir: str | os.PathLike[str]) -> Self:
        """Another run directory of this node, with the same configuration, kept state and uids."""
        context = self._context
        return type(self)(
            run_dir, config_dir=self.config_dir, state_dir=context.state_dir, uid_pool=context.host.uid_pool
        )

    def __repr__(self) -> str:
        return f"Node({str(self.run_dir)!r}, config_dir={str(self.config_dir)!r})"

    def driver(self, name: str) -> DriverHandle:
        """A driver by name. Imports no other driver. Raises `UnknownDriverError` or `DriverLoadError`."""
        from hvcore.api.driver_handle import DriverHandle  # noqa: PLC0415 - 45 ms

        return DriverHandle(self._context, self._drivers.get(name))

    def check(self, data: object, *, directory: str | os.PathLike[str] | None = None) -> Instance:
        """The instance in the plain data, checked with its driver. Raises `ParamsError` with every problem.

        ``directory``: where relative paths of files begin. Default: they are refused.
        """
        if directory is not None and isinstance(data, Mapping):
            data = _with_absolute_paths(self._drivers, data, os.path.abspath(directory))
        instance, problems = read_instance(data)
        if instance is not None:
            self.driver(instance.driver).check(instance)
            return instance
        subject = "instance"
        if isinstance(data, Mapping):
            name = data.get("name", subject)
            subject = name[:80] if isinstance(name, str) and name.isprintable() else shortened(name)
            problems = (*_placed(self._drivers, data, problems), *_params_problems(self._config, self._drivers, data))
        raise ParamsError(subject, problems)

    def _absolute(self, data: Mapping[str, Any], directory: str) -> dict[str, Any]:
        return _with_absolute_paths(self._drivers, data, directory)

    def json_schema(self, driver: str) -> dict[str, Any]:
        """A whole instance of that driver as JSON Schema: its keys, disks, NICs and parameters."""
        from hvcore.model.instance_schema import instance_schema  # noqa: PLC0415 - for those who want it

        return instance_schema(self.driver(driver).schema, driver)

    def start(
        self,
        instance: Instance,
        *,
        paused: bool = False,
        deadline_s: float = 30.0,
        source: str | os.PathLike[str] = "",
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Like `DriverHandle.start`, with the driver that the instance names."""
        return self.driver(instance.driver).start(
            instance, paused=paused, deadline_s=deadline_s, source=source, **options
        )

    def stop(
        self, name: str, *, force: bool = False, deadline_s: float = 60.0, **options: Unpack[CallOptions]
    ) -> Outcome:
        """Ask the guest to shut down, and power it off after ``deadline_s`` seconds; at once with ``force``.

        ``force`` also ends the wait of a polite stop that is in progress, in any process.
        ``changed=False`` for an instance that is not running or unknown. Raises `BusyError`, `LeftoverError`, and
        `DeadlineError` when the process does not end after SIGKILL.
        """
        from hvcore.operations.lifecycle.stop import stop  # noqa: PLC0415 - 32 ms

        return stop(self._context.for_call(name, "stop", options), name, force=force, deadline=Deadline(deadline_s))

    def cleanup(self, name: str, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]) -> Outcome:
        """Free the resources of an instance that has crashed or shut down. Raises `StateError` while it runs."""
        from hvcore.operations.lifecycle.stop import cleanup  # noqa: PLC0415 - 32 ms

        return cleanup(self._context.for_call(name, "cleanup", options), name, deadline=Deadline(deadline_s))

    def pause(self, name: str, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> Outcome:
        """Pause a running instance. Raises `NotFoundError`, `UnsupportedError`, `StateError`."""
        from hvcore.operations.lifecycle.pause import pause  # noqa: PLC0415 - 32 ms

        return pause(self._context.for_call(name, "pause", options), name, deadline=Deadline(deadline_s))

    def resume(self, name: str, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> Outcome:
        """Continue a paused instance. Raises `NotFoundError`, `UnsupportedError`, `StateError`."""
        from hvcore.operations.lifecycle.pause import resume  # noqa: PLC0415 - 32 ms

        return resume(self._context.for_call(name, "resume", options), name, deadline=Deadline(deadline_s))

    def reboot(
        self, name: str, *, force: bool = False, deadline_s: float = 60.0, **options: Unpack[CallOptions]
    ) -> Outcome:
        """Stop an instance, and start it again with the spec in its record.

        Parameters that apply at a launch get new values from the instance file, if there was one, and from the node.
        The notes of the outcome name the new values, those that could not be used, and those that need a start.
        ``force`` also ends the wait of a polite stop or reboot that is in progress, in any process.
        """
        from hvcore.operations.lifecycle.reboot import reboot  # noqa: PLC0415 - 32 ms

        deadline = Deadline(deadline_s)
        start_deadline = deadline.extended(_START_S)
        return reboot(
            self._context.for_call(name, "reboot", options),
            name,
            force=force,
            deadline=deadline,
            start_deadline=start_deadline,
        )

    def recover(self, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]) -> list[Recovered]:
        """Finish or undo the interrupted operations of every instance. Never stops a healthy instance."""
        from hvcore.operations.recovery.recover import recover_all  # noqa: PLC0415 - 32 ms

        self._context.for_call("", "recover", options)  # wrong ones are refused, also without any instance
        seconds = checked_seconds(deadline_s)
        if not self._context.has_journals:
            return recover_all(self._context, seconds, options)
        from hvcore.operations.migration.answer import settle_jobs  # noqa: PLC0415 - 40 ms, for nodes with migrations

        return [*settle_jobs(self._context, seconds), *recover_all(self._context, seconds, options)]
