"""The node's state and its drivers, as every operation needs them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypedDict

from hvcore.deadline import checked_seconds
from hvcore.frozen import dataclass
from hvcore.host.environment import Host, Live, default_state_dir, journals_dir
from hvcore.model.instance import Instance
from hvcore.model.layers import NO_LAYERS, Layers
from hvcore.model.record import Record
from hvcore.state.store import Store

if TYPE_CHECKING:
    from hvcore.deadline import Deadline
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata
    from hvcore.state.job import Job
    from hvcore.state.journal import Journals

__all__ = ["LOCK_WAIT_S", "OBSERVE_S", "CallOptions", "Context"]

LOCK_WAIT_S: Final = 5.0
"""Seconds that an operation waits for another one on the same instance, unless its deadline is sooner."""


OBSERVE_S: Final = 5.0
"""Seconds that a driver has to answer for the state of one instance. It takes microseconds."""


class CallOptions(TypedDict, total=False):
    """Optional arguments of every operation.

    ``busy_s``: seconds to wait for another operation on the same instance before `BusyError`; 0 does not wait. Default:
    5. ``progress``: called with the instance's name, the operation and a short text during slow work, in place of that of
    the `Node`.
    """

    busy_s: float
    progress: Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One node, for the length of a call.

    ``busy_s`` is how long a call waits for another operation on the same instance, ``observe_s`` how long for a
    driver's answer about a state.

    ``layers`` gives the parameter values that the node has for an instance; ``progress`` shows what an operation does or
    waits for. ``state_dir`` is for files that a reboot of the node keeps.
    """

    host: Host
    store: Store
    driver: Callable[[str], LoadedDriver]
    progress: Callable[[str], None]
    layers: Callable[[Instance], Layers] = lambda _: NO_LAYERS
    busy_s: float = LOCK_WAIT_S
    observe_s: float = OBSERVE_S
    state_dir: Path = field(default_factory=default_state_dir)
    overdue: dict[tuple[str, float | None], Thread] = field(default_factory=dict)  # drivers that have not answered yet

    def for_call(self, name: str, op: str, options: CallOptions) -> Context:
        """The node for one call on that instance. Raises `InputError` for a ``busy_s`` that is not a time."""
        changes: dict[str, Any] = {}
        if "busy_s" in options:
            changes["busy_s"] = checked_seconds(options["busy_s"], "busy_s")
        progress = options.get("progress")
        if progress is not None:
            changes["progress"] = partial(progress, name, op)
        unknown = set(options).difference(CallOptions.__annotations__)
        if unknown:
            raise TypeError(f"unexpected argument {', '.join(sorted(unknown))}; give busy_s or progress")
        return replace(self, **changes) if changes else self

    def job(self, record: Record, deadline: Deadline, loaded: LoadedDriver | None = None) -> Job:
        """An operation on the instance of that record. Without a driver it can release only the core's resources."""
        from hvcore.model.sandbox import Level  # noqa: PLC0415 - 3 ms, for dataclasses that 'hv list' does not need
        from hvcore.resources.core_kinds import CORE_KINDS  # noqa: PLC0415 - as the next
        from hvcore.resources.owner import Site  # noqa: PLC0415 - as the next
        from hvcore.state.job import Job  # noqa: PLC0415 - 26 ms (launch, claims, confinement), not for 'hv list'

        level = Level.STRICT if self.host.privileged else Level.USER
        return Job(
            store=self.store,
            record=record,
            site=Site(name=record.name, host=self.host, level=level),
            kinds=CORE_KINDS if loaded is None else loaded.hooks.kinds,
            deadline=deadline,
            progress=self.progress,
        )

    @property
    def has_journals(self) -> bool:
        """Whether an instance of this run directory ever migrated."""
        return os.path.lexists(journals_dir(self.state_dir, self.host.run_dir))

    @property
    def journals(self) -> Journals:
        """The migration journals of the run directory, which need not exist."""
        from hvcore.state.journal import Journals  # noqa: PLC0415 - 2 ms, for nodes where an instance migrated

        return Journals(journals_dir(self.state_dir, self.host.run_dir))

    def live(self, record: Record) -> Live:
        """The instance of that record, for a driver to observe."""
        return Live(record=record, dir=self.store.dir(record.name), host=self.host)
