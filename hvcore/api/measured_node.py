"""The part of `Node` that measures: what its instances use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.deadline import Deadline
from hvcore.operations.context import Context

if TYPE_CHECKING:
    from hvcore.model.usage import InstanceUsage

__all__ = ["MeasuredNode"]


class MeasuredNode:
    """What `Node` can measure. Operations are imported when they are called, as in `Node`."""

    _context: Context

    def usage(self, *names: str, deadline_s: float = 2.0) -> list[InstanceUsage]:
        """What the running instances use, or those with these names: processors, memory, disks, NICs. Sorted by name.

        All are asked at the same time and have the one deadline: an instance that hangs is reported by its ``problem``. Takes
        no lock. `Node.instances` is faster and has every instance. Raises `NotFoundError` for an unknown name.
        """
        from hvcore.operations.measure import usage  # noqa: PLC0415 - 30 ms, not for 'hv list'

        return usage(self._context, names, deadline=Deadline(deadline_s))
