"""Changing the speed of a migration while it is in progress."""

from __future__ import annotations

from hvcore.deadline import Deadline
from hvcore.errors import NotFoundError
from hvcore.model.migration.entry import Side
from hvcore.model.migration.transfer import Tuning
from hvcore.model.state import Op
from hvcore.operations.context import Context
from hvcore.operations.migration.moving import Moving

__all__ = ["tune"]


def tune(context: Context, name: str, tuning: Tuning, *, deadline: Deadline) -> None:
    """Change the speed of the transfer that this node sends. Raises `NotFoundError` if it sends none."""
    with context.store.lock(name, "tune migration", wait_s=deadline.left(at_most=context.busy_s)):
        entry = context.journals.read(name).open if context.has_journals else None
        moving = Moving(context=context, name=name, deadline=deadline)
        record = moving.lives
        if entry is None or entry.side is not Side.SOURCE or record is None:
            raise NotFoundError(name, hint="this node does not send it; give --to NODE to move it")
        context.driver(record.driver).able(Op.MIGRATE)
        with moving.at_work(record) as (job, loaded):
            loaded.tune_transfer(job.live, job, tuning)
