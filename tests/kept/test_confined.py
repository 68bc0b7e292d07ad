"""How whatever runs is confined, read from /proc by the test itself: nothing that hvcore says of it is believed."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import kept_proc as proc
import pytest
from kept_node import Kept, write_guest

pytestmark = pytest.mark.live

CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT AUDIT_WRITE SETFCAP
CHROOT_CAPABILITIES: Final = 0xA00405FB
SYSTEM: Final = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "dev"}


def found(kept: Kept, name: str) -> int:
    """The one process of that name that was launched for the instance, in its innermost pid namespace."""
    ours, give_up = os.readlink("/proc/self/ns/pid"), time.monotonic() + 60
    while time.monotonic() < give_up:  # a script may end before what it has started is executed
        pids = [pid for pid, said in kept.launched().items() if said.startswith(name)]
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one has exited since
            if pids := [pid for pid in pids if os.readlink(f"/proc/{pid}/ns/pid") != ours]:
                (pid,) = pids
                return pid
    raise AssertionError(f"no {name} among {kept.launched()}")


def shared(pid: int) -> set[str]:
    """The kinds of namespaces that the process has in common with us."""
    ours, theirs = proc.namespaces(), proc.namespaces(pid)
    return {kind for kind, one in theirs.items() if one == ours[kind]} - {"cgroup"}


def directories(pid: int) -> dict[int, str]:
    """Its open descriptors that are directories."""
    modes = {fd: os.stat(f"/proc/{pid}/fd/{fd}").st_mode for fd in proc.descriptors(pid)}
    return {fd: target for fd, target in proc.descriptors(pid).items() if stat.S_ISDIR(modes[fd])}


def files(pid: int, kept: Kept) -> set[str]:
    """The files of the node that it has open, but for those in its instance's directory.

    What is anonymous (pipes, sockets, memory) has no path. What is in the directory is known by its inode: seen from
    another mount namespace, its path is another.
    """
    own = {(found.st_dev, found.st_ino) for found in map(os.lstat, [*kept.dir.iterdir(), *kept.dir.glob("output/*")])}
    opened = {target: os.stat(f"/proc/{pid}/fd/{fd}") for fd, target in proc.descriptors(pid).items()}
    return {
        target
        for target, found in opened.items()
        if target.startswith("/")
        and "memfd:" not in target
        and (found.st_dev, found.st_ino) not in own
        and found.st_rdev != os.stat(os.devnull).st_rdev
    }


def assert_is_unprivileged(pid: int, uids: range) -> int:
    """Every thread has one uid and gid, of those, and nothing that root has; the uid."""
    seen = set()
    for thread in proc.threads(pid):
        (uid,) = set(thread["Uid"].split())
        assert set(thread["Gid"].split()) == {uid}
        assert thread["Groups"] == ""
        assert {name: int(thread[name], 16) for name in CAPABILITIES} == dict.fromkeys(CAPABILITIES, 0)
        assert (thread["NoNewPrivs"], thread["Seccomp"]) == ("1", "2")
        seen.add(int(uid))
    (only,) = seen
    assert only in uids
    return only


@pytest.fixture(autouse=True)
def groups() -> Iterator[None]:
    """Whoever starts it belongs to groups, and what is confined must not."""
    before = os.getgroups()
    if os.geteuid() == 0:
        os.setgroups([*before, 4, 5])
    yield
    if os.geteuid() == 0:
        os.setgroups(before)


@pytest.fixture
def neighbour(kept: Kept) -> Kept:
    """The same node with another guest on it, which nothing of ours may see anything of."""
    (kept.root / "neighbour").mkdir()
    other = kept.kvm(name=f"{kept.name}-2", disk=write_guest(kept.root / "neighbour/disk.img"))
    kept.start(other)
    return kept


def test_a_guest_is_unprivileged_and_sees_only_its_own_files(neighbour: Kept) -> None:
    kept = neighbour
    kept.start(kept.full_kvm())
    qemu = kept.pid()
    uid = assert_is_unprivileged(qemu, kept.uids)
    assert [pid for pid, name in proc.running(range(uid, uid + 1)).items() if name.startswith("qemu")] == [qemu]
    assert shared(qemu) == {"user"}

    root = Path(f"/proc/{qemu}/root")
    assert set(os.listdir(root)) <= SYSTEM | {"guest", "tmp"}
    assert os.stat(root / "guest").st_ino == os.stat(kept.dir / "guest").st_ino
    assert os.stat(kept.dir / "guest").st_uid == uid
    assert [path for path in ("run", "proc", "home", "root", "var") if (root / path).exists()] == []
    assert os.listdir(root / "etc") in ([], ["ld.so.cache"])
    writable = {point for point, options, _ in proc.mounts(qemu) if "rw" in options.split(",")}
    assert {point for point in writable if not point.startswith("/dev")} <= {"/", "/guest"}
    devices = {"console", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty"}
    assert set(os.listdir(root / "dev")) <= devices | {"core", "urandom", "zero"}

    assert directories(qemu) == {}
    allowed = (f"{kept.dir}/", "/dev/null", "/dev/urandom", kept.disk, "/guest/", "/run/hvcore-uids/")
    assert [path for path in files(qemu, kept) if not path.startswith(allowed)] == []


def test_its_tpm_is_unprivileged_and_has_another_uid(neighbour: Kept) -> None:
    kept = neighbour
    kept.start(kept.full_kvm())
    swtpm = found(kept, "swtpm")
    uid = assert_is_unprivileged(swtpm, kept.uids)
    assert uid != os.stat(f"/proc/{kept.pid()}").st_uid
    assert shared(swtpm) == {"user"}
    assert proc.namespaces(swtpm)["net"] != proc.namespaces(kept.pid())["net"]
    root = Path(f"/proc/{swtpm}/root")
    assert set(os.listdir(root)) <= SYSTEM | {"state", "tmp"}
    assert os.stat(root / "state").st_ino == kept.tpm.stat().st_ino
    writable = {point for point, options, _ in proc.mounts(swtpm) if "rw" in options.split(",")}
    assert {point for point in writable if not point.startswith("/dev")} <= {"/", "/state"}
    assert directories(swtpm) == {}
    allowed = (f"{kept.dir}/tpm.", "/dev/null", "/dev/urandom", f"{kept.tpm}/", "/state/", "/run/hvcore-uids/")
    assert [path for path in files(swtpm, kept) if not path.startswith(allowed)] == []


def test_a_guest_of_the_callers_own_uid_has_nothing_of_roots(kept: Kept) -> None:
    kept.start(kept.kvm(confinement="user"))
    qemu = kept.pid()
    for thread in proc.threads(qemu):
        assert {name: int(thread[name], 16) for name in CAPABILITIES} == dict.fromkeys(CAPABILITIES, 0)
        assert (thread["NoNewPrivs"], thread["Seccomp"]) == ("1", "2")
    assert shared(qemu) == set()
    assert set(os.listdir(f"/proc/{qemu}/root")) <= SYSTEM | {"guest", "tmp"}
    assert directories(qemu) == {}


def test_without_confinement_only_what_is_passed_is_open(kept: Kept) -> None:
    kept.start(kept.kvm(confinement="off"))
    qemu = kept.pid()
    assert shared(qemu) == {"ipc", "mnt", "net", "pid", "user", "uts"}
    assert set(directories(qemu).values()) <= {str(kept.dir / "guest")}
    allowed = (f"{kept.dir}/", "/dev/null", "/dev/urandom", kept.disk)
    assert [path for path in files(qemu, kept) if not path.startswith(allowed)] == []


def test_no_process_of_a_chroot_is_root_outside(neighbour: Kept) -> None:
    kept = neighbour
    kept.start(kept.chroot(kept.image(), network="none"))
    init = kept.pid()
    sleep = found(kept, "sleep")
    uid = proc.status(init)["Uid"].split()[0]
    assert int(uid) >= 1 << 16
    for pid in (init, sleep):
        for thread in proc.threads(pid):
            assert set(thread["Uid"].split()) == {uid}
            assert set(thread["Gid"].split()) == {uid}
            assert thread["Groups"] in ("", uid)
            assert [name for name in CAPABILITIES if int(thread[name], 16) & ~CHROOT_CAPABILITIES] == []
            assert (thread["NoNewPrivs"], thread["Seccomp"]) == ("1", "2")
        assert [Path(f"/proc/{pid}/{kind}_map").read_text().split() for kind in ("uid", "gid")] == 2 * [
            ["0", uid, "65536"]
        ]
        assert shared(pid) == set()
        assert directories(pid) == {}
    assert proc.namespaces(sleep) == proc.namespaces(init)
    root = Path(f"/proc/{sleep}/root")
    assert set(os.listdir(root)) >= {kept.name, "ganeti-chroot", "daemon"}
    assert list(root.glob("run/*")) == list(root.glob("tmp/*")) == []
    own = ("/", "/dev", "/dev/", "/proc")
    assert [point for point, _, _ in proc.mounts(sleep) if point not in own and not point.startswith(own[2:])] == []
    allowed = ("/dev/null", f"{kept.dir}/")
    assert [path for path in files(init, kept) | files(sleep, kept) if not path.startswith(allowed)] == []
    assert Path(f"/proc/{sleep}/net/dev").read_text().count(":") == 1  # loopback alone


def test_in_a_chroot_with_the_nodes_network_root_has_few_capabilities(kept: Kept) -> None:
    kept.start(kept.chroot(kept.image()))
    sleep = found(kept, "sleep")
    for thread in proc.threads(sleep):
        assert [name for name in CAPABILITIES if int(thread[name], 16) & ~CHROOT_CAPABILITIES] == []
        assert (thread["NoNewPrivs"], thread["Seccomp"]) == ("1", "2")
    assert shared(sleep) == {"net", "user"}
    assert directories(sleep) == {}
