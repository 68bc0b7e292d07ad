"""The instance that a resource is for, and the part of the operation in progress that its kind may use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from hvcore.frozen import dataclass
from hvcore.model.record import Record
from hvcore.model.sandbox import Level

if TYPE_CHECKING:
    from hvcore.deadline import Deadline
    from hvcore.host.between_halves import BetweenHalves
    from hvcore.host.environment import Host, Live
    from hvcore.host.launching.launch import Child, Command

__all__ = ["REPORTED", "Owner", "Site", "report"]

REPORTED: Final = "reported"
"""In the record's bindings: what releases could not do and nothing has to do again, for the outcome of the operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The instance that a resource is for, its node, and its level of confinement.

    ``pure`` asks for placeholders that do not depend on the node, as a test needs them.
    """

    name: str
    host: Host
    level: Level
    pure: bool = False

    @property
    def dir(self) -> Path:
        """The instance's directory, also before it exists."""
        return self.host.run_dir / "instances" / self.name

    @property
    def between(self) -> BetweenHalves | None:
        """What a reboot holds of the instance from its stop to its start; None outside of one."""
        return self.host.between

    def kept_port(self, key: str, protocol: str, address: str | None, port: int | None) -> int | None:
        """The port for the resource of that key, if a reboot holds it for the instance: see `KeptPorts.port_of`."""
        return None if self.between is None else self.between.ports.port_of(key, protocol, address, port)


class Owner(Protocol):
    """The instance that a kind works for, and the operation in progress: the part of `Job` that a kind may use.

    ``remarks`` are notes for the outcome of the operation: facts worth knowing that are not failures.
    """

    host: Host
    deadline: Deadline
    remarks: list[str]

    @property
    def name(self) -> str:
        """The instance's name."""

    @property
    def record(self) -> Record:
        """The record as it is now."""

    @property
    def dir(self) -> Path:
        """The instance's directory."""

    @property
    def live(self) -> Live:
        """The instance as its driver observes it, with its control group."""

    def update(self, **changes: Any) -> None:
        """Replace fields of the record, durably."""

    def bind(self, **values: Any) -> None:
        """Set bindings of the record. The next durable write saves them."""

    def note(self, key: str, **data: Any) -> None:
        """Add data to the ledger entry of resource ``key``. One durable write."""

    def progress(self, text: str, /) -> None:
        """Show what the operation does or waits for."""

    def launch(self, command: Command, *, companion: str = "") -> Child:
        """Start the instance's process, or a program beside it, confined."""

    def output(self, companion: str = "") -> str:
        """The last 64 KiB that the launched process, or that program, wrote."""


def report(owner: Owner, text: str) -> None:
    """Tell the caller of the operation what a release could not do, where trying again would not help."""
    owner.bind(**{REPORTED: [*owner.record.bindings.get(REPORTED, ()), text]})
