"""A change of a running guest that its record has before QEMU is asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hvcore.plugin import Job

__all__ = ["saved_first"]


@contextmanager
def saved_first(job: Job, spec: Mapping[str, Any], **bindings: object) -> Iterator[None]:
    """In the block, the record has that spec and these bindings: after a crash, a reboot has what was asked for.

    If the block raises, the record has those of before again.
    """
    old_spec, old_bindings = job.record.spec, {key: job.record.bindings.get(key) for key in bindings}
    job.bind(**bindings)
    job.update(spec=spec)
    try:
        yield
    except BaseException:
        job.bind(**old_bindings)
        job.update(spec=old_spec)
        raise
