"""The mounts of a start: its root, what is shown in it, and room for the output of its scripts.

All of them are below the instance's directory, which is how the core finds them again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.bind import Bind
from hv_chroot.names import LOG_FILE, OUTPUT, ROOT
from hv_chroot.resources.mount_calls import Allowed, attach, cloned_tree, mount_overlay, mount_tmpfs
from hv_chroot.resources.owner import as_owner
from hv_chroot.resources.root_files import mount_point
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import LIFE_LOCK, STATUS, claim_mount, identify_disk, run_tool

__all__ = ["Owners", "mount_command", "mount_output", "mount_root", "owners_of"]

_LOWER: Final = "lower"
_UPPER: Final = "upper"
_RESOLV_CONF: Final = "resolv.conf"

_OUTPUT_OPTIONS: Final = "size=1m,nr_inodes=16,mode=0700"
_SHIFTED: Final = "set params.user_namespace to 'off', or use a file system that can show other owners"


def mount_command(spec: ChrootSpec, target: str, *, image: bool) -> tuple[str, ...]:
    """The command that mounts the disk; ``image`` says that it is a file and needs a loop device.

    Without mount's helper programs (-i): they would outlive it and answer to nobody.
    """
    options = [
        "dev" if spec.devices else "nodev",
        "suid" if spec.suid else "nosuid",
        "rw" if spec.source_is_written else "ro",
        *(["loop"] if image else []),
    ]
    return ("mount", "-i", "--make-private", "-o", ",".join(options), "--", spec.disk or "", target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Who owns the files as seen inside: ``fd`` is a user namespace, None for the node's own; ``first`` its uid 0."""

    fd: int | None = None
    first: int = 0


