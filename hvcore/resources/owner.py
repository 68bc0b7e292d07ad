"""For whom a resource is wanted, and what its kind may use of the operation at work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hvcore.model.record import Record
from hvcore.model.sandbox import Level

if TYPE_CHECKING:
    from hvcore.deadline import Deadline
    from hvcore.host.environment import Host
    from hvcore.host.launching.launch import Child, Command

__all__ = ["Owner", "Site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a resource is wanted: for which instance, on which node, at which level of confinement.

    ``pure`` is for placeholders of a plan that may not look at the node: a rehearsal, a test.
    """

    name: str
    host: Host
    level: Level
    pure: bool = False

    @property
    def dir(self) -> Path:
        """The instance's directory, also before it exists."""
        return self.host.run_dir / "instances" / self.name


class Owner(Protocol):
    """What a kind may use of the operation at work: `hvcore.state.job.Job`."""

    host: Host
    deadline: Deadline

    @property
    def name(self) -> str:
        """The instance's name."""

    @property
    def record(self) -> Record:
        """The record as it is now."""

    @property
    def dir(self) -> Path:
        """The instance's directory."""

    def update(self, **changes: Any) -> None:
        """Replace fields of the record, durably."""

    def bind(self, **values: Any) -> None:
        """Remember values of this node. The next durable write saves them."""

    def note(self, key: str, **data: Any) -> None:
        """Add to the ledger entry of resource ``key`` what was not known before. One durable write."""

    def progress(self, text: str, /) -> None:
        """Say what is being done or waited for."""

    def launch(self, command: Command, *, companion: str = "") -> Child:
        """Start the instance's process, or a program beside it, confined."""

    def output(self, companion: str = "") -> str:
        """The last 64 KiB that the launched process, or that program, wrote."""
