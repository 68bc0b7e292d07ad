"""Reading and making files inside an instance's root, where any file may be a link to anywhere."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.plugin import executable_problem, system_call

__all__ = [
    "as_owner",
    "mount_point",
    "open_directory",
    "open_place",
    "plain_directories",
    "program_problem",
    "script_problem",
]

_OPENAT2: Final = 437  # the same on every architecture; Linux 5.6
_RESOLVE_NO_MAGICLINKS: Final = 0x02  # linux/openat2.h
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_IN_ROOT: Final = 0x10
_TRIES: Final = 1000
_CAPABILITY_VERSION_3: Final = 0x20080522  # linux/capability.h
_MOST_LINKS: Final = 40  # as the kernel: path_resolution(7)
_HEAD_BYTES: Final = 4096
_PLACE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """A descriptor of that directory, which is not a link, to reach files from. Raises OSError."""
    fd = os.open(path, _PLACE | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def program_problem(root: Path, path: str) -> str | None:
    """Why the program at ``path`` cannot be run in that root, or None when it can.

    Links are followed as a process inside follows them: an absolute one, or ``..``, stays below ``root``.
    """
    try:
        with _inside(root, path) as fd:
            mode = os.fstat(fd).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "does not exist"
        return f"cannot be read, got {os.strerror(error.errno or 0)}"
    if not stat.S_ISREG(mode):
        return "is not a file"
    return None if mode & 0o111 else f"is not executable, got mode {stat.S_IMODE(mode):04o}"


def script_problem(root: Path, path: str, search: str) -> tuple[str, str] | None:
    """Why the kernel would not execute the script or program in that root, and what to do; None when it would.

    ``search`` is the PATH that it gets. What a script does is not known, only whether its interpreter exists.
    """
    problem = program_problem(root, path)
    if problem is not None:
        return problem, "create it, or set params.init_script"

    def found(inside: str) -> bytes | None:
        return _head(root, inside) if program_problem(root, inside) is None else None

    return executable_problem(found(path) or b"", search, found)


def _head(root: Path, path: str) -> bytes:
    """The first bytes of that file in the root; none of a file that cannot be read."""
    try:
        with _inside(root, path) as place:
            fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.pread(fd, _HEAD_BYTES, 0)
            finally:
                os.close(fd)
    except OSError:
        return b""


@contextmanager
def _inside(root: Path, path: str) -> Iterator[int]:
    """A descriptor of that file, only as a place, with links followed as a process inside follows them. Raises OSError."""
    with open_directory(root) as root_fd:
        fd = _opened(root_fd, path)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_place(root_fd: int, path: str, *, links: bool = True) -> Iterator[int]:
    """The same from a descriptor of the root; without ``links``, a link in the path is an OSError."""
    fd = _opened(root_fd, path, _RESOLVE_NO_MAGICLINKS if links else _RESOLVE_NO_SYMLINKS)
    try:
        yield fd
    finally:
        os.close(fd)


def _opened(root_fd: int, path: str, resolve: int = _RESOLVE_NO_MAGICLINKS) -> int:
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | resolve)
    for _ in range(_TRIES):
        # EAGAIN: something on the node was renamed or mounted while the kernel followed "..", and so it is not sure.
        with suppress(BlockingIOError):
            return system_call(_OPENAT2, root_fd, os.fsencode(path), how, len(how))
    raise OSError(errno.EAGAIN, "the node's mounts change all the time", path)


def plain_directories(root: Path, names: tuple[str, ...], *, may_be_made: bool) -> str | None:
    """Which of these names in the root is not a directory, and why; a link is not one. None when each is one or can be made."""
    with open_directory(root) as root_fd:
        for name in names:
            try:
                found = os.stat(name, dir_fd=root_fd, follow_symlinks=False)
            except FileNotFoundError:
                if may_be_made:
                    continue
                return f"/{name} does not exist, and the root is read-only"
            if not stat.S_ISDIR(found.st_mode):
                return f"/{name} is not a directory"
    return None


@contextmanager
def mount_point(root: Path | int, path: str, *, directory: bool, owner: int) -> Iterator[int]:
    """A descriptor of that place inside, to mount something on; what is missing on the way, and the place itself, is made.

    Links are followed as a process inside follows them, and one that leads nowhere leads to what is made: RESOLVE_IN_ROOT
    of openat2(2) does the first and not the second. ``owner`` is the node's uid and gid of root inside. Raises OSError.
    """
    with ExitStack() as opened:
        top = root if isinstance(root, int) else opened.enter_context(open_directory(root))
        way = [top]  # from the root to where we are: ``..`` goes back on it
        left = path.strip("/").split("/")
        links = 0
        with as_owner(owner):
            while left:
                name = left.pop(0)
                if name in ("", "."):
                    continue
                if name == "..":
                    way[1:] = way[1:-1]
                    continue
                to = _link(way[-1], name)
                if to is None:
                    make = _directory if left or directory else _file
                    way.append(make(way[-1], name))
                    opened.callback(os.close, way[-1])
                    continue
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                way[1:] = way[1:] if not to.startswith("/") else []
                left[:0] = to.split("/")
        yield way[-1]


def _link(here: int, name: str) -> str | None:
    """Where the link of that name leads; None for anything else, and when nothing has the name."""
    try:
        return os.readlink(name, dir_fd=here)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # is not a link
            return None
        raise


def _directory(here: int, name: str) -> int:
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=here)
        made = True
    fd = os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=here)
    if made:  # the umask is the caller's
        os.chmod(f"/proc/self/fd/{fd}", 0o755)  # noqa: S103 - as every directory above a mount point
    return fd


def _file(here: int, name: str) -> int:
    with suppress(FileExistsError):
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=here)
        os.fchmod(made, 0o644)
        os.close(made)
    fd = os.open(name, _PLACE, dir_fd=here)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file, unlike the source", name)


@contextmanager
def as_owner(uid: int) -> Iterator[None]:
    """Make files as that user and group, only in this thread, with all that root may do.

    A mount with shifted owners refuses a new file of an owner that it cannot show, even from root; and an overlay works
    on its layers as the user that mounted it. setfsuid(2) is made for this. It drops capabilities, which are set again
    here.
    """
    if uid == 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setfsgid(uid)
    libc.setfsuid(uid)
    try:
        _make_effective(libc)
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(0)


def _make_effective(libc: ctypes.CDLL) -> None:
    """Every permitted capability becomes effective: capget(2), with effective, permitted, inheritable twice."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) == 0:
        data[0], data[3] = data[1], data[4]
        if libc.capset(header, data) == 0:
            return
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
