"""The part of `Node` that measures: what its instances use, and what the node has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hvcore.deadline import Deadline
from hvcore.operations.context import Context

if TYPE_CHECKING:
    from hvcore.model.node_facts import NodeFacts
    from hvcore.model.usage import InstanceUsage

__all__ = ["MeasuredNode"]


class MeasuredNode:
    """What `Node` can measure. Operations are imported when they are called, as in `Node`."""

    _context: Context
    config_dir: Path

    def usage(self, *names: str, deadline_s: float = 2.0) -> list[InstanceUsage]:
        """What the running instances use, or those with these names: processors, memory, disks, NICs. Sorted by name.

        All are asked at the same time and have the one deadline: an instance that hangs is reported by its ``problem``. Takes
        no lock. `Node.instances` is faster and has every instance. Raises `NotFoundError` for an unknown name.
        """
        from hvcore.operations.measure import usage  # noqa: PLC0415 - 30 ms, not for 'hv list'

        return usage(self._context, names, deadline=Deadline(deadline_s))

    def facts(self, *, drivers: bool = True) -> NodeFacts:
        """This node: memory, processors, NUMA nodes, what its instances have of them, and its drivers.

        With ``drivers``, every driver is loaded, which takes a tenth of a second for each; one that cannot be used is
        reported by its ``problem``.
        """
        from hvcore.operations.survey import survey  # noqa: PLC0415 - 91 ms (the loader), not for 'hv list'

        return survey(self._context, self.config_dir, drivers=drivers)
