"""A node of the test's own, instances of each driver on it, and what is left of them.

Only what host applications use of hvcore is used here: see `test_only_public.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import kept_proc as proc

import hvcore

# Beside the pools of other tests and of this machine; each node of a test has 20 of them.
_UIDS: Final = itertools.count(1_870_100_000 + os.getpid() % 99 * 100_000, 20)

# A guest that writes "kept" to COM1 and then halts; it powers off when its power button is pressed.
GUEST: Final = bytes.fromhex(
    "fa31c08ed88ed0bc007cfcfbba0206b80001efbe457cac84c0741288c4bafd03eca82074fbbaf80388e0eeebe990f4ba0006edf6c401740bb800"
    "01efba0406b80120efebe96b6570740d0a"
)
DISK_BYTES: Final = 1 << 20

BUSYBOX: Final = "/bin/busybox"
SCRIPT: Final = """\
    #!/bin/sh
    : > /dev/null  # the shell needs one, and this root has none
    case $1 in
      start) sleep 1000 & echo $! > /daemon ;;
      stop) kill -9 $(cat /daemon) ;;
    esac
"""
FAILS: Final = "#!/bin/sh\n: > /dev/null\n[ $1 = stop ] && exit 0\nsleep 1000 &\nexit 3\n"

_OUR_NETWORK: Final = "/proc/thread-self/ns/net"
_SHARED_NETWORK: Final = os.readlink(_OUR_NETWORK)
_LOOKED_AT: Final = ("os.", "fcntl.", "socket.", "subprocess.", "shutil.")

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWNS = 0x10000000, 0x40000000, 0x00020000  # linux/sched.h
MS_PRIVATE, MS_REC = 1 << 18, 1 << 14  # linux/mount.h


def write_guest(path: Path) -> str:
    """A disk image with the guest."""
    path.write_bytes(GUEST.ljust(510, b"\0") + b"\x55\xaa")
    os.truncate(path, DISK_BYTES)
    return str(path)


def write_tree(tree: Path, mark: str, script: str) -> Path:
    """A root file system of busybox, with a file called ``mark`` at its top."""
    for directory in ("bin", "dev", "proc", "tmp", "root", "etc"):
        (tree / directory).mkdir(parents=True)
    shutil.copy2(BUSYBOX, tree / "bin/busybox")
    for applet in ("cat", "echo", "kill", "sh", "sleep"):
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / mark).touch()
    (tree / "ganeti-chroot").write_text(textwrap.dedent(script))
    (tree / "ganeti-chroot").chmod(0o755)
    return tree


@dataclass
class Kept:
    """One node: a run directory, a range of uids, and instances with a name that is unique on this machine."""

    root: Path
    name: str = field(default_factory=lambda: f"kept-{uuid.uuid4().hex[:12]}")
    uids: range = field(default_factory=lambda: range(first := next(_UIDS), first + 20))
    links: set[str] = field(default_factory=lambda: set(links()))

    def __post_init__(self) -> None:
        self.run_dir = self.root / "run"
        self.node = hvcore.Node(self.run_dir, uid_pool=self.uids)

    @property
    def dir(self) -> Path:
        """The instance's own directory."""
        return self.run_dir / "instances" / self.name

    def kvm(self, **params: Any) -> hvcore.Instance:
        """A guest of 32 MiB with one disk."""
        name = params.pop("name", self.name)
        path = self.root / f"{self.name}.img"
        disk = params.pop("disk", None) or str(path)
        if not path.exists():
            write_guest(path)
        params = {"kvm_flag": "disabled", "memory_balloon": False, "virtio_rng": False, **params}
        return hvcore.Instance(name=name, driver="kvm", memory_mib=32, disks=(hvcore.Disk(path=disk),), params=params)

    def full_kvm(self, **params: Any) -> hvcore.Instance:
        """A guest with everything that a guest can hold today: uid, disk, serial console, VNC by a link, TPM."""
        self.tpm.mkdir(mode=0o700, exist_ok=True)
        tpm = {"tpm_version": "2.0", "tpm_state_path": str(self.tpm)}
        return self.kvm(vnc_bind_address=str(self.vnc), **tpm, **params)

    @property
    def disk(self) -> str:
        """The guest's disk."""
        return str(self.root / f"{self.name}.img")

    @property
    def tpm(self) -> Path:
        """Where the TPM's state is kept from one start to the next."""
        return self.root / "tpm"

    @property
    def vnc(self) -> Path:
        """The path of the display's socket, as the instance requests it."""
        return self.root / "vnc"

    def chroot(self, source: str | Path, **params: Any) -> hvcore.Instance:
        """An instance with a root on an image or in a directory; with its own interfaces if it gets a bridge."""
        bridge, name = params.pop("bridge", None), params.pop("name", self.name)
        disks: tuple[hvcore.Disk, ...] = ()
        if os.path.isdir(source):
            params["root_directory"] = str(source)
        else:
            disks = (hvcore.Disk(path=str(source)),)
        nics: tuple[hvcore.Nic, ...] = ()
        if bridge is not None:
            nics = (hvcore.Nic(mode="bridged", link=bridge),)
            params |= {"network": "veth", "network_addresses": ["10.77.0.2/24"]}
        return hvcore.Instance(name=name, driver="chroot", disks=disks, nics=nics, params=params)

    def image(self, script: str = SCRIPT) -> str:
        """A disk image with a root file system, made once."""
        image = self.root / "root.img"
        if not image.exists():
            tree = write_tree(self.root / "tree", self.name, script)
            command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(image), "6M"]
            subprocess.run(command, check=True, capture_output=True)
            shutil.rmtree(tree)
        return str(image)

    def start(self, instance: hvcore.Instance, *, paused: bool = False) -> hvcore.Outcome:
        """Start it, on this node."""
        return self.node.driver(instance.driver).start(instance, paused=paused)

    def pid(self) -> int:
        """The instance's process."""
        pid = self.node.info(self.name).pid
        assert pid is not None
        return pid

    def hv(self, *args: str) -> str:
        """What the command line prints."""
        command = [str(Path(sys.executable).with_name("hv")), "--run-dir", str(self.run_dir), *args]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # What an instance holds, as the node has it.

    def reservations(self) -> set[str]:
        """The keys reserved for the instance: links whose target begins with its name (docs/decisions/0007)."""
        found = (path for path in self.run_dir.rglob("*") if path.is_symlink())
        return {path.name for path in found if os.readlink(path).partition("/")[0] == self.name}

    def groups(self) -> list[str]:
        """Its control groups."""
        folders = (folder for folder, _, _ in os.walk("/sys/fs/cgroup"))  # others' come and go meanwhile
        return [folder for folder in folders if os.path.basename(folder).startswith(self.name)]

    def mounted(self) -> list[str]:
        """Mount points below this node's directories."""
        return [point for point, _, _ in proc.mounts() if point.startswith(f"{self.root}/")]

    def processes(self) -> dict[int, str]:
        """Processes that run as one of our uids, were launched for the instance, have files of ours open, or their root here."""
        found = self.launched()
        for pid in (*proc.using(str(self.root)), *proc.rooted(str(self.root))):
            with contextlib.suppress(OSError):
                found[pid] = proc.status(pid)["Name"]
        return {pid: name for pid, name in found.items() if not proc.ended(pid)}

    def launched(self) -> dict[int, str]:
        """Processes that run as one of our uids, were launched for the instance, or have a root with its mark."""
        found = proc.running(self.uids)
        mark = os.fsencode(f"HVCORE_INSTANCE={self.dir}")
        for pid in proc.pids():
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if mark in environment or os.path.exists(f"/proc/{pid}/root/{self.name}"):
                    found[pid] = proc.status(pid)["Name"]
        return found

    def leftovers(self) -> list[str]:
        """Everything of the instance that is still on the node."""
        found = [f"process {pid} {name}" for pid, name in self.processes().items()]
        found += [f"mount {point}" for point in self.mounted()]
        found += [f"group {path}" for path in self.groups()]
        found += [f"loop {path}" for path in _loops(self.root)]
        if os.readlink(_OUR_NETWORK) != _SHARED_NETWORK:  # in the node's own, others' come and go
            found += [f"interface {name}" for name in links() - self.links]
        found += [f"lock of uid {uid}" for uid in self.uids if proc.flocked(f"/run/hvcore-uids/{uid}")]
        for folder, _, files in os.walk(self.run_dir):
            parts = Path(folder).relative_to(self.run_dir).parts
            found += [f"file {folder}/{name}" for name in files if parts[:1] != ("cache",) and name != ".disks"]
        found += [f"directory {path}" for path in self.run_dir.glob("instances/*")]
        if os.path.lexists(self.vnc):
            found.append(f"link {self.vnc}")
        if self.tpm.exists():
            found += [f"owner of {path}" for path in (self.tpm, *self.tpm.iterdir()) if path.stat().st_uid != 0]
        disk = Path(self.disk)
        found += [f"lock on {disk}"] if disk.exists() and proc.locked(str(disk)) else []
        return found

    def settled(self, deadline_s: float = 60.0) -> list[str]:
        """The leftovers after init has reaped the children of killed processes."""
        give_up = time.monotonic() + deadline_s
        while (left := self.leftovers()) and time.monotonic() < give_up:
            time.sleep(0.02)
        return left


