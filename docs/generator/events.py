"""The page of events: those that the core sends to plugins, in recorded order, and those of QEMU."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pluggy

import hvcore.plugins.hookspecs
from generator.hooks import hook_functions
from generator.words import TEXT, WORDS, first_line, table
from hv_fake.plugin import FakeDriver
from hv_kvm.run.observation.journal import EVENTS, last_run_state
from hvcore import Disk, HvError, Instance
from hvcore.deadline import Deadline
from hvcore.host.environment import Host
from hvcore.operations.context import Context
from hvcore.operations.devices.attach import attach, detach
from hvcore.operations.devices.modify import modify
from hvcore.operations.lifecycle.pause import pause, resume
from hvcore.operations.lifecycle.reboot import reboot
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import cleanup, stop
from hvcore.plugin import hookimpl
from hvcore.plugins.hooks import Hooks
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.plugins.loader import load
from hvcore.state.store import Store

__all__ = ["events_page"]

LIFECYCLE: Final = tuple(
    function
    for function in hook_functions(hvcore.plugins.hookspecs)
    if function.__name__.startswith(("before_", "after_"))
)
EXCEPTIONS: Final = {
    "before_start": "refuses the start",
    "before_stop": "refuses the stop; with `force` it becomes a note of the outcome",
    "before_pause": "refuses the pause",
    "before_resume": "refuses the resume",
    "before_attach": "refuses the device",
    "before_detach": "refuses to detach",
    "before_change": "refuses the change",
}


def events_page() -> str:
    """Lifecycle events of all drivers, then the events of QEMU with the state that each causes."""
    return "\n\n".join(
        [
            "# Events",
            TEXT["events"].strip(),
            table(("event", "when", "carries", "an exception"), _lifecycle()),
            TEXT["events_heard"].strip(),
            table(("operation", "events"), _received()),
            TEXT["events_qemu"].strip(),
            table(("QEMU's event", "state of a guest that was running", "reason"), _qemu()),
        ]
    )


def _lifecycle() -> Iterator[tuple[str, ...]]:
    for function in LIFECYCLE:
        name, hints = function.__name__, function.__annotations__
        carries = ", ".join(f"`{argument}`" for argument in hints if argument != "return")
        yield (
            f"[{name}](hooks.md#{name})",
            first_line(function),
            carries,
            EXCEPTIONS.get(name, "becomes a note of the outcome"),
        )


def _received() -> Iterator[tuple[str, str]]:
    """Each operation, with the events that a plugin receives."""
    received: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        loaded = _with_listener(received)
        host = Host(run_dir=Path(directory), privileged=False, uid_pool=range(1 << 20, 1 << 21))
        context = Context(host=host, store=Store(host.run_dir), driver=lambda _: loaded, progress=lambda _: None)
        for what, operation in _operations(context, loaded):
            received.clear()
            with suppress(HvError):
                operation()
            yield what, ", ".join(received) or "none"


def _with_listener(received: list[str]) -> LoadedDriver:
    manager = pluggy.PluginManager(hvcore.plugins.hookspecs.PROJECT)
    manager.add_hookspecs(hvcore.plugins.hookspecs)
    listener = SimpleNamespace(**{function.__name__: _recorder(function.__name__, received) for function in LIFECYCLE})
    for name, plugin in (*FakeDriver.plugins, ("listener", listener)):
        manager.register(plugin, name)
    hooks, found = Hooks(manager), load("fake")
    return LoadedDriver(entry=found.entry, driver=FakeDriver(hooks), hooks=hooks, schema=found.schema, extensions=())


def _recorder(name: str, received: list[str]) -> Any:
    def record() -> None:
        received.append(f"`{name}`")

    record.__name__ = name
    return hookimpl(record)


def _operations(context: Context, loaded: LoadedDriver) -> Iterable[tuple[str, Callable[[], object]]]:
    web1, deadline = Instance(name="web1", driver="fake"), Deadline(60)
    fails = Instance(name="web1", driver="fake", params={"fail_at": "start"})
    up = partial(start, context, loaded, paused=False, deadline=deadline)
    return (
        ("start, if the driver fails", partial(up, fails)),
        ("start", partial(up, web1)),
        ("start of a running instance", partial(up, web1)),
        ("pause", partial(pause, context, "web1", deadline=deadline)),
        ("pause of a paused instance", partial(pause, context, "web1", deadline=deadline)),
        ("resume", partial(resume, context, "web1", deadline=deadline)),
        ("attach", partial(attach, context, "web1", Disk(path="/srv/a.img"), params={}, deadline=deadline)),
        (
            "modify, insert, eject, resize",
            partial(modify, context, "web1", "disk0", {"cache": "none"}, deadline=deadline),
        ),
        ("detach", partial(detach, context, "web1", "disk0", deadline=deadline)),
        ("reboot", partial(reboot, context, "web1", force=False, deadline=deadline, start_deadline=deadline)),
        ("stop, or `force`", partial(stop, context, "web1", force=True, deadline=deadline)),
        ("stop of a stopped instance", partial(stop, context, "web1", force=False, deadline=deadline)),
        ("cleanup of a stopped instance", partial(cleanup, context, "web1", deadline=deadline)),
    )


def _qemu() -> Iterator[tuple[str, ...]]:
    for name in EVENTS:
        data = json.loads(WORDS["qemu_events"][name])
        lines = ({"event": "RESUME"}, {"event": name, "data": data})
        journal = last_run_state([json.dumps(line).encode() for line in lines])
        with_data = ", ".join(f"{key} {json.dumps(value)}" for key, value in data.items())
        yield f"`{name}`" + (f" with {with_data}" if data else ""), f"`{journal.status}`", journal.reason or "-"
