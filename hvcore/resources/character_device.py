"""A character device of the node, opened for a program that may not open it itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from hvcore.errors import OperationError, Problem
from hvcore.model.plan import Step
from hvcore.model.resource import CharacterDevice
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Site

__all__ = ["CharacterDeviceKind"]


class CharacterDeviceKind(ResourceKind[CharacterDevice, str], name="character-device", turn=Turn.FILE):
    """Its descriptor is all that is held: it is gone with the program."""

    def verify(self, resource: CharacterDevice, site: Site) -> Iterator[Problem]:
        """It has to be there, to be a character device, and to open."""
        found = _opened(resource)
        if isinstance(found, Problem):
            yield found
        else:
            os.close(found)

    def describe(self, resource: CharacterDevice, site: Site) -> Iterator[Step]:
        """Which one is opened."""
        yield Step(kind="file", what=f"open {resource.path} read-write as {resource.key}")

    def acquire(self, resource: CharacterDevice, held: Held) -> str:
        """The descriptor."""
        found = _opened(resource)
        if isinstance(found, Problem):
            raise OperationError(f"{held.owner.name}: {found}")
        return held.add(found)


def _opened(resource: CharacterDevice) -> int | Problem:
    """A descriptor, or why there is none: the same for a check before a start and for the start."""
    path, got, todo = resource.where, repr(resource.path), "load its kernel module, or leave it out"
    try:
        fd = os.open(resource.path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        return Problem(path=path, what=f"cannot be opened ({error.strerror})", got=got, todo=todo)
    if stat.S_ISCHR(os.fstat(fd).st_mode):
        os.set_blocking(fd, True)
        return fd
    os.close(fd)
    return Problem(path=path, what="is not a character device", got=got, todo="name one")
