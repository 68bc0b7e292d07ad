"""The node's state and its drivers, as every operation needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hvcore.host.environment import Host, Live
from hvcore.model.instance import Instance
from hvcore.model.layers import NO_LAYERS, Layers
from hvcore.model.record import Record
from hvcore.state.store import Store

if TYPE_CHECKING:
    from hvcore.deadline import Deadline
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata
    from hvcore.state.job import Job

__all__ = ["LOCK_WAIT_S", "Context"]

LOCK_WAIT_S: Final = 5.0
"""Seconds that an operation waits for another one on the same instance, unless its deadline is sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One node, for the length of a call.

    ``layers`` gives the parameter values that the node has for an instance; ``progress`` shows what an operation does or
    waits for.
    """

    host: Host
    store: Store
    driver: Callable[[str], LoadedDriver]
    progress: Callable[[str], None]
    layers: Callable[[Instance], Layers] = lambda _: NO_LAYERS

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

    def live(self, record: Record) -> Live:
        """The instance of that record, for a driver to observe."""
        return Live(record=record, dir=self.store.dir(record.name), host=self.host)
