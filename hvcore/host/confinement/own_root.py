"""Makes the root of a plain chroot (an installer, a build root) a mount point, which bubblewrap needs.

bubblewrap first makes ``/`` a slave mount, which fails if ``/`` is an ordinary directory. Run as a program,
``python -I -S own_root.py COMMAND...``, this module makes a new mount namespace, binds the whole tree onto itself, makes
that the root, and executes the command. Outside of the namespace nothing changes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Final

__all__ = ["main", "with_own_root"]

_CLONE_NEWNS: Final = 0x00020000  # linux/sched.h
_MS_MOVE: Final = 0x2000  # linux/mount.h
_MS_BIND_REC: Final = 0x1000 | 0x4000
_MS_PRIVATE_REC: Final = 0x40000 | 0x4000
_MNT_DETACH: Final = 2
_FAILED: Final = 125
# As in `hvcore.host.own_mounts`: programs, libraries and files of the kernel.
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/proc", "/sys", "/dev", "/nix", "/gnu")


def with_own_root() -> tuple[str, ...]:
    """The prefix of a command that needs a mounted root; empty on an ordinary node."""
    with open("/proc/self/mountinfo", "rb") as table:
        if any(line.split(b" ", 5)[4] == b"/" for line in table):
            return ()
    return (sys.executable, "-I", "-S", os.path.abspath(__file__))


def main(argv: list[str]) -> int:
    """Execute the command; 125 if that fails."""
    try:
        _take_root(_needed(argv))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and exec keeps that
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(
            f"own_root: {argv[0]}: cannot make the root of this chroot a mount point, got {error.strerror}\n"
        )
    return _FAILED


def _needed(argv: list[str]) -> list[bytes]:
    """What the command reads from the node: programs, libraries, and the sources of bubblewrap's binds."""
    sources = [source for option, source in pairwise(argv) if option.startswith("--") and "bind" in option]
    programs = (*_SYSTEM, sys.prefix, sys.base_prefix, os.path.dirname(argv[0]), *os.get_exec_path())
    own = os.environ.get("HVCORE_INSTANCE", "")
    places = (*programs, *sources, own)
    return [os.fsencode(os.path.realpath(place)) for place in places if place.startswith("/")]


def _take_root(needed: list[bytes]) -> None:
    """Make our root directory the root of a new mount namespace, without the mounts that the command does not need.

    The mount below our root cannot be named from inside, and may be shared: an unmount would reach the node. So leave the
    chroot for the top of the new namespace and make all of it private. Then unmount what the command does not need, above
    all the disks of other instances, which these copies of their mounts would keep in use.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.unshare, _CLONE_NEWNS)
    inside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chroot("/proc")  # any directory below: a root does not stop a process that is outside of it
    os.fchdir(inside)
    while not os.path.samefile(".", ".."):
        os.chdir("..")
    os.chroot(".")
    _call(libc.mount, None, b"/", None, ctypes.c_ulong(_MS_PRIVATE_REC), None)
    os.fchdir(inside)
    place = os.getcwdb()
    for point in _mounts_to_remove(place, needed):
        libc.umount2(point, _MNT_DETACH)
    _call(libc.mount, place, place, None, ctypes.c_ulong(_MS_BIND_REC), None)
    os.chdir(place)  # again: the name now leads to the mount on the directory
    # As in switch_root(8), because pivot_root(2) fails on a node that runs from an initramfs.
    _call(libc.mount, b".", b"/", None, ctypes.c_ulong(_MS_MOVE), None)
    os.chroot(".")
    os.chdir("/")


def _mounts_to_remove(place: bytes, needed: list[bytes]) -> list[bytes]:
    """Mount points to unmount, the latest first: all but those above ``place``, and those below it that are needed.

    Not the mounts of other instances, even if a directory above them is needed.
    """
    ours = place + os.fsencode(os.environ.get("HVCORE_INSTANCE", ""))
    instances = os.path.dirname(ours) + b"/" if ours != place else b"\0"
    with open("/proc/self/mountinfo", "rb") as table:
        points = [_unescaped(line.split(b" ", 5)[4]) for line in table]
    wanted = [place.rstrip(b"/") + path for path in needed]
    return [
        point
        for point in reversed(points)
        if not _leads_to(point, place)
        and (
            not any(_leads_to(point, path) or _leads_to(path, point) for path in wanted)
            or (point.startswith(instances) and not _leads_to(ours, point))
        )
    ]


def _unescaped(field: bytes) -> bytes:
    # As `hvcore.host.mount_table.unescaped`, because this program imports nothing of hvcore. Not by a codec either: outside
    # of the chroot, the node may have another Python or none to import it from.
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
