"""The target of a migration, when everything has arrived."""

from __future__ import annotations

import hvcore.plugin as hv
from hv_kvm.qmp import QmpCommandError, commands, migration_commands, mirror_commands, reach
from hv_kvm.run.migration import stream
from hv_kvm.run.migration.progress import LANDING
from hv_kvm.run.startup.ready import let_run

__all__ = ["run_landed"]


def run_landed(job: hv.Job) -> None:
    """Let the guest run, tell the network where it is, and make the record that of an ordinary guest.

    Raises `OperationError` if QEMU refuses; then the guest has not run.
    """
    with reach(job.dir, job.deadline.left()) as client:
        mirror_commands.nbd_server_stop(client, deadline_s=job.deadline.left())
        if not job.record.paused and not commands.query_status(client, deadline_s=job.deadline.left()).running:
            try:
                state = let_run(client, job.dir, job.deadline)
            except QmpCommandError as error:
                what = f"{job.name}: QEMU does not let it run: {error.desc}"
                raise hv.OperationError(f"{what}; it stays on the source") from error
            if state is not None:
                raise hv.OperationError(f"{job.name}: does not run, QEMU reports {state!r}; see its log in {job.dir}")
        if not client.closed:  # a guest may shut down at once
            migration_commands.announce_self(client, deadline_s=job.deadline.left())
            stream.close_stream(job, client)
    job.remember(bindings={key: value for key, value in job.record.bindings.items() if key != LANDING})
