"""The file with what a guest writes to a temporary disk. It has no name: nothing is left of it when the guest ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.resource import GuestFile, TemporaryOverlay
from hv_kvm.resources.base_image import overlay_on

__all__ = ["TemporaryOverlayKind"]

_ELSEWHERE: Final = "name another directory in params.disk_temporary_path"


class TemporaryOverlayKind(hv.ResourceKind[TemporaryOverlay, GuestFile], name="temporary-overlay", turn=hv.Turn.FILE):
    """Not in the ledger: the file ends with its last user."""

    def verify(self, resource: TemporaryOverlay, site: hv.Site) -> Iterator[hv.Problem]:
        """The directory must take files without a name, and the disk cannot be smaller than what is under it."""
        try:
            os.close(_nameless(resource.directory))
        except OSError as error:
            what = f"no temporary file can be made there ({error.strerror})"
            yield hv.Problem(
                path="params.disk_temporary_path", what=what, got=repr(resource.directory), todo=_ELSEWHERE
            )
        with suppress(OSError):  # another check reports it
            try:
                overlay_on(resource.backing, resource.size_bytes, named=False)
            except ValueError as error:
                yield hv.Problem(path=resource.where, what=str(error), todo="set size to at least that, or unset it")

    def describe(self, resource: TemporaryOverlay, site: hv.Site) -> Iterator[hv.Step]:
        """Where the file is, and what is under it."""
        what = f"make an unnamed file in {resource.directory} as {resource.key}, on top of {resource.backing.path}"
        yield hv.Step(kind="file", what=what)

    def placeholder(self, resource: TemporaryOverlay, site: hv.Site) -> GuestFile:
        """Its set with ``{fd:KEY}``."""
        return GuestFile(name=resource.key, set_id=resource.fdset, fds=(f"{{fd:{resource.key}}}",))

    def acquire(self, resource: TemporaryOverlay, held: hv.Held) -> GuestFile:
        """Make the file. Raises `OperationError`."""
        try:
            made = overlay_on(resource.backing, resource.size_bytes, named=False)
            fd = _nameless(resource.directory)
            try:
                with open(fd, "wb", closefd=False) as file:
                    file.write(made)
                direct = os.O_DIRECT if resource.direct else 0
                opened = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | direct)
            finally:
                os.close(fd)
        except ValueError as error:
            raise hv.OperationError(
                f"{held.owner.name}: {resource.where}: {error}; set size to at least that"
            ) from error
        except OSError as error:
            what = f"{held.owner.name}: no temporary file can be made in {resource.directory!r}, got {error.strerror}"
            raise hv.OperationError(f"{what}; {_ELSEWHERE}") from error
        return GuestFile(name=resource.key, set_id=resource.fdset, fds=(held.add(opened),))


def _nameless(directory: str) -> int:
    # O_EXCL: nothing can give it a name later.
    return os.open(directory, os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
