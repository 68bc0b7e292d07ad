"""The target of a migration, when everything has arrived."""

from __future__ import annotations

import hvcore.plugin as hv
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import QmpClient, QmpCommandError, QmpError, commands, migration_commands, mirror_commands, reach
from hv_kvm.run.migration import stream
from hv_kvm.run.migration.progress import LANDING
from hv_kvm.run.observation.journal import Journal, read_journal

__all__ = ["let_run_once", "run_landed"]


def run_landed(job: hv.Job) -> None:
    """Let the guest run, tell the network where it is, and make the record that of an ordinary guest.

    Raises `OperationError` only if QEMU has refused to let it run, and it has never run here: the source may go on then. Any
    other failure is a `NodeError`, or a `DeadlineError`: then it may have run.
    """
    try:
        with reach(job.dir, job.deadline.left()) as client:
            mirror_commands.nbd_server_stop(client, deadline_s=job.deadline.left())
            if not job.record.paused:
                let_run_once(client, job, read_journal(str(GuestPaths(job.dir).journal)))
            migration_commands.announce_self(client, deadline_s=job.deadline.left())
            stream.close_stream(job, client)
    except hv.DeadlineError:
        raise
    except (QmpError, hv.LeftoverError) as error:
        what = f"{job.name}: it is not known whether it runs here ({error})"
        raise hv.NodeError(f"{what}; ask again, and see its log in {job.dir}") from error
    job.remember(bindings={key: value for key, value in job.record.bindings.items() if key != LANDING})


def let_run_once(client: QmpClient, job: hv.Job, journal: Journal) -> None:
    """Let the guest run if it has not run here before, as the journal of its events shows.

    One that has run and stopped since, for example at a disk error, stays as it is. Raises `OperationError` if QEMU refuses and
    the guest has never run here, and `QmpError` if that is not known.
    """
    running = commands.query_status(client, deadline_s=job.deadline.left()).running
    if running or journal.status not in {"prelaunch", "unknown"}:
        return
    try:
        commands.cont(client, deadline_s=job.deadline.left())
    except QmpCommandError as error:
        if journal.status == "unknown":
            raise
        what = f"{job.name}: QEMU does not let it run: {error.desc}"
        raise hv.OperationError(f"{what}; it stays on the source") from error
    status = commands.query_status(client, deadline_s=job.deadline.left())
    if not status.running:  # it has run, if only for a moment
        job.remarks.append(f"it has stopped since: QEMU reports {status.state!r}")
