"""Instances as an earlier commit made them, set up again: files, reservations, processes, record.

The files of ``made_by_*`` list what that commit launched and wrote; its ``make.py.txt`` describes them. This module does
the same again: it starts each program in its own session, with its life lock, its marks in the environment, its status
file and the same descriptor numbers, and then writes the record. The parent of the programs has exited.

Two things differ. The files on the image of a chroot with its own users belong to those users, while that commit showed
the image with shifted owners. And a chroot's life lock is open for reading by its own path, while that commit opened it
through a read-only mount.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import kept_proc as proc
from kept_node import SCRIPT, Kept, write_guest, write_tree
from kept_qmp import Qmp, connected

FOLDER: Final = Path(__file__).parents[1] / "made_by_03d5383"
RANGE: Final = 2_000_027_648  # uids of a chroot's users: a multiple of 65536, and where no pool is
_NAMED: Final = re.compile(r"@([A-Za-z]+(?::[a-z0-9]*)?)@")
_FLOCK: Final = "hh4xqqi4x"  # struct flock of Linux on 64-bit
_GREETING: Final = b'{"execute": "qmp_capabilities"}\n'


class Before:
    """One instance of that commit on the test's node, not set up yet."""

    def __init__(self, kept: Kept, what: str) -> None:
        self.kept = kept
        self.made = json.loads((FOLDER / f"{what}.json").read_text(encoding="utf-8"))
        self.records: list[dict[str, Any]] = self.made["records"]
        self.running: int = self.made["started"] - 1
        group = f"{kept.name}.{hashlib.sha256(os.fsencode(os.path.realpath(kept.run_dir))).hexdigest()[:8]}"
        self.values: dict[str, Any] = {"NAME": kept.name, "group": group, "range": RANGE, "boot": boot()}
        self.values |= {f"uid:{index}": uid for index, uid in enumerate(kept.uids)}
        self._open: list[int] = []
        self._uid_locks: dict[str, int] = {}
        self._holder: subprocess.Popen[str] | None = None
        self._pair: list[socket.socket] = []
        self.kept.dir.mkdir(parents=True, mode=0o700)
        for folder in (kept.run_dir, kept.run_dir / "instances"):
            folder.chmod(0o700)

    # What is another each time.

    def value(self, text: Any) -> Any:
        """The same with what the names mean here: a number where there is nothing beside the name."""
        if isinstance(text, dict):
            return {self.value(key): self.value(one) for key, one in text.items()}
        if isinstance(text, list):
            return [self.value(one) for one in text]
        if not isinstance(text, str):
            return text
        whole = _NAMED.fullmatch(text)
        return self.values[whole[1]] if whole and whole[1] != "ROOT" else self.text(text)

    def text(self, text: str) -> str:
        """The same in a text, as one."""
        text = text.replace("@ROOT@/disk", self.kept.disk).replace("@ROOT@", str(self.kept.root))
        return _NAMED.sub(lambda found: str(self.values[found[1]]), text)

    # The node.

    def lay_disk(self) -> None:
        """The disk and the directory of the TPM, and what they are called by."""
        if self.records[0]["record"]["driver"] == "chroot":
            tree = write_tree(self.kept.root / "tree", self.kept.name, SCRIPT)
            if any("@range@" in key for key in self.records[-1]["reserved"]):
                for path in (tree, *tree.rglob("*")):
                    os.chown(path, RANGE, RANGE, follow_symlinks=False)
            command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), self.kept.disk, "6M"]
            subprocess.run(command, check=True, capture_output=True)
            shutil.rmtree(tree)
        else:
            write_guest(Path(self.kept.disk))
        self.kept.tpm.mkdir(mode=0o700)
        lock = self.kept.tpm / ".lock"
        lock.touch(0o600)
        self.values |= {"disk": key(self.kept.disk), "lock": key(lock), "tpm": self.kept.tpm.stat().st_ino}

    def reserve(self, number: int) -> None:
        """Make the reservations that existed when that record was written."""
        for place, owner in self.records[number]["reserved"].items():
            path = self.kept.run_dir / self.text(place)
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            path.symlink_to(self.text(owner))

    def make_files(self, listing: Mapping[str, Any]) -> None:
        """Make the files of the instance's directory, except sockets, and its mounts."""
        for name, what in sorted(listing.items()):
            path = self.kept.dir / self.text(name)
            if what["kind"] in ("directory", "mount"):
                path.mkdir(mode=0o700, exist_ok=True)
            elif what["kind"] == "fifo" and not path.exists():
                os.mkfifo(path)
            elif what["kind"] == "file":
                path.touch()
            if what["kind"] == "mount" and not path.is_mount():
                self._mount(path)
            if what["kind"] != "socket":
                uid = self.value(what["uid"])
                os.chown(path, uid, uid)
                os.chmod(path, what["mode"])

    def _mount(self, path: Path) -> None:
        how = ["-i", "--make-private", "-o", "nodev,nosuid,rw,loop", "--", self.kept.disk]
        if path.name == "output":
            how = ["-t", "tmpfs", "-o", "size=1m,nr_inodes=16,mode=0700", "none"]
        subprocess.run(["mount", *how, str(path)], check=True)

    def give_away(self) -> None:
        """The TPM's directory belongs to the uid of its program, where the ledger says so."""
        entries = (entry for record in self.records for entry in record["record"]["ledger"])
        if any(entry["kind"] == "owner" for entry in entries):
            for path in (self.kept.tpm, *self.kept.tpm.iterdir()):
                os.chown(path, self.kept.uids[1], self.kept.uids[1])

    # The processes.

    def launch(self, number: int) -> None:
        """The program of that number, and its files before it."""
        made = self.made["launched"][number]
        self.make_files(made["before"])
        if "events.in" in str(made["before"]):
            fifo = os.open(self.kept.dir / "guest/events.in", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(fifo, b"" if self._open else _GREETING)
            self._open.append(fifo)  # until QEMU has it open, too
        if any("@holder@" in word for word in made["argv"]):
            self._hold()
        life, fds, gate = self._descriptors(made)
        self.values[life] = "{0.st_dev}:{0.st_ino}".format(
            os.stat(self.kept.dir / (f"{life[5:]}.alive" if life[5:] else "alive"))
        )
        environment = {name: self.text(one) for name, one in made["env"].items()}
        status = self.kept.dir / (f"{life[5:]}.status" if life[5:] else "status")
        status.write_bytes(b"\n")
        pid, ticks = spawn([self.text(word) for word in made["argv"]], environment, fds, self._groups())
        self.values |= {f"outer:{number}": pid, f"outerticks:{number}": ticks}
        if gate is not None:
            os.write(gate, b"".join(self.text(word).encode() + b"\0" for word in made["gate"]))
            os.close(gate)
        for fd in fds.values():
            os.close(fd)
        if made["argv"][0] not in ("bwrap", "env"):
            status.write_bytes(b"\n" + json.dumps({"child-pid": pid}).encode() + b"\n")
        self._status, self._number = status, number

    def up(self) -> None:
        """Wait until the program that was launched last has its process, and say which that is."""
        for facts in self._facts():
            if "child-pid" in facts:
                pid = facts["child-pid"]
                self.values |= {f"pid:{self._number}": pid, f"ticks:{self._number}": proc.start_ticks(pid)}
                self.values[f"namespace:{self._number}"] = int(os.readlink(f"/proc/{pid}/ns/pid").strip("pid:[]"))
                return

    def script_ended(self) -> None:
        """Wait until a chroot's script has ended, and with it what launched it."""
        outer = self.values[f"outer:{self._number}"]
        with contextlib.suppress(ProcessLookupError):
            proc.wait_ended(outer)

    def _facts(self) -> Iterator[dict[str, Any]]:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            facts: dict[str, Any] = {}
            for line in self._status.read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    facts |= json.loads(line)
            yield facts
            time.sleep(0.002)
        raise AssertionError(f"{self._status}: {self._status.read_bytes()!r}")

    def _descriptors(self, made: Mapping[str, Any]) -> tuple[str, dict[int, int], int | None]:
        """The name of its life lock, our descriptor for each number that it is to have, and where its gate is opened."""
        fds: dict[int, int] = {}
        gate = None
        life = ""
        for number, what in made["fds"].items():
            if "listen" in what:
                fd = listening(self.kept.dir / what["listen"])
            elif "pair" in what:
                self._pair = self._pair or list(socket.socketpair())
                fd = self._pair.pop().detach()
            elif "gate" in what:
                fd, gate = os.pipe()
            elif "memory" in what:
                fd = os.memfd_create("filter", os.MFD_CLOEXEC)
                os.write(fd, base64.b64decode(what["memory"]))
                os.lseek(fd, 0, os.SEEK_SET)
            else:
                path = self.text(what["open"])
                fd = self._uid_lock(path) if path.startswith("/run/hvcore-uids/") else opened(path, what)
                if path.endswith("alive"):
                    life = f"life:{Path(path).name.removesuffix('alive').rstrip('.')}"
            fds[int(number)] = fd
        return life, fds, gate

    def _uid_lock(self, path: str) -> int:
        """The lock of a uid, which all programs inherit from who took it; the file goes when that one ends."""
        if path not in self._uid_locks:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._uid_locks[path] = opened(path, {"flags": os.O_RDONLY, "flock": True})
        return os.dup(self._uid_locks[path])

    def _hold(self) -> None:
        command = ["unshare", "--user", "sh", "-c", "echo; exec sleep 1000"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        for kind in ("uid", "gid"):
            Path(f"/proc/{self._holder.pid}/{kind}_map").write_text(f"0 {RANGE} 65536\n")
        self.values["holder"] = self._holder.pid

    def _groups(self) -> list[Path]:
        """The control group in each hierarchy, where the ledger has one and the node has those to write to."""
        entries = (entry["kind"] for record in self.records for entry in record["record"]["ledger"])
        if "cgroup" not in entries:
            return []
        groups = [place / "hvcore" / self.values["group"] for place in hierarchies()]
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
        return groups

    def monitor(self) -> Qmp:
        """The monitor of the guest, once it answers."""
        return Qmp(self.kept.dir / "qmp")

    def let_go(self) -> None:
        """Let the guest run, as the end of a start did, and link to its display; returns once it listens to us."""
        with self.monitor() as monitor, connected(self.kept.dir / "serial") as serial:
            monitor.ask("cont")
            assert monitor.ask("query-status")["running"] is True
            said = b""
            while b"kept" not in said:
                said += (more := serial.recv(100))
                assert more, "its console has ended"
        self.link()

    def link(self) -> None:
        """The link to its display, where it has one."""
        if "@ROOT@/vnc" in str(self.records[-1]["record"]["ledger"]):
            self.kept.vnc.symlink_to(self.kept.dir / "guest/vnc.sock")

    # The record.

    def write(self, number: int, **changes: Any) -> None:
        """That record, as that commit wrote it: one line of JSON, one with its checksum."""
        record = {**self.value(self.records[number]["record"]), **changes}
        body = json.dumps(record, separators=(",", ":"), sort_keys=True)
        path = self.kept.dir / "record.json"
        path.write_bytes(f"{body}\ncrc32:{zlib.crc32(body.encode()):08x}\n".encode())
        path.chmod(0o600)

    def close(self) -> None:
        """The one who started it has ended: whatever of ours is still open is closed."""
        while self._open:
            os.close(self._open.pop())
        while self._pair:
            self._pair.pop().close()
        while self._uid_locks:
            path, fd = self._uid_locks.popitem()
            os.unlink(path)
            os.close(fd)
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()
            self._holder = None


def hierarchies() -> list[Path]:
    """Where that commit made control groups on this node: in version 2, and in those of version 1 for what it lacks."""
    unified, old = None, dict[str, Path]()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        place, (kind, _, options) = Path(before.split(" ")[4]), after.split(" ")
        if kind == "cgroup2" and os.access(place, os.W_OK):
            unified = unified or place
        elif kind == "cgroup" and os.access(place, os.W_OK):
            old |= dict.fromkeys(options.split(","), place)
    there = (unified / "cgroup.controllers").read_text().split() if unified else []
    wanted = ("memory", "cpu", "pids") if unified else ("memory", "cpu", "pids", "cpuacct", "freezer")
    found = [old[name] for name in wanted if name in old and name not in there]
    return list(dict.fromkeys(([unified] if unified else []) + found))


def boot() -> str:
    """Which boot of the node this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def key(path: str | Path) -> str:
    """What a file is reserved by."""
    found = os.stat(path)
    return f"file-{os.major(found.st_dev)}-{os.minor(found.st_dev)}-{found.st_ino}"


def listening(path: Path) -> int:
    """A listening unix socket at the path."""
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            os.fchmod(made.fileno(), 0o600)
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
            made.listen(8)
            return os.dup(made.fileno())
    finally:
        os.close(directory)


def opened(path: str, what: Mapping[str, Any]) -> int:
    """The file, locked as it was."""
    create = 0 if what["flags"] & (os.O_PATH | os.O_DIRECTORY) else os.O_CREAT
    fd = os.open(path, what["flags"] | create | os.O_CLOEXEC, 0o600)
    if what.get("flock"):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for byte in what.get("bytes", ()):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
    return fd


def spawn(
    argv: list[str], environment: Mapping[str, str], fds: Mapping[int, int], groups: list[Path]
) -> tuple[int, int]:
    """Start the program in its own session and in these control groups, with these descriptors; its pid and start time.

    Its parent has exited. It enters the groups itself, and executes the program when its start time is known: a short
    script would have ended before.
    """
    said, saying = os.pipe()
    wait, go = os.pipe()
    starter = os.fork()
    if starter == 0:
        try:
            if (pid := os.fork()) != 0:
                os.write(saying, struct.pack("i", pid))
                os._exit(0)
            for group in groups:
                (group / "cgroup.procs").write_text("0")  # the writer
            os.read(wait, 1)
            _become(argv, environment, fds)
        finally:
            os._exit(127)
    os.close(saying)
    with open(said, "rb") as pipe:
        (pid,) = struct.unpack("i", pipe.read(4))
    os.waitpid(starter, 0)
    ticks = proc.start_ticks(pid)
    os.write(go, b"x")
    os.close(wait)
    os.close(go)
    return int(pid), ticks


def _become(argv: list[str], environment: Mapping[str, str], fds: Mapping[int, int]) -> None:
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for number, fd in fds.items()}
    copies[0] = fcntl.fcntl(os.open(os.devnull, os.O_RDONLY), fcntl.F_DUPFD_CLOEXEC, 200)
    copies[2] = copies[1]
    for number, fd in copies.items():
        os.dup2(fd, number)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.chdir("/")
    os.execvpe(argv[0], argv, {"PATH": os.environ["PATH"], **environment})
