"""An ordinary user of the node, who is not root: for a process of the test, or a program that it starts. Needs root."""

from __future__ import annotations

import ctypes
import encodings.ascii
import encodings.idna
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from without_instances import IN_A_SHELL, take_off_copies

__all__ = ["USER", "as_user", "become_user", "environment", "python_as_user"]

USER: Final = 12345
_TUN: Final = os.makedev(10, 200)  # Documentation/admin-guide/devices.txt
_CLONE_NEWNS: Final = 0x20000  # linux/sched.h
_MS_PRIVATE_REC: Final = 0x40000 | 0x4000  # linux/mount.h
_PR_SET_DUMPABLE: Final = 4
_WITH_TUN: Final = "mount -t tmpfs -o mode=755 none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec"


def become_user(*owned: Path, tun: bool = True) -> None:
    """This process is the user from now on. The paths are the user's.

    It has the signals and the priority of a login, also if nohup or nice started the tests: a launch would set them by
    Python, which the user may not be able to execute.

    On most nodes every user can open /dev/net/tun. So can this one, in a mount namespace of this process.
    """
    _ = encodings.ascii, encodings.idna  # loaded: the user may not be able to read the directory of Python
    libc = ctypes.CDLL(None, use_errno=True)
    if tun:
        done = libc.unshare(_CLONE_NEWNS)
        for place in (b"/", b"/dev"):  # in a plain chroot / is no mount point
            if libc.mount(None, place, None, ctypes.c_ulong(_MS_PRIVATE_REC), None) == 0:
                break
        if done != 0 or libc.mount(b"none", b"/dev/net", b"tmpfs", ctypes.c_ulong(0), b"mode=755") != 0:
            raise OSError(ctypes.get_errno(), "cannot show another /dev/net")
        take_off_copies()
        os.mknod("/dev/net/tun", stat.S_IFCHR | 0o666, _TUN)
        os.chmod("/dev/net/tun", 0o666)
    for path in owned:
        os.chown(path, USER, USER)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    libc.prctl(_PR_SET_DUMPABLE, 1)  # as a process that never was root


def as_user(*argv: str, tun: bool = False) -> list[str]:
    """The command that runs this one as the user; with ``tun``, the user can open /dev/net/tun."""
    become = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--", *argv]
    if not tun:
        return become
    return ["unshare", "--mount", "sh", "-c", f'{IN_A_SHELL}{_WITH_TUN} "$@"', "sh", *become]


def python_as_user(*argv: str, tun: bool = False) -> list[str]:
    """The command of a Python that the user can execute again, with this hvcore; skips if there is none."""
    for python in (sys.executable, shutil.which("python3", path=os.defpath)):
        again = "import hvcore, subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
        tried = as_user(str(python), "-c", again)
        if subprocess.run(tried, capture_output=True, check=False, env=environment(Path("/"))).returncode == 0:
            return as_user(str(python), *argv, tun=tun)
    pytest.skip("no Python that another user can execute: its directory is private")


def environment(home: Path) -> dict[str, str]:
    """The environment of that Python."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": path}
