"""An instance that moves, as one of its two nodes sees it under its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from hvcore.deadline import Deadline
from hvcore.errors import HvError, InputError, OperationError
from hvcore.frozen import dataclass
from hvcore.host.processes.process import alive, boot_id
from hvcore.model.migration.entry import MigrationMode
from hvcore.model.migration.situation import Facts
from hvcore.model.migration.transfer import Landing, Offer, Transfer
from hvcore.model.record import Record
from hvcore.model.state import ACTIVE, Op
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import existing
from hvcore.operations.lifecycle.reboot import start_saved
from hvcore.operations.lifecycle.stop import stop_locked
from hvcore.plugins.migration_protocols import Migrates

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata
    from hvcore.state.job import Job

__all__ = ["Moving", "given", "launch_of"]


def launch_of(record: Record | None) -> str:
    """A text that names this start of the instance; empty without a record."""
    if record is None:
        return ""
    process = "" if record.process is None else f"{record.process.pid}-{record.process.start_ticks}-"
    return f"{process}{record.started_at:.6f}"


def given(value: Any, what: str) -> Any:
    """The value of a field of a request that has to have it. Raises `InputError`."""
    if value is None:
        raise InputError(f"request: {what} is missing; give it")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """The instance, and what the request in progress has found out: where it waits, and notes for people."""

    context: Context
    name: str
    deadline: Deadline
    landings: list[Landing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def record(self) -> Record | None:
        """The record as it is now; None without one. Raises `RecordError`."""
        return self.context.store.load(self.name)

    @property
    def lives(self) -> Record | None:
        """The record of the instance if its program runs, also if that hangs. Else None."""
        record = self.record
        if record is None or record.boot_id != boot_id():
            return None
        if record.process is not None:
            return record if alive(record.process) else None
        loaded = self.context.driver(record.driver)
        return record if loaded.observe(self.context.live(record)).state in ACTIVE else None

    def offer(self) -> Offer:
        """What the target has to know of the instance, which must run. One whose driver cannot move it alive moves cold."""
        record, _ = existing(self.context, self.name, Op.MIGRATE)
        loaded = self.context.driver(record.driver)
        if isinstance(loaded.driver, Migrates):
            offered = loaded.offer(self.context.live(record))
        else:
            cold = str(MigrationMode.COLD)
            offered = Offer(driver=record.driver, instance=record.instance, spec=record.spec, mode=cold)
        return replace(offered, params=record.params or {}, withheld=record.withheld)

    def facts(self, launch: str, *, only_job: bool, arrives: bool = False) -> Facts:
        """What this node sees. Raises the error of a program that does not answer: that is not one that has ended.

        Of an instance that ``arrives``, such a program has received nothing that counts. It can be ended.
        """
        lives = self.lives
        return Facts(
            alive=lives is not None,
            absent=self.record is None,
            transfer=Transfer() if lives is None else self._transfer(lives, arrives=arrives),
            same_launch=launch in ("", launch_of(self.record)),
            only_job=only_job,
        )

    def _transfer(self, record: Record, *, arrives: bool) -> Transfer:
        loaded = self.context.driver(record.driver)
        if not isinstance(loaded.driver, Migrates):
            return Transfer()
        try:
            return loaded.transfer(self.context.live(record))
        except HvError as error:
            if not arrives:
                raise
            self.notes.append(str(error))
            return Transfer()

    @contextmanager
    def at_work(self, record: Record | None) -> Iterator[tuple[Job, LoadedDriver]]:
        """An operation on the instance, and its driver; the record is saved after the block.

        Raises `OperationError` without a record.
        """
        if record is None:
            raise OperationError(f"{self.name}: is not on this node; see 'hv migrate {self.name} --status'")
        loaded = self.context.driver(record.driver)
        job = self.context.job(record, self.deadline, loaded)
        try:
            yield job, loaded
            job.update()
        finally:
            job.held.close()
        self.notes.extend(job.remarks)

    def arriving(self, storage: str) -> Context:
        """The node for an instance that arrives. Shared disks are still locked on the other side."""
        return replace(self.context, host=replace(self.context.host, arriving=storage == "shared"))

    def end(self) -> None:
        """End the program, which is proven to be dead then, and release what the instance holds."""
        self.notes.extend(stop_locked(self.context, self.name, force=True, deadline=self.deadline).notes)

    def start_kept(self, *, paused: bool) -> None:
        """Start the machine that was kept when the migration began here. Does nothing if the instance runs."""
        if self.lives is not None:
            return
        record = self.context.journals.kept(self.name)
        if record is None:
            todo = f"use 'hv migrate {self.name} --forget', and start it from its file"
            raise OperationError(f"{self.name}: its machine is not kept on this node; {todo}")
        self.notes.extend(start_saved(self.context, record, paused=paused, deadline=self.deadline).notes)