@contextmanager
def owners_of(held: hv.Held | None, uids: range | None) -> Iterator[Owners]:
    """The owners that the held user namespace makes of them, where there is one."""
    if held is None or uids is None:
        yield Owners()
        return
    fd = os.open(f"/proc/{held.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Owners(fd=fd, first=uids.start)
    finally:
        os.close(fd)


def mount_root(spec: ChrootSpec, job: hv.Job, owners: Owners) -> Path:
    """Mount its root with everything that is shown in it, and give the mount point.

    The ledger has to have it, and the disk has to be claimed. Raises `HvError` with what is wrong.
    """
    root = _place(job, ROOT)
    if spec.overlay == "none":
        _mount_source(spec, job, root, owners)
    else:
        lower = _place(job, _LOWER)
        _mount_source(spec, job, lower, owners)
        _mount_overlay(spec, job, lower, root, owners)
    for bind in spec.binds:
        _show(job, root, bind, owners)
    if spec.node_resolv_conf:
        _show_resolv_conf(job, root, owners)
    return root


def _place(job: hv.Job, name: str) -> Path:
    place = job.dir / name
    place.mkdir(mode=0o700, exist_ok=True)
    return place


@contextmanager
def _told(job: hv.Job, what: str, todo: str) -> Iterator[None]:
    """Say of a failing system call what it was for."""
    try:
        yield
    except OSError as error:
        place = f" for {error.filename!r}" if error.filename else ""
        raise hv.OperationError(f"{job.name}: {what}, got {error.strerror}{place}; {todo}") from error


def _mount_source(spec: ChrootSpec, job: hv.Job, target: Path, owners: Owners) -> None:
    if spec.disk is not None:
        _mount_disk(spec, spec.disk, job, target)
    source = spec.directory if spec.disk is None else str(target)
    if source is None or (spec.disk is not None and owners.fd is None):
        return
    # Of a disk that is mounted already: the same once more, over it, with other owners.
    todo = "see whether it can be mounted" if owners.fd is None else _SHIFTED
    allowed = Allowed(write=spec.source_is_written, suid=spec.suid, devices=spec.devices)
    with (
        _told(job, f"{spec.source} cannot be shown as its root", todo),
        cloned_tree(source, allowed, users_fd=owners.fd) as tree,
        _opened(target) as place,
    ):
        attach(tree, place)
    if spec.disk is None:
        claim_mount(source, str(target))


def _mount_disk(spec: ChrootSpec, path: str, job: hv.Job, target: Path) -> None:
    disk = identify_disk(path)
    command = mount_command(spec, str(target), image=not disk.block_device)
    left = job.deadline.left()
    # In its group, for what comes after it: the kernel's quiet point, which the first to enter waits for, is then over.
    group = job.live.group
    ended, said = run_tool(command, life=job.dir / LIFE_LOCK, status=job.dir / STATUS, deadline_s=left, group=group)
    if ended is None:
        todo = f"see whether {path!r} can be read at all"
        raise hv.DeadlineError(subject=job.name, waiting_for=f"mount of {path!r}", waited_s=left, todo=todo)
    if ended.code != 0:
        how = f"disk {path!r} cannot be mounted, mount {ended}"
        raise hv.LaunchError(name=job.name, how=how, output=said, argv=command)


def _mount_overlay(spec: ChrootSpec, job: hv.Job, lower: Path, root: Path, owners: Owners) -> None:
    upper = _place(job, _UPPER)
    what = f"changes cannot be kept in {spec.overlay_directory or 'memory'!r}"
    with _told(job, what, "see whether overlayfs can use that file system"):
        if spec.overlay_directory is None:
            mount_tmpfs(str(upper), f"size={spec.overlay_mib}m,mode=0755", programs=True)
            for name in ("changes", "work"):
                (upper / name).mkdir(mode=0o755)
                os.chown(upper / name, owners.first, owners.first)
        else:
            for name in ("changes", "work"):
                os.makedirs(os.path.join(spec.overlay_directory, name), mode=0o755, exist_ok=True)
            with (
                cloned_tree(spec.overlay_directory, Allowed(), users_fd=owners.fd) as tree,
                _opened(upper) as place,
            ):
                attach(tree, place)
            claim_mount(spec.overlay_directory, str(upper))
        with (
            _opened(lower) as low,
            _opened(upper / "changes") as changes,
            _opened(upper / "work") as work,
            as_owner(owners.first),
        ):
            allowed = Allowed(suid=spec.suid, devices=spec.devices)
            mount_overlay(str(root), allowed, lower=low, upper=changes, work=work)


def _show(job: hv.Job, root: Path, bind: Bind, owners: Owners) -> None:
    what = f"{bind.source!r} cannot be shown at {bind.target!r}"
    todo = "what is on the way there has to be a directory and no link, and there when its root is read-only"
    with (
        _told(job, what, todo),
        cloned_tree(bind.source, Allowed(write=bind.writable), users_fd=owners.fd) as tree,
        mount_point(root, bind.target, directory=_is_directory(tree), owner=owners.first) as place,
    ):
        attach(tree, place)


def _show_resolv_conf(job: hv.Job, root: Path, owners: Owners) -> None:
    copy = job.dir / _RESOLV_CONF
    copy.write_bytes(_node_resolv_conf())
    copy.chmod(0o644)
    # With the node's owner, whatever owners the rest has: nobody inside may change it.
    what, todo = "the node's resolv.conf cannot be shown", "make /etc/resolv.conf in its root a file and no link"
    with (
        _told(job, what, todo),
        cloned_tree(str(copy), Allowed(write=False)) as tree,
        mount_point(root, "/etc/resolv.conf", directory=False, owner=owners.first) as place,
    ):
        attach(tree, place)


def _node_resolv_conf() -> bytes:
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except FileNotFoundError:
        return b""


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def mount_output(job: hv.Job) -> Path:
    """A file for the output of the scripts and of what they leave running, that can grow to 1 MiB and no further.

    Nobody reads along once the start is done, so the file system has to set the limit. Raises `OperationError`.
    """
    directory = _place(job, OUTPUT)
    with _told(job, f"no tmpfs for its output at {directory}", "check the kernel"):
        mount_tmpfs(str(directory), _OUTPUT_OPTIONS, programs=False)
    return directory / LOG_FILE
