"""Injected faults of processes, starts, state files and callers: each has one right behaviour."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from world import PATIENCE_S, World

import hvcore
import hvcore.plugin
from hv_kvm.qemu.boot_sector import DISK_BYTES, Row, assemble
from hv_kvm.qemu.probe import probe
from hvcore import State
from hvcore.state.store import Store

pytestmark = pytest.mark.live
QEMU = "/usr/bin/qemu-system-x86_64"


# ------------------------------------------------------------------------------------------- identity and liveness


def at_pid(pid: int) -> subprocess.Popen[bytes]:
    """A harmless process with exactly that number."""
    for _ in range(200):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        found = subprocess.Popen(["sleep", "60"])
        if found.pid == pid:
            return found
        found.kill()
        found.wait()
    pytest.skip(f"pid {pid} could not be had again")


@pytest.fixture
def strangers() -> Iterator[list[subprocess.Popen[bytes]]]:
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        process.kill()
        process.wait()


@pytest.mark.parametrize("force", [False, True])
def test_a_stranger_with_the_pid_of_a_dead_guest_is_left_alone(
    root: None, world: World, strangers: list[subprocess.Popen[bytes]], *, force: bool
) -> None:
    world.start()
    pid = world.pid()
    world.kill()
    strangers.append(at_pid(pid))
    assert world.info().state is State.CRASHED
    assert world.node.stop("web1", force=force).stopped_by == "gone"
    assert strangers[0].poll() is None
    assert world.leftovers() == []


def test_a_stale_pidfile_and_sockets_do_not_keep_it_from_starting(world: World) -> None:
    world.start()
    world.kill()
    assert (world.dir() / "guest/qemu.pid").exists()
    assert (world.dir() / "qmp").exists()
    assert world.start().changed


def test_after_a_reboot_of_the_node_everything_is_cleaned_without_a_signal(
    world: World, strangers: list[subprocess.Popen[bytes]]
) -> None:
    world.start()
    world.kill()
    strangers.append(subprocess.Popen(["sleep", "60"]))
    before = "00000000-0000-4000-8000-000000000000"
    there = hvcore.plugin.identify(strangers[0].pid)
    assert there is not None
    there = replace(there, boot_id=before)
    world.save(replace(world.record(), boot_id=before, process=there, monitor=there))
    info = world.info()
    assert (info.state, info.reason) == (State.CRASHED, "the node was restarted")
    found = world.node.recover()
    assert [(one.name, one.what) for one in found] == [("web1", "cleaned")]
    assert strangers[0].poll() is None
    assert world.leftovers() == []


@pytest.fixture
def freezing(loop: Callable[[str], str], world: World) -> Iterator[Path]:
    """A mounted ext4 file system to be frozen. Not below pytest's folders: a program that removes those would hang too."""
    with tempfile.TemporaryDirectory(prefix="hvcore-") as folder:
        image, place = world.root / "backing.img", Path(folder, "mounted")
        with image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        place.mkdir()
        subprocess.run(["mount", loop(str(image)), place], check=True)
        # If the test is killed, the file system is not frozen for long.
        thaw = ["sh", "-c", 'sleep 40; fsfreeze --unfreeze "$1"', "sh", str(place)]
        guard = subprocess.Popen(thaw, start_new_session=True)
        try:
            yield place
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", place], check=False, capture_output=True)
            os.killpg(guard.pid, signal.SIGKILL)
            guard.wait()
            for info in world.node.instances():
                world.node.stop(info.name, force=True)
            subprocess.run(["umount", place], check=True)


def writing_sector() -> bytes:
    """A guest that says hello and then writes its second sector again and again, by the BIOS."""
    rows: list[Row] = [
        ("", "31 c0", "xor ax, ax"),
        ("", "8e d8", "mov ds, ax"),
        ("", "8e c0", "mov es, ax"),
        ("", "fb", "sti"),
        ("", "ba f8 03", "mov dx, 0x3f8"),
        ("", "b0 21", "mov al, '!'"),
        ("", "ee", "out dx, al"),
        ("again", "b8 01 03", "mov ax, 0x301    ; write one sector"),
        ("", "bb 00 7c", "mov bx, 0x7c00"),
        ("", "b9 02 00", "mov cx, 2"),
        ("", "ba 80 00", "mov dx, 0x80"),
        ("", "cd 13", "int 0x13"),
        ("", "f4", "hlt"),
        ("", "eb >again", "jmp again"),
    ]
    return assemble(rows)


