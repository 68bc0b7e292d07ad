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
_MS_MOVE: Final = 0x2000  # linux/mount.h
_MS_BIND_REC: Final = 0x1000 | 0x4000
_MS_PRIVATE_REC: Final = 0x40000 | 0x4000
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
        _take_root()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is executed would go on so
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"own_root: {argv[0]}: no root of its own in this chroot, got {error.strerror}\n")
    return _FAILED


def _take_root() -> None:
    """Make our root directory the root of a mount namespace of its own, with nothing of the node beside it.

    What our root is mounted on cannot be named from inside and may be shared with the node: an unmount here would be
    one there. So go out to the top of the new namespace first, to which a chroot is no wall for root, and make it
    private as a whole. Then what nobody here needs is let go of, above all the disks of other instances: this copy of
    their mounts would keep them in use for as long as we live.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.unshare, _CLONE_NEWNS)
    inside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _to_the_top(inside)
    _call(libc.mount, None, b"/", None, ctypes.c_ulong(_MS_PRIVATE_REC), None)
    os.fchdir(inside)
    place = os.getcwdb()
    for point in _not_needed(place):
        libc.umount2(point, _MNT_DETACH)
    _call(libc.mount, place, place, None, ctypes.c_ulong(_MS_BIND_REC), None)
    os.chdir(place)  # once more: the name now leads to the mount upon the directory
    # As switch_root(8) does it, because pivot_root(2) cannot where the node itself runs from an initramfs.
    _call(libc.mount, b".", b"/", None, ctypes.c_ulong(_MS_MOVE), None)
    os.chroot(".")
    os.chdir("/")


def _to_the_top(inside: int) -> None:
    os.chroot("/proc")  # any directory below: whoever is outside of his root is stopped by it no more
    os.fchdir(inside)
    while not os.path.samefile(".", ".."):
        os.chdir("..")
    os.chroot(".")


def _not_needed(place: bytes) -> list[bytes]:
    """Mount points of the namespace, the latest first, but those on the way to ``place`` and those below it.

    Of the latter only what is mounted for another instance than that we are launched for.
    """
    ours = place + os.fsencode(os.environ.get("HVCORE_INSTANCE", ""))
    others = os.path.dirname(ours) + b"/" if ours != place else b"\0"
    with open("/proc/self/mountinfo", "rb") as table:
        points = [_unescaped(line.split(b" ", 5)[4]) for line in table]
    return [
        point
        for point in reversed(points)
        if not _leads_to(point, place)
        and (not _leads_to(place, point) or (point.startswith(others) and not _leads_to(ours, point)))
    ]


def _unescaped(field: bytes) -> bytes:
    r"""A field with \040 and the like for what cannot stand in one (proc(5)).

    As `hvcore.host.mount_table.unescaped`, which a program that loads nothing of hvcore cannot call. Nor by a codec: out
    here its module would have to come from the node, where there may be another Python or none.
    """
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def _leads_to(above: bytes, below: bytes) -> bool:
    return above == below or below.startswith(above.rstrip(b"/") + b"/")


def _call(function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
