"""Files that a start makes: from a template and to stay, or without a name and gone with their last user."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable

from hv_kvm.machine.spec import KvmSpec
from hvcore.plugin import OperationError

__all__ = ["copy_template", "make_temporaries"]


def copy_template(template: str, path: str) -> None:
    """Make the file from its template, whole or not at all; nothing when it is there."""
    if os.path.exists(path):
        return
    directory, name = os.path.split(path)
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(template, "rb") as source, open(_nameless(directory), "w+b") as made:
            shutil.copyfileobj(source, made)
            made.flush()
            os.fsync(made.fileno())
            with contextlib.suppress(FileExistsError):  # somebody was faster, and theirs is as good
                # With a directory's descriptor: only then does Python ask for linkat(2), which follows the link.
                os.link(f"/proc/self/fd/{made.fileno()}", name, dst_dir_fd=place, follow_symlinks=True)
    finally:
        os.close(place)


def _nameless(directory: str) -> int:
    return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def make_temporaries(spec: KvmSpec, uid: int | None, keep: Callable[[int], str]) -> dict[str, str]:
    """The files without a name, each belonging to the guest's uid; their descriptors by name, as ``keep`` gives them back."""
    made = {}
    for wanted in spec.temporaries:
        try:
            fd = _nameless(wanted.directory)
            made[wanted.name] = keep(fd)
            os.truncate(fd, wanted.size_mib << 20)
            if uid is not None:
                os.fchown(fd, uid, uid)
        except OSError as error:
            reason = (
                "its file system has no files without a name" if error.errno == errno.EOPNOTSUPP else error.strerror
            )
            what = f"{spec.name}: no file of {wanted.size_mib} MiB in {wanted.directory!r}, got {reason}"
            raise OperationError(f"{what}; choose another directory") from error
    return made