def start_writing(world: World, disk: str) -> None:
    """Start a guest that writes to the disk, and wait until just before its first write."""
    Path(disk).write_bytes(writing_sector().ljust(DISK_BYTES, b"\0"))
    world.start(disks=[disk], paused=True)
    with world.console() as console:
        world.node.resume("web1")
        console.until(b"!")


def wait_until(true: Callable[[], object], deadline_s: float = 60.0) -> None:
    """For changes without an event from the kernel."""
    give_up = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def hangs(pid: int) -> bool:
    """A thread of the process is in uninterruptible sleep."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return "D" in states


def test_a_killed_qemu_that_hangs_keeps_all_its_resources_until_it_exits(world: World, freezing: Path) -> None:
    disk, place = str(freezing / "disk.img"), freezing
    start_writing(world, disk)
    pid, uid = world.pid(), world.info().details.get("uid")
    subprocess.run(["fsfreeze", "--freeze", place], check=True)
    wait_until(lambda: hangs(pid))
    with pytest.raises(
        hvcore.OperationError, match=rf"web1: no end of pid {pid} after SIGKILL within .* stays reserved"
    ):
        world.node.stop("web1", force=True, deadline_s=5)
    info = world.info()
    assert (info.state, info.pid) == (State.STOPPING, pid)
    assert "hangs in the kernel" in str(info.reason)
    for refused in ("web1", "web2"):
        with pytest.raises(hvcore.HvError):
            world.start(refused, disks=[disk], deadline_s=5)
    assert os.readlink(world.run_dir / f"reservations/uid/{uid}") == "web1/uid"
    assert len(os.listdir(world.run_dir / "reservations/disk")) == 1
    subprocess.run(["fsfreeze", "--unfreeze", place], check=True)
    assert world.node.stop("web1", deadline_s=60).changed
    assert [line for line in world.leftovers() if "loop" not in line] == []
    assert world.start(disks=[disk]).changed


def test_a_full_disk_pauses_the_guest_with_the_reason_and_room_lets_it_go_on(root: None, world: World) -> None:
    place = small_tmpfs(world)
    disk, ballast = place / "disk.img", place / "ballast"
    # Sector 9 is in a separate page that has no room yet.
    sector = writing_sector().replace(b"\xb9\x02\x00", b"\xb9\x09\x00")
    disk.write_bytes(sector)
    os.truncate(disk, DISK_BYTES)
    fill(ballast)
    world.start(disks=[str(disk)])
    wait_until(lambda: world.info().state is State.PAUSED)
    assert world.info().reason == "paused by a disk error: disk0-dev: no space" or "no space" in str(
        world.info().reason
    )
    ballast.unlink()
    assert world.node.resume("web1").changed
    wait_until(lambda: disk.read_bytes()[4096:4608] == sector)
    assert world.info().state is State.RUNNING


def test_a_run_directory_wiped_under_a_guest_does_not_let_it_start_twice(world: World) -> None:
    disk = world.disk()
    world.start(disks=[disk])
    record = world.record()
    assert record.process is not None
    pid = record.process.pid
    try:
        shutil.rmtree(world.run_dir)
        with pytest.raises(hvcore.HvError):
            world.start(disks=[disk])
        with pytest.raises(hvcore.HvError):
            world.start("web2", disks=[disk])
        assert hvcore.plugin.alive(record.process)
    finally:
        os.kill(pid, signal.SIGKILL)
        world.wait_ended(record)
    assert world.leftovers() == []


@pytest.mark.parametrize("level", [{}, {"confinement": "off"}], ids=["default", "off"])
def test_a_guest_that_runs_without_state_is_refused_as_often_as_it_is_started(
    world: World, level: dict[str, Any]
) -> None:
    """The guest has no disk, so only its processes can stop a second one."""
    world.start("web2", disks=[], **level)  # after a proper stop it can be started again
    world.node.stop("web2", force=True)
    world.start(disks=[], **level)
    record = world.record()
    assert record.process is not None
    try:
        shutil.rmtree(world.run_dir)
        for _ in range(3):
            with pytest.raises(hvcore.StateError) as caught:
                world.start(disks=[], **level)
            assert re.search(rf"still runs as pid .*\b{record.process.pid}\b", "".join(caught.value.__notes__))
            world.start("web2", disks=[], **level)
            world.node.stop("web2", force=True)
    finally:
        os.kill(record.process.pid, signal.SIGKILL)
        world.wait_ended(record)
    world.start(disks=[], **level)


# -------------------------------------------------------------------------------------------------------- start


def fake_qemu(world: World, instead: str) -> str:
    """A program that answers probes like QEMU, and does something else instead of running a guest."""
    folder = world.root / "fake/bin"
    folder.mkdir(parents=True)
    os.chmod(world.root / "fake", 0o755)
    os.chmod(folder, 0o755)
    program = folder / "qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\ncase "$*" in *"-machine none"*) exec {QEMU} "$@";; esac\n{instead}\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("instead", "output"),
    [
        ("echo something is wrong >&2; exit 3", 'exited with 3 after .*: "something is wrong"'),
        # The first process of a pid namespace is spared its own SIGABRT; abort(3) then ends by an illegal instruction.
        ("exec /usr/bin/python3 -c 'import os; os.abort()'", "was killed by SIG(ABRT|SEGV)"),
        ("exec /usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'", "was killed by SIGSEGV"),
        ("exit 0", "exited with 0 after .* without output"),
        ("head -c 300000 /dev/urandom; exit 1", "exited with 1 after"),
    ],
    ids=["message", "abort", "fault", "nothing", "garbage"],
)
def test_a_qemu_that_exits_at_its_start_is_reported_with_its_status_and_output(
    world: World, instead: str, output: str
) -> None:
    with pytest.raises(hvcore.LaunchError, match=f"(?s)^web1: .*{output}") as caught:
        world.start(kvm_path=fake_qemu(world, instead))
    assert len(caught.value.output) <= 4 * 65536
    assert world.node.instances() == []
    assert [line for line in world.leftovers() if "fake" not in line] == []


def test_a_qemu_that_hangs_at_its_start_is_given_up_after_the_deadline(world: World) -> None:
    with pytest.raises(hvcore.OperationError, match=r"(?s)within [12].. s|deadline|no greeting") as caught:
        world.start(kvm_path=fake_qemu(world, "exec sleep 100"), deadline_s=1.5)
    assert "web1" in str(caught.value)
    assert world.leftovers() == []


def test_a_fifo_for_a_kernel_is_refused_instead_of_hanging(world: World) -> None:
    fifo = world.root / "vmlinuz"
    os.mkfifo(fifo, 0o644)
    began = time.monotonic()
    with pytest.raises(hvcore.HvError, match=r"kernel_path|vmlinuz"):
        world.start(kernel_path=str(fifo), deadline_s=120)
    assert time.monotonic() - began < 60  # opening the fifo would wait for ever
    assert world.leftovers() == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file|does not exist"),
        (lambda path: path.mkdir(), "directory|not a file"),
        (lambda path: path.write_text("#!/bin/sh\n"), "executable|executed|permission"),
        (lambda path: (path.write_text("#!/bin/sh\nexit 1\n"), path.chmod(0o755)), "exited with 1"),
        (lambda path: (path.write_bytes(b"\x7fELF garbage"), path.chmod(0o755)), "exec format error|executed"),
    ],
    ids=["missing", "directory", "not executable", "dying", "no program"],
)
def test_a_program_that_is_not_qemu_is_refused_before_anything_is_done(
    world: World, make: Callable[[Path], object], said: str
) -> None:
    path = world.root / "qemu"
    make(path)
    with pytest.raises(hvcore.VerifyError, match=f"(?is)params.kvm_path.*({said})"):
        world.start(kvm_path=str(path))
    assert world.leftovers() == []
    with pytest.raises(hvcore.HvError):
        world.kvm.plan(world.instance(kvm_path=str(path)))


def test_more_memory_than_there_is_is_a_clean_error(world: World) -> None:
    with pytest.raises(hvcore.VerifyError, match="memory and swap that this node has"):
        world.start(memory_mib=64 << 20)
    assert world.leftovers() == []


@pytest.mark.parametrize("what", ["missing", "directory", "fifo"])
def test_a_path_that_is_not_a_disk_is_refused(world: World, what: str) -> None:
    path = world.root / "there"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    with pytest.raises(hvcore.VerifyError, match="disk"):
        world.start(disks=[str(path)])
    assert world.leftovers() == []


def test_an_exception_of_any_kind_in_a_start_undoes_it(world: World) -> None:
    def interrupt(text: str) -> None:
        if "QMP" in text:
            raise KeyboardInterrupt

    node = hvcore.Node(world.run_dir, uid_pool=world.uids, progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        node.driver("kvm").start(world.instance())
    assert world.leftovers() == []
    assert world.start().changed


# --------------------------------------------------------------------------------------------------- state files


def small_tmpfs(world: World, options: str = "size=1m") -> Path:
    place = world.root / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    world.undo.append(lambda: subprocess.run(["umount", place], check=True))
    return place


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_full_run_directory_is_a_clean_error_at_every_fill_level(root: None, world: World) -> None:
    place = small_tmpfs(world, "size=4m")
    node = hvcore.Node(place / "run", uid_pool=world.uids)
    instance = world.instance()
    endings = []
    for free_pages in (0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 512):
        ballast = place / "ballast"
        fill(ballast)
        os.truncate(ballast, max(0, ballast.stat().st_size - free_pages * 4096))
        try:
            node.driver("kvm").start(instance)
            endings.append("started")
            ballast.unlink()
            node.stop("web1", force=True)
        except hvcore.HvError as error:
            endings.append(str(error))
            ballast.unlink()
        assert node.instances() == []
        assert list((place / "run").glob("instances/*")) == []
        assert [line for line in world.leftovers() if "tmpfs" not in line and "/small/run/cache" not in line] == []
    assert "free some space" in endings[0], endings
    assert endings[-1] == "started", endings
    assert not [ending for ending in endings if ending.endswith(" s without output")], endings


def test_a_full_run_directory_is_a_clean_error_of_an_attach(root: None, world: World) -> None:
    place = small_tmpfs(world, "size=4m")
    node = hvcore.Node(place / "run", uid_pool=world.uids)
    node.driver("kvm").start(world.instance(disk_type="scsi-hd", scsi_controller_type="virtio-scsi-pci"))
    world.undo.append(lambda: node.stop("web1", force=True))
    disk, ballast, endings = hvcore.Disk(path=world.disk("more.img")), place / "ballast", []
    held = [entry.key for entry in Store(node.run_dir).load("web1").ledger]  # type: ignore[union-attr]
    for free_pages in (0, 1, 2, 3, 4, 8, 64):
        fill(ballast)
        os.truncate(ballast, max(0, ballast.stat().st_size - free_pages * 4096))
        try:
            node.attach("web1", disk, deadline_s=PATIENCE_S)
            endings.append("attached")
        except hvcore.HvError as error:
            endings.append(str(error))
        ballast.unlink()
        assert [found for found in node.recover() if found.what == "failed"] == []
        for device in set(node.info("web1").devices) - {"disk0"}:
            node.detach("web1", device, deadline_s=PATIENCE_S)
        record = Store(node.run_dir).load("web1")
        assert record is not None
        assert (record.change, [entry.key for entry in record.ledger]) == (None, held)
        assert node.info("web1").state is hvcore.State.RUNNING
    assert "free some space" in endings[0], endings
    assert endings[-1] == "attached", endings


def test_a_directory_without_room_is_blamed_by_its_name(root: None, world: World) -> None:
    place = small_tmpfs(world, "size=16k,nr_inodes=2")
    (place / "tpm").mkdir()
    with pytest.raises(hvcore.OperationError, match=r"small/tpm' cannot be used, got No space left .* tpm_state_path"):
        world.start(tpm_version="2.0", tpm_state_path=str(place / "tpm"))
    (place / "tpm").rmdir()
    with pytest.raises(hvcore.VerifyError, match=r"uefi_vars_path: a start writes .*small'; free some space there"):
        world.start(boot_firmware="uefi", uefi_vars_path=str(place / "vars.fd"))
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    with pytest.raises(hvcore.VerifyError, match=r"params.uefi_vars_path: .*; allow writing there, or name another"):
        world.start(boot_firmware="uefi", uefi_vars_path=str(place / "vars.fd"))


def test_a_run_directory_without_inodes_is_a_clean_error_at_every_count(root: None, world: World) -> None:
    place = small_tmpfs(world, "size=4m,nr_inodes=10")
    node = hvcore.Node(place / "run", uid_pool=world.uids)
    instance = world.instance()
    endings = []
    for inodes in range(3, 40):
        subprocess.run(["mount", "-o", f"remount,nr_inodes={inodes}", place], check=False, capture_output=True)
        try:
            node.driver("kvm").start(instance, deadline_s=10)
            endings.append("started")
            node.stop("web1", force=True)
        except hvcore.HvError as error:
            endings.append(str(error))
        assert node.instances() == []
        assert list((place / "run").glob("instances/*")) == []
        assert [line for line in world.leftovers() if "tmpfs" not in line and "/small/run/cache" not in line] == []
    assert "No space left" in endings[0], endings
    assert endings[-1] == "started", endings


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"web1"', b'"web2"', 1)),
        lambda path: path.write_bytes(b"\xff\x00" * 500),
        lambda path: path.unlink(),
    ],
    ids=["empty", "torn", "changed", "garbage", "gone"],
)
def test_a_damaged_record_leaves_only_stop_by_force_and_that_works(
    world: World, damage: Callable[[Path], object]
) -> None:
    world.start()
    record = world.record()
    damage(world.dir() / "record.json")
    fresh = hvcore.Node(world.run_dir, uid_pool=world.uids)
    info = fresh.info("web1")
    assert info.state is State.UNKNOWN
    assert info.reason
    with pytest.raises(hvcore.StateError, match="allowed now: stop --force"):
        fresh.stop("web1")
    with pytest.raises(hvcore.StateError):
        fresh.driver("kvm").start(world.instance())
    outcome = fresh.stop("web1", force=True)
    assert outcome.changed
    assert any("ended pid" in note for note in outcome.notes)
    world.wait_ended(record)
    assert world.leftovers() == []
    assert fresh.driver("kvm").start(world.instance()).changed


def test_a_record_of_a_newer_hvcore_is_not_touched(world: World) -> None:
    import zlib

    world.start()
    path = world.dir() / "record.json"
    body = json.loads(path.read_bytes().split(b"\n")[0])
    body["version"] = 99
    text = json.dumps(body).encode()
    path.write_bytes(text + f"\ncrc32:{zlib.crc32(text):08x}\n".encode())
    fresh = hvcore.Node(world.run_dir, uid_pool=world.uids)
    assert "upgrade hvcore" in (fresh.info("web1").reason or "")
    with pytest.raises(hvcore.StateError, match="allowed now: stop --force"):
        fresh.stop("web1")
    assert fresh.stop("web1", force=True).changed


# --------------------------------------------------------------------------------------------------- two callers

CALLER = """
import sys, hvcore
node = hvcore.Node(sys.argv[1], uid_pool=range(int(sys.argv[3]), int(sys.argv[3]) + 20))
instance = hvcore.Instance(name="web1", driver="kvm", memory_mib=32, disks=(hvcore.Disk(path=sys.argv[2]),),
                           params={"kvm_flag": "disabled"})
