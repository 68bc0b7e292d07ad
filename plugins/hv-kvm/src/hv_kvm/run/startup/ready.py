"""The last steps of a start, when QEMU answers; the same for a start that was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hv_kvm.confinement import sandbox_in_record
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.resource import PrivateCopy
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.paths import GuestPaths
from hv_kvm.qemu.probe import facts_of
from hv_kvm.qmp import QmpClient, QmpClosedError, commands
from hv_kvm.resources.private_copy import remove_copies
from hv_kvm.run.observation.journal import read_journal
from hvcore.plugin import (
    ConfinementError,
    Deadline,
    Hooks,
    Job,
    Level,
    OperationError,
    ProcessId,
    unmet_limits,
    weaknesses,
)

__all__ = ["finish", "let_run", "make_ready", "run_unless_paused"]

_ENDED_SINCE: Final = frozenset({"shutdown", "guest-panicked"})


def make_ready(
    hooks: Hooks, client: QmpClient, process: ProcessId, spec: KvmSpec, facts: Facts | None, job: Job
) -> None:
    """Check how QEMU is confined, and set what options cannot set.

    ``facts`` None is for a guest that already runs: everything that belongs before that has been done.
    Raises `ConfinementError`, `OperationError` and `QmpError`.
    """
    _prove_confined(process, spec, job)
    job.prove(*spec.resources, level=Level(job.record.bindings["confinement"]))
    if facts is not None:
        remove_copies(spec.resources_of(PrivateCopy), GuestPaths(job.dir).guest)
    for _ in hooks.each("on_ready", spec=spec, facts=facts, client=client, job=job):
        pass


def run_unless_paused(client: QmpClient, job: Job) -> None:
    """Let the guest run, unless its record says that it is paused. Raises `OperationError` and `QmpError`."""
    if not job.record.paused:
        state = let_run(client, job.dir, job.deadline)
        if state is not None:
            what = f"{job.name}: the guest does not run, QEMU reports {state!r}"
            raise OperationError(f"{what}; see its log in {job.dir}")


def let_run(client: QmpClient, directory: Path, deadline: Deadline) -> str | None:
    """Let the guest run. The state that QEMU reports instead, None if it runs, or has shut down or panicked since.

    A guest may end before QEMU is asked for its state: then it has run. Raises `QmpError`.
    """
    try:
        commands.cont(client, deadline_s=deadline.left())
        status = commands.query_status(client, deadline_s=deadline.left())
    except QmpClosedError:
        # QEMU writes the event to the journal before it exits.
        journal = read_journal(str(GuestPaths(directory).journal))
        if journal.guest_initiated or journal.status == "panicked":
            return None
        raise
    return None if status.running or status.state in _ENDED_SINCE else status.state


def finish(hooks: Hooks, client: QmpClient, process: ProcessId, spec: KvmSpec, job: Job) -> bool:
    """Finish a start that was interrupted after QEMU had answered; False when QEMU is not in the state that was wanted."""
    running = commands.query_status(client).running
    if "groups" not in job.record.bindings or running == job.record.paused:
        return False
    job.started(process, job.record.monitor)
    make_ready(hooks, client, process, spec, None if running else facts_of(spec, job.host), job)
    run_unless_paused(client, job)
    return True


def _prove_confined(process: ProcessId, spec: KvmSpec, job: Job) -> None:
    bindings = job.record.bindings
    found = [*weaknesses(sandbox_in_record(spec, bindings), process.pid), *unmet_limits(process.pid)]
    if found:
        what = f"{job.name}: is confined less than requested ({bindings['confinement']}): {'; '.join(found)}"
        raise ConfinementError(f'{what}; check what differs on this node, or set confinement = "off"')
