"""What a reboot holds from before its stop until its start has taken it over. No other instance gets it meanwhile.

Everything that the instance has reserved on the node, the locks on its disks and numbers, its ports, and its links. If
hvcore is killed, the kernel ends locks and ports, and the next release of the instance frees the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hvcore.host.disks.disk_claims import KeptDisks
from hvcore.host.files import leads_into
from hvcore.host.kept_ports import KeptPorts
from hvcore.host.lock import close_lock, leave_in_children
from hvcore.host.processes.copied_fds import copied_fds
from hvcore.host.reservations import KeptReservations
from hvcore.host.uids import KeptUids

__all__ = ["BetweenHalves"]


class BetweenHalves:
    """The things of one instance that is being rebooted.

    ``reserved`` are its reservations of every kind. ``disks``, ``uids`` and ``ports`` have the locks and sockets.
    """

    def __init__(self, run_dir: Path, instance: str, *, node_wide: bool) -> None:
        self._directory = run_dir / "instances" / instance
        self.reserved = KeptReservations(run_dir / "reservations", instance)
        self.disks = KeptDisks(run_dir, instance)
        self.uids = KeptUids(self.reserved, node_wide=node_wide)
        self.ports = KeptPorts()
        self._locks: dict[str, int] = {}
        self._links: set[Path] = set()

    def hold_locks(self, files: Iterable[Path], pids: Iterable[int]) -> None:
        """Hold the locks that one of these processes has on these files, by copies of its descriptors."""
        wanted = {str(file) for file in files}
        if wanted:
            self._locks |= dict(copied_fds(pids, wanted.__contains__))

    def lock_on(self, file: Path) -> int | None:
        """The descriptor that holds the lock on that file, which the caller takes over; None without one."""
        fd = self._locks.pop(str(file), None)
        if fd is not None:
            leave_in_children(fd)
        return fd

    def hold_links(self, paths: Iterable[Path]) -> None:
        """Leave these links, which lead into the instance's directory, where they are."""
        self._links |= {path for path in paths if leads_into(path, self._directory)}

    def keeps_link(self, path: Path) -> bool:
        """Whether a release must leave that link."""
        return path in self._links

    def take_link(self, path: Path) -> None:
        """The start has that link now."""
        self._links.discard(path)

    def close(self, *, stopped: bool) -> None:
        """Give up what no start has taken over. An instance that was not stopped gets its reservations back."""
        self.disks.close()
        self.uids.close()
        self.ports.close()
        while self._locks:
            close_lock(self._locks.popitem()[1])
        for path in self._links if stopped else ():
            if leads_into(path, self._directory):
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):  # then the next release of the instance frees them
            self.reserved.close(stopped=stopped)
