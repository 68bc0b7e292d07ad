"""The seccomp profile: the system calls that no process of an instance may make, as a BPF program. Pure.

They are calls that an ordinary service never makes and that the kernel had faults in: loading code into it, mounts and
new namespaces, the clock, raw hardware, other processes' memory, kernel keys, io_uring. A call that needs a capability
is allowed if the instance keeps that capability. A call newer than the table, or of another architecture, fails with
ENOSYS, so that programs use the older call. seccomp(2), bpf(2).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Final

from hvcore.plugin import dataclass

__all__ = ["MACHINES", "filter_program"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """The numbers of one architecture (linux/audit.h), and its column of the table."""

    audit: int
    column: int
    clone: int
    unshare: int
    ioctl: int
    socket: int


_MACHINES: Final = {
    "x86_64": _Machine(audit=0xC000003E, column=0, clone=56, unshare=272, ioctl=16, socket=41),
    "aarch64": _Machine(audit=0xC00000B7, column=1, clone=220, unshare=97, ioctl=29, socket=198),
}
MACHINES: Final = tuple(_MACHINES)
"""The architectures that have a profile, by their names in os.uname()."""

_NEWEST: Final = 466  # the last one of Linux 6.14; from 424 on all architectures have the same numbers

# Name, the capability that it needs, and its number on x86_64 and aarch64; None: it does not exist there.
_DENIED: Final = (
    ("mount", "CAP_SYS_ADMIN", 165, 40),
    ("umount2", "CAP_SYS_ADMIN", 166, 39),
    ("pivot_root", "CAP_SYS_ADMIN", 155, 41),
    ("fsopen", "CAP_SYS_ADMIN", 430, 430),
    ("fsconfig", "CAP_SYS_ADMIN", 431, 431),
    ("fsmount", "CAP_SYS_ADMIN", 432, 432),
    ("fspick", "CAP_SYS_ADMIN", 433, 433),
    ("move_mount", "CAP_SYS_ADMIN", 429, 429),
    ("open_tree", "CAP_SYS_ADMIN", 428, 428),
    ("mount_setattr", "CAP_SYS_ADMIN", 442, 442),
    ("setns", "CAP_SYS_ADMIN", 308, 268),
    ("quotactl", "CAP_SYS_ADMIN", 179, 60),
    ("quotactl_fd", "CAP_SYS_ADMIN", 443, 443),
    ("swapon", "CAP_SYS_ADMIN", 167, 224),
    ("swapoff", "CAP_SYS_ADMIN", 168, 225),
    ("lookup_dcookie", "CAP_SYS_ADMIN", 212, 18),
    ("init_module", "CAP_SYS_MODULE", 175, 105),
    ("finit_module", "CAP_SYS_MODULE", 313, 273),
    ("delete_module", "CAP_SYS_MODULE", 176, 106),
    ("reboot", "CAP_SYS_BOOT", 169, 142),
    ("kexec_load", "CAP_SYS_BOOT", 246, 104),
    ("kexec_file_load", "CAP_SYS_BOOT", 320, 294),
    ("adjtimex", "CAP_SYS_TIME", 159, 171),
    ("clock_adjtime", "CAP_SYS_TIME", 305, 266),
    ("clock_settime", "CAP_SYS_TIME", 227, 112),
    ("settimeofday", "CAP_SYS_TIME", 164, 170),
    ("iopl", "CAP_SYS_RAWIO", 172, None),
    ("ioperm", "CAP_SYS_RAWIO", 173, None),
    ("kcmp", "CAP_SYS_PTRACE", 312, 272),
    ("pidfd_getfd", "CAP_SYS_PTRACE", 438, 438),
    ("process_madvise", "CAP_SYS_PTRACE", 440, 440),
    ("process_vm_readv", "CAP_SYS_PTRACE", 310, 270),
    ("process_vm_writev", "CAP_SYS_PTRACE", 311, 271),
    ("acct", "CAP_SYS_PACCT", 163, 89),
    ("syslog", "CAP_SYSLOG", 103, 116),
    ("vhangup", "CAP_SYS_TTY_CONFIG", 153, 58),
    ("open_by_handle_at", "CAP_DAC_READ_SEARCH", 304, 265),
    ("bpf", "CAP_BPF", 321, 280),
    ("perf_event_open", "CAP_PERFMON", 298, 241),
    ("add_key", "", 248, 217),
    ("request_key", "", 249, 218),
    ("keyctl", "", 250, 219),
    ("userfaultfd", "", 323, 282),
    ("io_uring_setup", "", 425, 425),
    ("io_uring_enter", "", 426, 426),
    ("io_uring_register", "", 427, 427),
    ("nfsservctl", "", 180, 42),
    ("uselib", "", 134, None),
    ("_sysctl", "", 156, None),
    ("ustat", "", 136, None),
    ("sysfs", "", 139, None),
    ("modify_ldt", "", 154, None),
)
_CLONE3: Final = 435

_NEW_NAMESPACES: Final = 0x7E020000  # every CLONE_NEW flag of linux/sched.h that clone(2) takes
_NEW_TIME: Final = 0x80  # CLONE_NEWTIME, which in clone(2) is part of the signal's number
_PUSHES_CHARACTERS: Final = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX push characters into a terminal
_FAMILIES: Final = (1, 2, 10, 16, 17)  # unix, inet, inet6, netlink, packet (linux/socket.h)

# linux/filter.h, linux/bpf_common.h and linux/seccomp.h
_LOAD, _EQUAL, _ABOVE, _HAS_BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def filter_program(machine: str, capabilities: tuple[str, ...]) -> bytes:
    """The profile as an array of struct sock_filter, for an instance with those capabilities.

    Raises KeyError for an architecture that is not in `MACHINES`.
    """
    here = _MACHINES[machine]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in _program(here, capabilities))


def _program(here: _Machine, capabilities: tuple[str, ...]) -> Iterator[_Instruction]:
    yield _LOAD, 0, 0, _ARCH
    yield _EQUAL, 1, 0, here.audit
    yield _refuse(errno.ENOSYS)
    yield _LOAD, 0, 0, _NUMBER
    yield _ABOVE, 0, 1, _NEWEST
    yield _refuse(errno.ENOSYS)
    for _, capability, *numbers in _DENIED:
        number = numbers[here.column]
        if number is not None and capability not in capabilities:
            yield _EQUAL, 0, 1, number
            yield _refuse(errno.EPERM)
    if "CAP_SYS_ADMIN" not in capabilities:
        yield from _call(here.clone, 0, [(_HAS_BITS, 0, 1, _NEW_NAMESPACES), _refuse(errno.EPERM)])
        yield from _call(here.unshare, 0, [(_HAS_BITS, 0, 1, _NEW_NAMESPACES | _NEW_TIME), _refuse(errno.EPERM)])
        # Its flags are behind a pointer, which a filter cannot follow; without it the C libraries call clone.
        yield _EQUAL, 0, 1, _CLONE3
        yield _refuse(errno.ENOSYS)
    pushes = [step for value in _PUSHES_CHARACTERS for step in ((_EQUAL, 0, 1, value), _refuse(errno.EPERM))]
    yield from _call(here.ioctl, 1, pushes)
    known = [step for family in _FAMILIES for step in ((_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW))]
    yield from _call(here.socket, 0, [*known, _refuse(errno.EAFNOSUPPORT)])
    yield _RETURN, 0, 0, _ALLOW


def _call(number: int, argument: int, steps: list[_Instruction]) -> Iterator[_Instruction]:
    """Only for that system call: load the lower half of an argument and run the steps; if none returns, allow it."""
    yield _EQUAL, 0, len(steps) + 2, number
    yield _LOAD, 0, 0, _ARGUMENTS + 8 * argument
    yield from steps
    yield _RETURN, 0, 0, _ALLOW


def _refuse(number: int) -> _Instruction:
    return _RETURN, 0, 0, _ERRNO | number
