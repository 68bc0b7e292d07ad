"""Making what exists only for one launch: directories, sockets, open files. The ledger knows of it already."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Self

from hv_kvm.confinement import FIXED
from hv_kvm.machine.bindings import GuestFile
from hv_kvm.machine.spec import KvmSpec, Open
from hv_kvm.paths import GuestPaths
from hv_kvm.resources.newfiles import copy_template
from hv_kvm.resources.qcow2 import HEADER_BYTES, qcow2_problem
from hvcore.plugin import Job, OperationError, launched_for

__all__ = ["Descriptors", "listening_socket", "make_guest_dir", "open_files", "refuse_twin", "shown_files"]


class Descriptors:
    """Descriptors that are ours only until QEMU has its own: those handed over, and those merely kept open."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        self._kept: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
        while self._kept:
            os.close(self._kept.pop())

    def add(self, fd: int) -> str:
        """Take over a descriptor to hand to QEMU; its number as text."""
        self.fds.append(fd)
        return str(fd)

    def keep(self, fd: int) -> None:
        """Take over a descriptor that is to stay open until the end of the block."""
        self._kept.append(fd)

    def close(self) -> None:
        """Close our copies of what was handed over."""
        while self.fds:
            os.close(self.fds.pop())


def listening_socket(path: Path) -> int:
    """A listening unix socket at the path, however long that is, only for us to connect to."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            # Linux gives the name in the file system the mode of the socket; the umask may be anything.
            os.fchmod(made.fileno(), 0o600)
            # The kernel takes 108 bytes for a socket's name; through the descriptor it is short.
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
            made.listen(8)
            return os.dup(made.fileno())
    finally:
        os.close(directory)


def refuse_twin(directory: Path, name: str) -> None:
    """Raise `OperationError` when the instance runs already and only its state is gone, as when somebody wiped that."""
    found = launched_for(directory)
    if found:
        pids = " ".join(str(pid) for pid in sorted({*found, *(child for pid in found for child in _children(pid))}))
        what = f"{name}: runs already as pid {pids}, and its state here is gone"
        raise OperationError(f"{what}; look at it, and end it with kill -KILL {pids} before it is started again")


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def make_guest_dir(paths: GuestPaths, uid: int | None) -> int:
    """The directory that QEMU may write to, with the event journal prepared; the FIFO's descriptor.

    The FIFO keeps what is written to it only while somebody has it open: close the descriptor once QEMU is up.
    """
    paths.guest.mkdir(mode=0o700)
    os.mkfifo(paths.events_in, 0o600)
    paths.journal.touch(mode=0o600, exist_ok=False)
    if uid is not None:
        for path in (paths.guest, paths.events_in, paths.journal):
            os.chown(path, uid, uid)
    fifo = os.open(paths.events_in, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(fifo, b'{"execute": "qmp_capabilities"}\n')
    return fifo


def open_files(spec: KvmSpec, job: Job, held: Descriptors) -> dict[str, GuestFile]:
    """Claim and open every file of the spec. Raises `DiskInUseError`, and `OperationError` naming the path."""
    for uri, written in spec.each(lambda device: device.claims()):
        job.claim_disk(uri, read_only=not written)
    files = {}
    for set_id, wanted in enumerate(spec.opens):
        try:
            if wanted.template is not None:
                copy_template(wanted.template, wanted.path)
            if wanted.claim and (path := _claimable(wanted.path)) is not None:
                job.claim_disk(path, read_only=not wanted.write)
            fds, special = _open(wanted)
        except OSError as error:
            what = f"{job.name}: {wanted.path!r} cannot be opened, got {error.strerror}; check it and its rights"
            raise OperationError(what) from error
        files[wanted.name] = GuestFile(set_id=set_id, fds=tuple(map(held.add, fds)), block_device=special)
        if wanted.format == "qcow2":
            _refuse_references(job.name, wanted.path, fds[0])
    return files


def _refuse_references(name: str, path: str, fd: int) -> None:
    """Look once more, in what QEMU gets: it may be another file than the one that was looked at before."""
    with open(f"/proc/self/fd/{fd}", "rb") as file:  # without O_DIRECT, which would ask for whole blocks
        wrong = qcow2_problem(file.read(HEADER_BYTES))
    if wrong is not None:
        raise OperationError(f"{name}: {path!r} {wrong.what}; {wrong.todo}")


def _open(wanted: Open) -> tuple[list[int], bool]:
    # QEMU 10 and newer take only a descriptor that has O_DIRECT already when the node is to have it.
    direct = os.O_DIRECT if wanted.direct else 0
    flags = os.O_CLOEXEC | (os.O_RDWR if wanted.write else os.O_RDONLY) | direct
    mode = os.stat(wanted.path).st_mode
    if not stat.S_ISBLK(mode) or not wanted.claim or not wanted.write:
        return [os.open(wanted.path, flags)], not stat.S_ISREG(mode)
    # The kernel's own claim, held by QEMU for life: no mount, no swap, no other opener with O_EXCL beside it.
    # QEMU asks the set for a read-only descriptor as well, to look at the device first.
    writer = os.open(wanted.path, flags | os.O_EXCL)
    try:
        return [writer, os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC)], True
    except OSError:
        os.close(writer)
        raise


def _claimable(path: str) -> str | None:
    """The path to claim a disk by: of a SCSI generic device the block device that is the same disk, None without one."""
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode):
        return path
    places = f"/sys/dev/char/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}/device/block"
    with contextlib.suppress(FileNotFoundError):
        return next((f"/dev/{name}" for name in sorted(os.listdir(places))), None)
    return None


def shown_files(spec: KvmSpec, paths: GuestPaths, uid: int | None) -> dict[str, str]:
    """Where each file that QEMU opens by path is on the node: itself, or a copy when the guest's uid may not read it."""
    shown = {}
    for name, path in spec.shows.items():
        source = path
        if name in FIXED and not os.path.exists(path):
            continue
        if uid is not None and not os.stat(path).st_mode & stat.S_IROTH:
            copy = paths.guest / f"copy-of-{name}"
            shutil.copyfile(path, copy)
            os.chmod(copy, 0o400)
            os.chown(copy, uid, uid)
            source = str(copy)
        shown[name] = source
    return shown
