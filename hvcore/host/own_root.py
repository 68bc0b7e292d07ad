"""A root that is a mount point, for bubblewrap, where there is none: in a plain chroot (an installer, a build root).

bubblewrap begins by making ``/`` a slave mount and fails when ``/`` is only a directory of one. Run as a program,
``python -I -S own_root.py COMMAND...``, this takes a mount namespace of its own, binds the whole tree somewhere in it,
makes that the root, and becomes the command. Nothing of it is seen outside, and nothing has to be undone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["main", "with_own_root"]

_CLONE_NEWNS: Final = 0x00020000  # linux/sched.h
_MS_BIND_REC: Final = 0x1000 | 0x4000  # linux/mount.h
_MNT_DETACH: Final = 2
_FAILED: Final = 125


def with_own_root() -> tuple[str, ...]:
    """What a command that needs a mounted root has to begin with here; nothing on an ordinary node."""
    with open("/proc/self/mountinfo", "rb") as table:
        if any(line.split(b" ", 5)[4] == b"/" for line in table):
            return ()
    return (sys.executable, "-I", "-S", os.path.abspath(__file__))


def main(argv: list[str]) -> int:
    """Become the command; 125 when that cannot be done."""
    try:
        place = _private_mount()
        libc = ctypes.CDLL(None, use_errno=True)
        _call(libc.unshare, _CLONE_NEWNS)
        _call(libc.mount, b"/", place, None, ctypes.c_ulong(_MS_BIND_REC), None)
        os.chroot(place)
        os.chdir("/")
        _forget_others(libc)
        for number in (
            signal.SIGPIPE,
            signal.SIGXFSZ,
        ):  # Python ignores them, and what is executed would go on doing so
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"own_root: {argv[0]}: no root of its own in this chroot, got {error.strerror}\n")
    return _FAILED


def _private_mount() -> bytes:
    """A directory that is mounted and shared with no other namespace: what is bound there shows up nowhere else."""
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            fields = line.split(b" ")
            tags = fields[6 : fields.index(b"-")]
            if not any(tag.startswith(b"shared:") for tag in tags) and os.path.isdir(fields[4]):
                return fields[4]
    raise OSError(22, "no mount that is private")


def _forget_others(libc: ctypes.CDLL) -> None:
    """Let go of the disks of other instances: this copy of their mounts would keep them in use as long as we live."""
    ours = os.environ.get("HVCORE_INSTANCE")
    if not ours:
        return
    below = os.fsencode(os.path.dirname(ours)) + b"/"
    with open("/proc/self/mountinfo", "rb") as table:
        points = [line.split(b" ", 5)[4] for line in table]
    for point in reversed(points):
        if point.startswith(below) and not point.startswith(os.fsencode(ours) + b"/"):
            libc.umount2(point, _MNT_DETACH)


def _call(function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
