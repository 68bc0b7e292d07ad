"""A number that one instance of the node has, such as a vsock CID.

The number is reserved in the run directory, and locked on the node: the launched program inherits a lock on a file, so no
other run directory can use the number while the program runs.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hvcore.errors import OperationError, Problem
from hvcore.host.files import private_dir
from hvcore.host.lock import close_lock, is_held, try_lock
from hvcore.host.processes.copied_fds import copied_fds
from hvcore.host.processes.process import alive
from hvcore.host.reservations import KeptReservations, Reservations
from hvcore.model.network.node_links import IP_ADDRESSES, MAC_ADDRESSES
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import UniqueValue
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn, give_back
from hvcore.resources.owner import Owner, Site

if TYPE_CHECKING:
    from hvcore.host.between_halves import BetweenHalves
    from hvcore.host.environment import Host

__all__ = ["UniqueValueKind", "value_locks"]

_LOCKS: Final = Path("/run/hvcore-values")
_TRIES: Final = 4096
_RESERVED: Final = "value-"
_OF_NETWORK: Final = (MAC_ADDRESSES, *IP_ADDRESSES.values())


class UniqueValueKind(ResourceKind[UniqueValue, int], name="unique-value", turn=Turn.NETWORK):
    """The configured number, or the first free one."""

    def __init__(self, locks: Path = _LOCKS) -> None:
        self._locks = locks

    def verify(self, resource: UniqueValue, site: Site) -> Iterator[Problem]:
        """A configured number must be free."""
        if resource.value is None:
            return
        holder = _reservations(resource.space, site).items().get(str(resource.value))
        if holder not in (None, site.name) or (holder is None and is_held(self._file(resource, resource.value, site))):
            what = f"is taken by instance {holder}" if holder else "is taken on this node"
            yield Problem(path=resource.where, what=what, got=_shown(resource), todo="choose another, or unset it")

    def describe(self, resource: UniqueValue, site: Site) -> Iterator[Step]:
        """One step: which number is taken."""
        number = (
            f"the first free {_range(resource)}" if resource.value is None else f"{resource.space} {_shown(resource)}"
        )
        yield Step(kind="number", what=f"take {number}")

    def placeholder(self, resource: UniqueValue, site: Site) -> int:
        """The configured number, else the first of the range."""
        return resource.first if resource.value is None else resource.value

    def entry(self, resource: UniqueValue, site: Site) -> Mapping[str, Any]:
        """The space of the number."""
        return {"space": resource.space}

    def acquire(self, resource: UniqueValue, held: Held) -> int:
        """The number, reserved and locked. Raises `OperationError` when the number, or every number, is taken."""
        reserved = _reservations(resource.space, held.site)
        for number in _candidates(resource, reserved, held):
            file = self._file(resource, number, held.site)
            private_dir(file.parent.parent)
            private_dir(file.parent)
            fd = _opened(file, held.site.between)
            try:
                taken = try_lock(fd) and reserved.take(str(number), f"{held.owner.name}/{resource.key}") is None
            except BaseException:
                os.close(fd)
                raise
            if taken:
                held.add(fd)
                held.owner.bind(**{resource.key: number})
                return number
            os.close(fd)
        name = held.owner.name
        if resource.value is None:
            raise OperationError(f"{name}: no {_range(resource)} is free; stop an instance that has one")
        raise OperationError(
            f"{name}: {resource.space} {_shown(resource)} is taken; choose another for {resource.where}"
        )

    def release(self, entry: Entry, owner: Owner) -> None:
        """Free the number. A program that goes on has its lock still open, and may not keep it."""
        number, process = owner.record.bindings.get(entry.key), owner.record.process
        if type(number) is int and process is not None and alive(process):
            _unlock(process.pid, _lock_file(entry.data["space"], number, owner.host, self._locks))
        give_back(f"{_RESERVED}{entry.data['space']}", entry, owner)

    def _file(self, resource: UniqueValue, number: int, site: Site) -> Path:
        return _lock_file(resource.space, number, site.host, self._locks)


def value_locks(reserved: KeptReservations, host: Host) -> Iterator[Path]:
    """The files of the locks on the numbers that a reboot holds."""
    for kind in reserved.kinds:
        if kind.startswith(_RESERVED):
            space = kind.removeprefix(_RESERVED)
            yield from (_lock_file(space, int(key), host) for key in reserved.of_kind(kind) if key.isdecimal())


def _lock_file(space: str, number: int, host: Host, locks: Path = _LOCKS) -> Path:
    """The file of the lock. Only root can write to /run; other users lock in their run directory."""
    if space in _OF_NETWORK:  # another network namespace of the node may have the same
        space = f"{space}-{os.stat('/proc/thread-self/ns/net').st_ino}"
    return (locks if host.privileged else host.run_dir / "values") / space / str(number)


def _unlock(pid: int, file: Path) -> None:
    """Unlock the file in a process that has it open. If we may not do that, the lock ends with the process."""
    path = os.path.realpath(file)
    for _, fd in copied_fds([pid], lambda target: target == path):
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            close_lock(fd)


def _opened(file: Path, between: BetweenHalves | None) -> int:
    """The file of a lock; in a reboot, the descriptor that holds the lock already."""
    held = None if between is None else between.lock_on(file)
    if held is not None:
        return held
    return os.open(file, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _candidates(resource: UniqueValue, reserved: Reservations, held: Held) -> Iterator[int]:
    """The configured number; else the one that the instance had before its reboot, then those that are free."""
    if resource.value is not None:
        yield resource.value
        return
    if held.site.between is not None:
        owner = f"{held.owner.name}/{resource.key}"
        for key in held.site.between.reserved.kept_for(f"{_RESERVED}{resource.space}", owner):
            if resource.first <= int(key) <= resource.last:
                yield int(key)
    yield from _free(resource, reserved)


def _shown(resource: UniqueValue) -> str:
    if resource.space == MAC_ADDRESSES and resource.value is not None:
        return resource.value.to_bytes(6, "big").hex(":")
    if resource.space in IP_ADDRESSES.values() and resource.value is not None:
        of_version = ipaddress.IPv4Address if resource.space == IP_ADDRESSES[4] else ipaddress.IPv6Address
        return str(of_version(resource.value))
    return str(resource.value)


def _range(resource: UniqueValue) -> str:
    return f"{resource.space} from {resource.first} to {resource.last}"


def _reservations(space: str, site: Site) -> Reservations:
    return Reservations(site.host.run_dir / "reservations" / f"{_RESERVED}{space}")


def _free(resource: UniqueValue, reserved: Reservations) -> Iterator[int]:
    """Numbers that no instance of this run directory has, at most 4096."""
    taken = reserved.items()
    for number in range(resource.first, min(resource.last, resource.first + _TRIES + len(taken)) + 1):
        if str(number) not in taken:
            yield number
