"""Changing the size of a disk of a running instance."""

from __future__ import annotations

from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import InputError
from hvcore.model.answers import Outcome
from hvcore.model.state import Op
from hvcore.operations.begin import begun
from hvcore.operations.context import Context
from hvcore.operations.devices.change import field_of, hooked
from hvcore.operations.inspection.observe import observed

__all__ = ["resize_disk"]

_SECTOR_BYTES: Final = 512
_LARGEST_BYTES: Final = (1 << 63) - 1  # off_t


def resize_disk(
    context: Context, name: str, device: str, size_bytes: int, *, shrink: bool, deadline: Deadline
) -> Outcome:
    """Give the disk that size; no change if it has it. Shrinks it, which cuts off what is at its end, only with ``shrink``.

    Raises `InputError` for a size that no disk has, and for a smaller one without ``shrink``.
    """
    if not 0 < size_bytes <= _LARGEST_BYTES or size_bytes % _SECTOR_BYTES:
        what = f"{name}: {device}: the size must be a multiple of {_SECTOR_BYTES} bytes, above 0 and below 8 EiB"
        raise InputError(f"{what}, got {size_bytes}; give for example 20G")
    with begun(context, name, Op.RESIZE, deadline) as begin:
        record, loaded = begin.record, begin.loaded
        field_of(loaded, record, device)
        job = context.job(record, deadline, loaded)
        before = loaded.disk_size(job, device)
        if size_bytes < before and not shrink:
            what = f"{name}: {device} has {before} bytes, and {size_bytes} are less"
            raise InputError(f"{what}; what is at its end would be lost: add --shrink (shrink=True) if that is wanted")
        if size_bytes == before:
            state = observed(context, name).state
            return Outcome(name=name, op=Op.RESIZE, changed=False, state=state, device=device)

        def act() -> tuple[str, ...]:
            begin.act(job, device, size_bytes)
            return ()

        return hooked(begin, Op.RESIZE, device, act, after=record.instance, deadline=deadline)
