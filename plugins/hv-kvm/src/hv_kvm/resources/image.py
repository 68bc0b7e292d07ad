"""A disk image, a device or a flash memory, opened before QEMU starts and passed to QEMU as a set of descriptors."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import hvcore.plugin as hv
from hv_kvm.machine.resource import GuestFile, Image
from hv_kvm.resources.base_image import overlay_on
from hv_kvm.resources.image_contents import contents_problem
from hv_kvm.resources.whole_file import make_whole

__all__ = ["ImageKind", "copy_template"]

_MUST_BE: Final = {
    "image": "an image file or a block device",
    "block": "a block device that has a SCSI device",
    "sg": "a SCSI generic device such as /dev/sg0",
}


class ImageKind(hv.ResourceKind[Image, GuestFile], name="image", turn=hv.Turn.FILE):
    """A claim is in the set too: it lasts as long as QEMU has the file, and is given back with the file."""

    def verify(self, resource: Image, site: hv.Site) -> Iterator[hv.Problem]:
        """The file must exist, with the right type, format and permissions; or it must be possible to make it."""
        path, where = resource.path, resource.where
        try:
            found = os.stat(path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            if missing and resource.template is not None:
                yield from _template_problems(resource, resource.template)
            elif missing and resource.make:
                yield from _overlay_problems(resource)
            else:
                todo = f"{'create it, or ' * missing}give {_MUST_BE[resource.must_be]}"
                yield hv.Problem(path=where, what=f"cannot be used ({error.strerror})", got=repr(path), todo=todo)
            return
        what = _wrong_kind(resource.must_be, found.st_mode)
        if what is not None:
            yield hv.Problem(path=where, what=what, got=repr(path), todo=f"give {_MUST_BE[resource.must_be]}")
        elif not os.access(path, os.R_OK | (os.W_OK if resource.write else 0)):
            right = "read and write" if resource.write else "read"
            todo = "change its permissions, or run hv as root"
            yield hv.Problem(path=where, what=f"no permission to {right} it", got=repr(path), todo=todo)
        elif (wrong := contents_problem(resource, path)) is not None:
            yield hv.Problem(path=where, what=wrong[0], got=repr(path), todo=wrong[1])
        elif resource.claim and (place := _claimable(path)) is not None:
            yield from hv.disk_in_use(resource, place, site, write=resource.write)

    def describe(self, resource: Image, site: hv.Site) -> Iterator[hv.Step]:
        """How the file is opened."""
        claim = "claim and open" if resource.claim else "open"
        right = "read-write" if resource.write else "read-only"
        source = f"from {resource.template}" if resource.template else ""
        if resource.make and resource.backing is not None:
            source = f"empty on top of {resource.backing.path}"
        made = f", made {source} if it does not exist" if source else ""
        yield hv.Step(kind="file", what=f"{claim} {resource.path} {right} as {resource.key}{made}")

    def placeholder(self, resource: Image, site: hv.Site) -> GuestFile:
        """Its set with ``{fd:KEY}``; a block device that is claimed has a second descriptor, to read."""
        key = resource.key
        claims = (f"{{fd:{key}-claim}}",) if resource.claim else ()
        file = GuestFile(name=key, set_id=resource.fdset, fds=(f"{{fd:{key}}}",), claims=claims)
        device = not site.pure and resource.claim and Path(resource.path).is_block_device()
        return file.as_block_device() if device else file

    def entry(self, resource: Image, site: hv.Site) -> Mapping[str, Any] | None:
        """A claim is reserved."""
        if not resource.claim:
            return None
        # A file that is made later is claimed by its path: a reboot holds it then.
        place = resource.path if resource.make or resource.template is not None else None
        with contextlib.suppress(OSError):
            place = _claimable(resource.path)
        return {} if place is None else hv.claimed(place, write=resource.write)

    def acquire(self, resource: Image, held: hv.Held) -> GuestFile:
        """Make the file if it has a template, claim it, open it. Raises `DiskInUseError`, and `OperationError` with the path."""
        claims: tuple[str, ...] = ()
        try:
            if resource.template is not None:
                copy_template(resource.template, resource.path)
            if resource.make:
                _make_overlay(resource)
            if resource.claim and (path := _claimable(resource.path)) is not None:
                claims = hv.claim_disk(path, resource.key, held, write=resource.write)
            fds, special = _open(resource)
        except ValueError as error:
            raise hv.OperationError(
                f"{held.owner.name}: {resource.path!r} {error}; set size to at least that"
            ) from error
        except OSError as error:
            what = f"{held.owner.name}: {resource.path!r} cannot be opened, got {error.strerror}"
            raise hv.OperationError(f"{what}; check the file and its permissions") from error
        opened = tuple(map(held.add, fds))
        # Once more, in the file that QEMU gets: it may not be the one that verify has read.
        wrong = contents_problem(resource, f"/proc/self/fd/{fds[0]}")
        if wrong is not None:
            raise hv.OperationError(f"{held.owner.name}: {resource.path!r} {wrong[0]}; {wrong[1]}")
        return GuestFile(name=resource.key, set_id=resource.fdset, fds=opened, claims=claims, block_device=special)

    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        """Release the claim. The file stays, also one that was made from a template."""
        hv.release_disk(entry, owner)


def _wrong_kind(must_be: str, mode: int) -> str | None:
    if must_be == "sg":
        return None if stat.S_ISCHR(mode) else "is not a SCSI generic device"
    if must_be == "block":
        return None if stat.S_ISBLK(mode) else "is not a block device, so it has no SCSI device"
    return None if stat.S_ISREG(mode) or stat.S_ISBLK(mode) else "is neither a file nor a block device"


def _template_problems(resource: Image, template: str) -> Iterator[hv.Problem]:
    if not os.path.isfile(template):
        what = f"does not exist, and neither does its template {template!r}"
        todo = "install it (Debian: ovmf) or name another"
        yield hv.Problem(path=resource.where, what=what, got=repr(resource.path), todo=todo)
    else:
        yield from _place_problems(resource)


def _overlay_problems(resource: Image) -> Iterator[hv.Problem]:
    with contextlib.suppress(OSError):  # the check of the base reports it
        try:
            _overlay_for(resource)
        except ValueError as error:
            todo = "set size to at least that, or unset it"
            yield hv.Problem(path=resource.where, what=str(error), got=repr(resource.path), todo=todo)
    yield from _place_problems(resource)


def _place_problems(resource: Image) -> Iterator[hv.Problem]:
    directory = os.path.dirname(resource.path)
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK):
        what = f"does not exist and cannot be created in {directory!r}"
        todo = "allow writing there, or name another" if os.path.isdir(directory) else "create that directory"
        yield hv.Problem(path=resource.where, what=what, got=repr(resource.path), todo=todo)


def copy_template(template: str, path: str) -> None:
    """Make the file from its template, whole or not at all; does nothing when the file exists."""

    def write(made: BinaryIO) -> None:
        with open(template, "rb") as source:
            shutil.copyfileobj(source, made)

    make_whole(path, write)


def _make_overlay(resource: Image) -> None:
    make_whole(resource.path, lambda made: made.write(_overlay_for(resource)))


def _overlay_for(resource: Image) -> bytes:
    return overlay_on(resource.backing, resource.size_bytes, named=True)


def _claimable(path: str) -> str | None:
    """The path by which a disk is claimed: for a SCSI generic device its block device, or None if it has none."""
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode):
        return path
    places = f"/sys/dev/char/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}/device/block"
    with contextlib.suppress(FileNotFoundError):
        return next((f"/dev/{name}" for name in sorted(os.listdir(places))), None)
    return None


def _open(image: Image) -> tuple[list[int], bool]:
    # For a node with O_DIRECT, QEMU 10 and newer take only a descriptor that has it already.
    direct = os.O_DIRECT if image.direct else 0
    flags = os.O_CLOEXEC | (os.O_RDWR if image.write else os.O_RDONLY) | direct
    mode = os.stat(image.path).st_mode
    if not stat.S_ISBLK(mode) or not image.claim or not image.write:
        return [os.open(image.path, flags)], not stat.S_ISREG(mode)
    # The kernel's claim, which lasts as long as QEMU: no mount, no swap, no other opener with O_EXCL.
    # QEMU also needs a read-only descriptor in the set, to examine the device first.
    writer = os.open(image.path, flags | os.O_EXCL)
    try:
        return [writer, os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)], True
    except OSError:
        os.close(writer)
        raise
