"""An interrupted change of one device: the record has both sides of it, and the driver finds out which one the guest has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hvcore.model.record import Change, Phase

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata
    from hvcore.state.job import Job

__all__ = ["save", "settle_change", "sides"]


def settle_change(loaded: LoadedDriver, job: Job) -> tuple[str, str]:
    """Finish the change in the job's record if the guest has it, undo it otherwise: ``finished`` or ``undone``, and words.

    Raises `HvError` when the guest does not answer, or a resource cannot be released; the record then keeps the change.
    """
    change = job.record.change
    if change is None:
        raise ValueError("no change in the record")
    try:
        before, after = sides(loaded, job, change)
        if loaded.altered(job, before=before, after=after, device=change.device):
            loaded.alter(job, before=before, after=after, device=change.device)
            save(job, change)
            return "finished", f"{change.op} of {change.device} had succeeded"
        loaded.alter(job, before=after, after=before, device=change.device)
        job.update(phase=Phase.RUNNING, change=None)
        return "undone", f"{change.op} of {change.device} was interrupted"
    finally:
        job.held.close()


def sides(loaded: LoadedDriver, job: Job, change: Change) -> tuple[Any, Any]:
    """The driver's specs from before and after the change."""
    return loaded.read_spec(job.record.spec), loaded.read_spec(change.spec)


def save(job: Job, change: Change) -> None:
    """Write the record of an instance that has the change."""
    job.update(
        phase=Phase.RUNNING,
        change=None,
        instance=change.instance,
        params=change.params,
        spec=change.spec,
        devices=change.devices,
    )
