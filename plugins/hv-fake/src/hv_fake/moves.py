"""The part of the fake driver that moves instances: between two run directories of one node, at once.

The state of an instance is a file in the directory of the one that waits for it. The ticket of the landing is that directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hvcore.plugin as hv

__all__ = ["Moves"]

_ARRIVED: Final = "arrived"
_RAN: Final = "ran"


class Moves:
    """What `hv_fake.plugin.FakeDriver` does for an instance that moves."""

    def offer(self, live: hv.Live) -> hv.Offer:
        """Everything in the record."""
        record, spec = live.record, live.record.spec
        disks = tuple(
            hv.OfferedDisk(name=f"disk{disk['number']}", path=disk["path"], format="raw", size_bytes=0)
            for disk in spec["disks"]
        )
        blockers = ("fails on purpose; unset params.fail_at",) if spec["fail_at"] == "offer" else ()
        return hv.Offer(
            driver="fake", instance=record.instance, spec=spec, program="fake", disks=disks, blockers=blockers
        )

    def refusals(self, spec: Any, host: hv.Host, offer: hv.Offer, wish: hv.LandingWish) -> Iterator[hv.Problem]:
        """Another machine, and a job whose address is not one of this node."""
        if spec.memory_mib != offer.spec["memory_mib"]:
            got = str(spec.memory_mib)
            yield hv.Problem(path="memory_mib", what=f"is not the {offer.spec['memory_mib']} of the source", got=got)
        if wish.host not in ("", "localhost", "127.0.0.1"):
            yield hv.Problem(path="host", what="is not an address of this node", got=repr(wish.host))

    def land(self, spec: Any, job: hv.Job, offer: hv.Offer, wish: hv.LandingWish) -> hv.Landing:
        """Start it paused, and wait for the file."""
        if "landing" not in job.record.bindings:
            self._start_paused(spec, job)
            job.bind(landing=wish.job, guest="paused")
        if spec.fail_at == "land":
            raise hv.OperationError(f"{job.name}: fails on purpose where it lands; unset params.fail_at")
        return hv.Landing(job=wish.job, host=wish.host, port=0, ticket=str(job.dir))

    def _start_paused(self, spec: Any, job: hv.Job) -> None:
        raise NotImplementedError

    def send(self, live: hv.Live, job: hv.Job, landing: hv.Landing, mode: str, tuning: hv.Tuning) -> None:
        """Write the file; in mode ``postcopy`` only at the switch."""
        if live.record.spec["fail_at"] == "send":
            job.bind(transfer="failed")
            return
        state = "active" if mode == hv.MigrationMode.POSTCOPY else "completed"
        if state == "completed":
            Path(landing.ticket, _ARRIVED).write_text(state)
        job.bind(
            transfer=state, lands_at=landing.ticket, guest="running" if mode == hv.MigrationMode.POSTCOPY else "paused"
        )

    def transfer(self, live: hv.Live) -> hv.Transfer:
        """By the files and the record."""
        bound = live.record.bindings
        runs = bound.get("guest") == "running"
        if "landing" in bound and "transfer" not in bound:
            arrived = Path(live.dir, _ARRIVED)
            found = arrived.read_text() if arrived.exists() else "waiting"
            if found == "postcopy-active" and Path(live.dir, _RAN).exists():
                found = "completed"
        else:
            found = bound.get("transfer", "none")
            if found == "postcopy-active" and Path(bound["lands_at"], _RAN).exists():
                found = "completed"
        error = "fails on purpose" if found == "failed" else None
        return hv.Transfer(state=hv.TransferState(found), cpus_run=runs, error=error)

    def tune_transfer(self, live: hv.Live, job: hv.Job, tuning: hv.Tuning) -> None:
        """Record it: nothing here takes time."""
        job.bind(tuning=hv.encode(tuning))

    def continue_transfer(self, live: hv.Live, job: hv.Job) -> None:
        """Nothing: no disk is copied."""

    def cancel_transfer(self, live: hv.Live, job: hv.Job) -> None:
        """Record it as cancelled."""
        if job.record.bindings.get("transfer") == "postcopy-active":
            raise hv.OperationError(f"{job.name}: runs on the target already; finish the migration")
        job.bind(transfer="cancelled")

    def switch_to_postcopy(self, live: hv.Live, job: hv.Job) -> None:
        """Write the file; the instance is paused here from now on."""
        Path(job.record.bindings["lands_at"], _ARRIVED).write_text("postcopy-active")
        job.bind(transfer="postcopy-active", guest="paused")

    def run_landed(self, live: hv.Live, job: hv.Job) -> None:
        """Record it as running."""
        if live.record.spec["fail_at"] == "run":
            raise hv.OperationError(f"{job.name}: fails on purpose where it runs; unset params.fail_at")
        Path(live.dir, _RAN).touch()
        job.bind(guest="paused" if job.record.paused else "running")
