"""The page of events: what plugins are told, in the order in which it was heard here, and what QEMU tells."""

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
from hv_kvm.run.journal import EVENTS, last_run_state
from hvcore import HvError, Instance
from hvcore.deadline import Deadline
from hvcore.host.environment import Host
from hvcore.operations.context import Context
from hvcore.operations.pause import pause, resume
from hvcore.operations.reboot import reboot
from hvcore.operations.start import start
from hvcore.operations.stop import cleanup, stop
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
    "before_stop": "refuses the stop; with `force` it is a note of the outcome",
}


def events_page() -> str:
    """Lifecycle events of all drivers, then those of QEMU and what each makes of a guest's state."""
    return "\n\n".join(
        [
            "# Events",
            TEXT["events"].strip(),
            table(("event", "when", "carries", "an exception"), _lifecycle()),
            TEXT["events_heard"].strip(),
            table(("asked for", "events"), _heard()),
            TEXT["events_qemu"].strip(),
            table(("QEMU's event", "a guest that ran is then", "reason"), _qemu()),
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
            EXCEPTIONS.get(name, "is a note of the outcome"),
        )


def _heard() -> Iterator[tuple[str, str]]:
    """What a listener hears when one thing after the other is asked of a node."""
    heard: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        loaded = _with_listener(heard)
        host = Host(run_dir=Path(directory), privileged=False, uid_pool=range(1 << 20, 1 << 21))
        context = Context(host=host, store=Store(host.run_dir), driver=lambda _: loaded, progress=lambda _: None)
        for what, ask in _asked(context, loaded):
            heard.clear()
            with suppress(HvError):
                ask()
            yield what, ", ".join(heard) or "none"


def _with_listener(heard: list[str]) -> LoadedDriver:
    manager = pluggy.PluginManager(hvcore.plugins.hookspecs.PROJECT)
    manager.add_hookspecs(hvcore.plugins.hookspecs)
    listener = SimpleNamespace(**{function.__name__: _hearing(function.__name__, heard) for function in LIFECYCLE})
    for name, plugin in (*FakeDriver.plugins, ("listener", listener)):
        manager.register(plugin, name)
    hooks, found = Hooks(manager), load("fake")
    return LoadedDriver(entry=found.entry, driver=FakeDriver(hooks), hooks=hooks, schema=found.schema, extensions=())


def _hearing(name: str, heard: list[str]) -> Any:
    def told() -> None:
        heard.append(f"`{name}`")

    told.__name__ = name
    return hookimpl(told)


def _asked(context: Context, loaded: LoadedDriver) -> Iterable[tuple[str, Callable[[], object]]]:
    web1, deadline = Instance(name="web1", driver="fake"), Deadline(60)
    fails = Instance(name="web1", driver="fake", params={"fail_at": "start"})
    up = partial(start, context, loaded, paused=False, deadline=deadline)
    return (
        ("start, when the driver fails", partial(up, fails)),
        ("start", partial(up, web1)),
        ("start of what runs", partial(up, web1)),
        ("pause", partial(pause, context, "web1", deadline=deadline)),
        ("resume", partial(resume, context, "web1", deadline=deadline)),
        ("reboot", partial(reboot, context, "web1", force=False, deadline=deadline, start_deadline=deadline)),
        ("stop, or `force`", partial(stop, context, "web1", force=True, deadline=deadline)),
        ("stop of what is stopped", partial(stop, context, "web1", force=False, deadline=deadline)),
        ("cleanup of what is stopped", partial(cleanup, context, "web1", deadline=deadline)),
    )


def _qemu() -> Iterator[tuple[str, ...]]:
    for name in EVENTS:
        data = json.loads(WORDS["qemu_events"][name])
        lines = ({"event": "RESUME"}, {"event": name, "data": data})
        journal = last_run_state([json.dumps(line).encode() for line in lines])
        with_data = ", ".join(f"{key} {json.dumps(value)}" for key, value in data.items())
        yield f"`{name}`" + (f" with {with_data}" if data else ""), f"`{journal.status}`", journal.reason or "-"
