"""The part of `Node` that changes nothing: the instances as they are, ways to reach them, and what they use."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from hvcore.deadline import Deadline
from hvcore.errors import InputError, NotFoundError
from hvcore.model.state import State
from hvcore.operations.context import CallOptions, Context
from hvcore.operations.inspection import info

if TYPE_CHECKING:
    from hvcore.model.abi import Abi
    from hvcore.model.answers import Console, Execution, Log
    from hvcore.model.events.bookmark import Bookmark
    from hvcore.model.instance import Instance
    from hvcore.model.node_facts import NodeFacts
    from hvcore.model.observation import ConsoleAddress, InstanceInfo
    from hvcore.model.usage import InstanceUsage
    from hvcore.operations.watch.watch import Watch

__all__ = ["ReadingNode"]


class ReadingNode:
    """What `Node` can do without a change. Operations are imported when they are called, as in `Node`."""

    _context: Context
    config_dir: Path

    def instances(self) -> list[InstanceInfo]:
        """Every instance with state on this node, sorted by name. Takes no lock and does not wait."""
        return info.infos(self._context)

    def info(self, name: str) -> InstanceInfo:
        """One instance. Raises `NotFoundError`."""
        return info.info(self._context, name)

    def instance(self, name: str) -> Instance:
        """The instance as it was started, without secret parameters. Raises `NotFoundError`, `RecordError`."""
        record = self._context.store.load(name)
        if record is None:
            raise NotFoundError(name)
        return record.instance

    def wait(
        self, name: str, *, state: State | str | Collection[State | str] = State.RUNNING, deadline_s: float = 60.0
    ) -> InstanceInfo:
        """The instance, as soon as it is in that state, or in one of those. Raises `DeadlineError`, `InputError`.

        An instance that is not known on this node is ``stopped``, so one that is to be started can be waited for.
        """
        from hvcore.operations.inspection.wait import wait  # noqa: PLC0415 - for those who wait

        given = (state,) if isinstance(state, str) else tuple(state)
        try:
            states = frozenset(State(one) for one in given)
        except ValueError as error:
            what = f"state: must be one of {', '.join(State)}, got {given!r:.80}"
            raise InputError(f"{what}; give one or several of these") from error
        if not states:
            raise InputError("state: is empty, got (); give at least one state")
        return wait(self._context, name, states, Deadline(deadline_s))

    def watch(
        self, names: Collection[str] | None = None, *, since: float | Bookmark | Mapping[str, Any] | None = None
    ) -> Watch:
        """The events of these instances as they happen, of all without ``names``. Close it, or use it in a ``with``.

        ``since`` is a time in seconds since 1970, or a bookmark of another watch, also as JSON: events from there on come
        first. Default: only new events. Raises `NotFoundError` for an impossible name, `InputError`, `NodeError`.
        """
        from hvcore.model.events.bookmark import Bookmark  # noqa: PLC0415 - for those who watch
        from hvcore.operations.watch.watch import Watch  # noqa: PLC0415 - the same

        if isinstance(names, str):
            raise InputError(f"names: must be several names, got {names!r:.80}; give a list")
        if isinstance(since, Mapping):
            since = Bookmark.from_json(since)
        elif isinstance(since, int | float) and not 0 <= since < math.inf:
            raise InputError(f"since: must be seconds since 1970, got {since!r:.80}; give a time or a bookmark")
        return Watch(self._context, names, since)

    def console(self, name: str) -> Console:
        """How to reach the instance's console. Raises `NotFoundError`, `UnsupportedError`, `StateError`."""
        from hvcore.operations.access.terminal import console  # noqa: PLC0415 - 3.4 ms

        return console(self._context, name)

    def execution(self, name: str, argv: Sequence[str], *, terminal: bool = False) -> Execution:
        """A command that runs a program inside the instance, on a terminal or not, and exits with its exit code.

        Raises `InputError`, `NotFoundError`, `UnsupportedError`, `StateError`.
        """
        from hvcore.operations.access.terminal import execution  # noqa: PLC0415 - 3.4 ms

        return execution(self._context, name, tuple(argv), terminal=terminal)

    def log(self, name: str) -> Log:
        """The file with the output of the instance. Raises `NotFoundError`, `UnsupportedError`."""
        from hvcore.operations.access.terminal import log  # noqa: PLC0415 - 3.4 ms

        return log(self._context, name)

    def console_log(self, name: str) -> Log:
        """The file with the end of what the instance wrote to its console; `hvcore.log_pieces` reads it.

        It is there until the instance is stopped, also after the guest has ended. Raises `NotFoundError`,
        `UnsupportedError`, and `OperationError` if the instance was started without it.
        """
        from hvcore.operations.access.terminal import console_log  # noqa: PLC0415 - 3.4 ms

        return console_log(self._context, name)

    def abi(self, instance: str | Instance) -> Abi:
        """What a guest sees of its machine: an instance on this node by its name, or one that could be started.

        Raises `NotFoundError`, `ParamsError`, `UnsupportedError`, `RecordError`, and what the driver raises.
        """
        from hvcore.operations.inspection import seen_machine  # noqa: PLC0415 - for those who ask

        if isinstance(instance, str):
            return seen_machine.running(self._context, instance)
        return seen_machine.planned(self._context, instance)

    def consoles(self, name: str) -> tuple[ConsoleAddress, ...]:
        """The ways to reach an instance: serial console, VNC, SPICE. A single ``message`` says why it has no console.

        Text comes before graphics. Raises `NotFoundError`.
        """
        from hvcore.operations.access.screen import consoles  # noqa: PLC0415 - 32 ms

        return consoles(self._context, name)

    def screenshot(self, name: str, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> bytes:
        """The picture on the instance's display, as a PNG file. Works without a VNC or SPICE server too.

        Raises `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` without a graphics card.
        """
        from hvcore.operations.access.screen import screenshot  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "screenshot", options)
        return screenshot(context, name, deadline=Deadline(deadline_s))

    def usage(self, *names: str, deadline_s: float = 2.0) -> list[InstanceUsage]:
        """What the running instances use, or those with these names: processors, memory, disks, NICs. Sorted by name.

        All are asked at the same time and have the one deadline: an instance that hangs is reported by its ``problem``. Takes
        no lock. `Node.instances` is faster and has every instance. Raises `NotFoundError` for an unknown name.
        """
        from hvcore.operations.inspection.measure import usage  # noqa: PLC0415 - 30 ms, not for 'hv list'

        return usage(self._context, names, deadline=Deadline(deadline_s))

    def facts(self, *, drivers: bool = True) -> NodeFacts:
        """This node: memory, processors, NUMA nodes, what its instances have of them, and its drivers.

        With ``drivers``, every driver is loaded, which takes a tenth of a second for each; one that cannot be used is
        reported by its ``problem``.
        """
        from hvcore.operations.inspection.survey import survey  # noqa: PLC0415 - 91 ms (the loader), not for 'hv list'

        return survey(self._context, self.config_dir, drivers=drivers)