def _loops(root: Path) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith(f"{root}/"):
                yield path.parts[3]


def links() -> set[str]:
    """The network interfaces that we see."""
    found = subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout
    return {link["ifname"] for link in json.loads(found)}


def unshare(flags: int) -> None:
    """Move this process into new namespaces. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def in_plain_chroot() -> bool:
    """Whether our root directory is not a mount point: the kernel makes no user namespaces there, nor does bubblewrap work."""
    return all(point != "/" for point, _, _ in proc.mounts())


def unshare_mounts() -> None:
    """Move this process into a new mount namespace, from which no mount reaches another. Raises OSError.

    In a chroot, the mount that has to be made private is above our root. So leave the root, and return to it. Copies of
    mounts of instances are removed: those of other tests would be kept in use.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    unshare(CLONE_NEWNS)
    inside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chroot("/proc")  # any directory below: a root does not stop a process that is outside of it
    os.fchdir(inside)
    while not os.path.samefile(".", ".."):
        os.chdir("..")
    os.chroot(".")
    if libc.mount(None, b"/", None, ctypes.c_ulong(MS_PRIVATE | MS_REC), None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    os.fchdir(inside)
    os.chroot(".")
    os.close(inside)
    for point, _, _ in reversed(list(proc.mounts())):
        if "/instances/" in point:
            libc.umount2(os.fsencode(point), 2)  # MNT_DETACH


def forked(act: Callable[[], object]) -> Any:
    """The result of the act as plain JSON. It runs in a child process, so it cannot change this one."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            result: object = {"raised": "nothing came back"}
            try:
                result = act()
            except BaseException as error:  # noqa: BLE001 - sent to the parent
                result = {"raised": repr(error)}
            os.write(theirs, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as said:
        data = said.read()
    os.waitpid(child, 0)
    return json.loads(data)


def killed_when(there: Callable[[], bool], act: Callable[[], object]) -> bool:
    """Run ``act`` in a child that kills itself as soon as ``there`` is true; False if that never happened.

    The child checks ``there`` at its own audit events (PEP 578): most files, locks, moves and starts cause one.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        looking = False

        def look(event: str, args: object) -> None:
            nonlocal looking
            if looking or not event.startswith(_LOOKED_AT):
                return
            looking = True  # what we do here are events, too
            with contextlib.suppress(OSError):
                if there():
                    os.kill(os.getpid(), signal.SIGKILL)
            looking = False

        try:
            sys.addaudithook(look)
            act()
        except BaseException:  # noqa: BLE001 - printed; the caller sees that the child was not killed
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
