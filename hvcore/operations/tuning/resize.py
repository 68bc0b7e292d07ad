"""Changes of the memory and the number of processors of a running instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import InputError
from hvcore.model.instance import Instance
from hvcore.model.state import Op
from hvcore.model.tuned import Reached, Resized
from hvcore.operations.begin import begun
from hvcore.operations.context import Context
from hvcore.state.job import Job

__all__ = ["balloon", "resize_memory", "resize_vcpus"]

# The field of the instance that follows. A balloon is not one: the instance keeps the memory that it may have.
_FIELDS: Final = {Op.MEMORY: "memory_mib", Op.VCPUS: "vcpus"}
_LARGEST: Final = 64 * 1024 * 1024


def balloon(context: Context, name: str, memory_mib: int, *, deadline: Deadline) -> Resized:
    """Let the guest use that much of its memory, and return with the size that it has reached.

    Raises `InputError`, `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` without a balloon.
    """
    return _resize(context, name, Op.BALLOON, memory_mib, deadline)


def resize_memory(context: Context, name: str, memory_mib: int, *, deadline: Deadline) -> Resized:
    """Give the instance that much memory, within the maximum of its start. Raises as `balloon` does."""
    return _resize(context, name, Op.MEMORY, memory_mib, deadline)


def resize_vcpus(context: Context, name: str, vcpus: int, *, deadline: Deadline) -> Resized:
    """Give the instance that many processors, within the maximum of its start. Raises as `balloon` does."""
    return _resize(context, name, Op.VCPUS, vcpus, deadline)


def _resize(context: Context, name: str, op: Op, asked: int, deadline: Deadline) -> Resized:
    if type(asked) is not int or not 1 <= asked <= _LARGEST:
        raise InputError(f"{name}: {op}: must be a whole number from 1 to {_LARGEST}, got {asked!r:.40}; give one")
    with begun(context, name, op, deadline) as begin:
        job = context.job(begin.record, begin.deadline, begin.loaded)
        found = _acted(job, op, asked, lambda: begin.act(job.live, job, asked))
        changed = asked != found.before
        return Resized(
            name=name,
            op=op,
            changed=changed,
            state=begin.state,
            seconds=deadline.spent() if changed else 0.0,
            notes=(*job.remarks, *([found.note] if found.note else [])),
            asked=asked,
            before=found.before,
            after=found.after,
        )


def _acted(job: Job, op: Op, asked: int, act: Callable[[], Reached]) -> Reached:
    """Call the driver. The record has the new size before anything is changed, and the one that was reached after it."""
    key, before = _FIELDS.get(op), job.record
    if key is not None and getattr(before.instance, key) != asked:
        job.update(instance=_sized(before.instance, key, asked))
    written = job.record
    try:
        found = act()
    except BaseException:
        if job.record is not before:
            job.update(instance=before.instance)
        raise
    if key is not None and found.after != asked:
        job.remember(instance=_sized(job.record.instance, key, found.after))
    if job.record is not written:
        job.update()
    return found


def _sized(instance: Instance, key: str, size: int) -> Instance:
    changed: dict[str, Any] = {key: size}
    return replace(instance, **changed)