node.driver("kvm")
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        print(node.driver("kvm").start(instance).changed)
        break
    except hvcore.BusyError:  # on a busy node another caller may need more than the five seconds of the lock
        pass
"""


def test_of_many_who_start_the_same_one_does(world: World) -> None:
    disk = world.disk()
    command = [sys.executable, "-c", CALLER, str(world.run_dir), disk, str(world.uids.start)]
    callers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for caller in callers:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write("\n")
        caller.stdin.flush()
    said = [caller.communicate(timeout=300)[0].strip() for caller in callers]
    assert sorted(said) == ["False", "False", "False", "True"]
    assert world.info().state is State.RUNNING


def test_a_start_while_a_stop_is_at_work_is_busy_and_names_it(world: World) -> None:
    world.pressable(disks=[world.disk(ignore_power_button=True)])
    pid = world.pid()
    stopper = threading.Thread(target=lambda: world.node.stop("web1", deadline_s=300))
    stopper.start()
    try:
        wait_until(lambda: world.info().state is State.STOPPING)
        with pytest.raises(hvcore.BusyError, match=rf"web1: busy, held by pid {os.getpid()} \(stop web1\)"):
            world.start()
    finally:
        os.kill(pid, signal.SIGKILL)  # it ignores its power button, so the stop ends now
        stopper.join()
    assert world.leftovers() == []


def test_threads_of_one_program_start_and_stop_side_by_side(world: World) -> None:
    names = [f"web{number}" for number in range(6)]
    instances = [world.instance(name) for name in names]
    failures: list[BaseException] = []

    def work(instance: hvcore.Instance) -> None:
        try:
            for _ in range(2):
                assert world.kvm.start(instance).changed
                assert world.node.stop(instance.name, force=True).changed
        except BaseException as error:  # noqa: BLE001 - shown by the test itself
            failures.append(error)

    threads = [threading.Thread(target=work, args=(instance,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert world.leftovers() == []


def test_a_caller_that_is_terminated_during_a_start_leaves_nothing_that_recovery_does_not_end(
    world: World,
) -> None:
    disk = world.disk()
    world.start(disks=[disk])  # probes the binary, which another test covers
    world.node.stop("web1", force=True)
    for delay_s in (0.005, 0.015, 0.025, 0.035):
        command = [sys.executable, "-c", CALLER, str(world.run_dir), disk, str(world.uids.start)]
        caller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert caller.stdout is not None
        assert caller.stdin is not None
        assert caller.stdout.readline() == "ready\n"
        caller.stdin.write("\n")
        caller.stdin.flush()
        time.sleep(delay_s)
        caller.send_signal(signal.SIGTERM)
        caller.communicate(timeout=300)
        world.node.recover()
        if world.node.instances():
            assert world.info().state is State.RUNNING
            world.node.stop("web1", force=True)
        assert world.leftovers() == []


@pytest.mark.slow
def test_a_probe_whose_caller_was_killed_ends_on_its_own(world: World) -> None:
    folder = world.root / "fake"
    folder.mkdir()
    binary, pid_file = folder / "qemu", folder / "pid"
    binary.write_text(f"#!/bin/sh\necho $$ >{pid_file}.new; mv {pid_file}.new {pid_file}\nexec sleep 100\n")
    binary.chmod(0o755)
    caller = os.fork()
    if caller == 0:
        with contextlib.suppress(BaseException):
            probe(str(binary), cache_dir=None, deadline_s=60)
        os._exit(1)
    wait_until(pid_file.exists)
    process = hvcore.plugin.identify(int(pid_file.read_text()))
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    assert process is not None
    assert hvcore.plugin.alive(process)
    assert hvcore.plugin.wait_gone(process, 30)


@pytest.mark.parametrize("deadline_s", [0.0, 0.001, 0.01])
def test_a_deadline_that_is_too_short_for_a_start_is_the_one_that_is_named(world: World, deadline_s: float) -> None:
    world.start()  # probes the binary
    world.node.stop("web1", force=True)
    with pytest.raises(
        hvcore.LaunchError, match=f"within the deadline of {deadline_s:g} s; give it more with --deadline"
    ):
        world.start(deadline_s=deadline_s)
    assert world.node.instances() == []
    assert world.leftovers() == []
    assert world.start().changed
