"""The same guests in other QEMUs than the installed one: those that ``tests/qemus.sh`` has fetched, else skipped.

Each is also started in a way that makes it die of everything that it calls deprecated and can tell.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from world import PATIENCE_S, World

import hvcore.plugin
from hv_kvm.machine.facts import Facts, resolve_machine
from hv_kvm.paths import GuestPaths
from hv_kvm.qemu.probe import probe
from hv_kvm.qmp import connect
from hv_kvm.run.observation.journal import read_journal
from hvcore import Nic, State
from hvcore.host.confinement.proof import weaknesses

pytestmark = pytest.mark.live

CACHE: Final = Path(__file__).resolve().parents[4] / ".cache"
FETCHED: Final = CACHE / "qemu"
KERNEL: Final = CACHE / "kernel" / "vmlinuz"
BINARY: Final = Path("root/usr/bin/qemu-system-x86_64")
SUITES: Final = {"bullseye": "5.2", "trixie": "10.0", "forky": "11"}
STRICT: Final = "-compat deprecated-input=crash,deprecated-output=hide"

# What the driver can put on a command line, each way at least once. Keys that are not parameters belong to the instance.
GUESTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "q35": {"machine_version": "q35"},
    "q35-ide-cdrom": {"machine_version": "q35", "disk_type": "ide", "cdrom_image_path": "@cd.iso"},
    "ide-cdrom": {"disk_type": "ide", "cdrom_image_path": "@cd.iso"},
    "no-acpi": {"acpi": False},
    "no-reboot": {"reboot_behavior": "exit", "use_localtime": True, "serial_speed": 9600},
    "cpus": {"vcpus": 4, "cpu_sockets": 1, "cpu_cores": 2, "cpu_threads": 2, "cpu_type": "Nehalem,+aes,-sse4.1"},
    "direct": {"disk_cache": "none", "disk_aio": "native", "disk_discard": "unmap"},
    "io-uring": {"disk_aio": "io_uring"},
    "writethrough": {"disk_cache": "writethrough"},
    "display-tcp": {"vnc_bind_address": "127.0.0.1"},
    "display-unix": {"vnc_bind_address": "@display.sock", "machine_version": "q35"},
    "kernel": {
        "kernel_path": "@kernel",
        "initrd_path": "@initrd",
        "root_path": "/dev/sda,1",
        "kernel_args": "a=b,c quiet",
    },
    "unconfined": {"confinement": "off"},
    "user": {"confinement": "user"},
    **{
        model: {"nic_type": model, "nics": (Nic(mode="user"), Nic(mode="user", mac="aa:00:00:4b:c1:01"))}
        for model in ("paravirtual", "e1000", "rtl8139", "pcnet", "ne2k_pci", "i82551", "i82557b", "i82559er")
    },
    **{
        f"scsi-{controller}-{machine}": {
            "disk_type": "scsi-hd",
            "scsi_controller_type": controller,
            "machine_version": machine,
            "cdrom_image_path": "@cd.iso",
            "memory_balloon": False,
            "virtio_rng": False,
        }
        for controller in ("lsi", "virtio-scsi-pci", "megasas", "dc390")
        for machine in ("pc", "q35")
    },
    **{
        f"everything-{machine}": {
            "machine_version": machine,
            "cdrom_image_path": "@cd.iso",
            "cdrom2_image_path": "@cd.iso",
            "floppy_image_path": "@cd.iso",
            "iothreads": 2,
            "usb_mouse": "tablet",
            "usb_devices": "keyboard mouse wacom-tablet ccid hub",
            "soundhw": "hda,ac97,es1370,sb16,adlib,gus,cs4231a,pcspk",
            "use_guest_agent": True,
            "mem_path": "/dev/shm",
            "kvm_extra": "-device pvpanic",
            "nics": (Nic(mode="user"),),
        }
        for machine in ("pc", "q35")
    },
    "floppy-boot-q35": {
        "machine_version": "q35",
        "floppy_image_path": "@cd.iso",
        "cdrom_image_path": "@cd.iso",
        "boot_order": "floppy",
    },
    "virtio-cdrom": {"cdrom_image_path": "@cd.iso", "cdrom_disk_type": "paravirtual", "boot_order": "cdrom"},
    **{f"vga-{name}": {"vga": name} for name in ("std", "cirrus", "virtio", "vmware")},
    "network-boot": {"nics": (Nic(mode="user"),), "boot_order": "network"},
}
# Guests that also run. `test_golden_live` starts the QEMU of every command line, with all of these.
SAMPLE: Final = {
    *("plain", "q35-ide-cdrom", "cpus", "direct", "io-uring", "display-unix", "kernel", "unconfined", "user"),
    *("ne2k_pci", "scsi-megasas-pc", "everything-pc", "everything-q35"),
}


def fetched(suite: str) -> Path:
    binary = FETCHED / suite / BINARY
    if not binary.exists():
        pytest.skip(f"no QEMU {SUITES[suite]}: tests/qemus.sh {suite}")
    return FETCHED / os.readlink(FETCHED / suite) / BINARY


@pytest.fixture(params=SUITES)
def qemu(request: pytest.FixtureRequest) -> str:
    return str(fetched(request.param))


@pytest.fixture(params=("installed", "trixie", "forky"))
def strict(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A QEMU that exits at deprecated commands and arguments, which is possible since 6.0."""
    if request.param != "installed":
        binary = Path(f"{fetched(request.param)}-strict")
    else:
        binary = tmp_path / "bin" / "qemu"
        binary.parent.mkdir()
        binary.write_text(f'#!/bin/sh\nexec {shutil.which("qemu-system-x86_64")} {STRICT} "$@"\n')
        binary.chmod(0o755)
    return str(binary)


def guest(world: World, name: str) -> dict[str, Any]:
    """The guest's parameters; the text after an @ is the name of a file that is made in the test's directory."""
    more = dict(GUESTS[name])
    if more.get("confinement") == "user" and os.geteuid() == 0:
        pytest.skip("root is confined with its own uid, not with a user namespace")
    for key, value in more.items():
        if str(value).startswith("@"):
            more[key] = str(world.root / value[1:])
    if "cdrom_image_path" in more:
        world.disk("cd.iso")
    if "kernel_path" in more:
        if not KERNEL.exists():
            pytest.skip("no kernel to load: ./dev setup")
        more["kernel_path"] = str(KERNEL.resolve())
        Path(more["initrd_path"]).write_bytes(bytes(512))
    return more


def messages(world: World) -> list[str]:
    """The output of QEMU without the address of its display: a warning announces that a form will be removed."""
    lines = (world.dir() / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if not line.startswith("VNC server running on ")]


def test_it_lives_from_start_to_power_button(world: World, qemu: str) -> None:
    outcome = world.start(kvm_path=qemu, paused=True)
    assert (outcome.changed, outcome.state) == (True, State.PAUSED)
    world.booted()
    info = world.info()
    assert (info.state, info.reason) == (State.RUNNING, None)
    facts = probe(qemu, cache_dir=None)
    assert info.details["qemu"] == facts.version
    assert info.details["machine"] == resolve_machine(facts, "pc")
    assert world.node.pause("web1").changed
    assert world.info().state is State.PAUSED
    assert world.node.resume("web1").changed
    assert world.info().state is State.RUNNING
    paths = GuestPaths(world.dir())
    assert hvcore.plugin.pidfile_lock_holder(paths.pidfile) == info.pid
    assert os.readlink(f"/proc/{info.pid}/exe").startswith(qemu)
    with connect(str(paths.recovery), deadline_s=PATIENCE_S) as client:
        assert client.execute("query-uuid")["UUID"] == info.uuid
    assert messages(world) == []
    outcome = world.node.stop("web1", deadline_s=300)
    assert outcome.stopped_by == "powerdown"
    assert world.leftovers() == []


def test_its_confinement_is_proved_by_proc(world: World, qemu: str, root: None) -> None:
    world.start(kvm_path=qemu)
    info = world.info()
    assert info.details["confinement"] == "strict"
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{info.pid}/status").read_text().splitlines())
    assert {int(uid) for uid in status["Uid"].split()} == {info.details["uid"]} <= set(world.uids)
    assert status["CapEff"].strip("0\n") == status["CapBnd"].strip("0\n") == ""
    assert (status["Seccomp"].strip(), status["NoNewPrivs"].strip()) == ("2", "1")
    sandbox = hvcore.plugin.Sandbox(who=hvcore.plugin.AsUser(info.details["uid"]), seccomp=True)
    assert info.pid is not None
    assert weaknesses(sandbox, info.pid) == []
    # Only the installation is visible, and not even the names of the files around it.
    place = Path(f"/proc/{info.pid}/root")
    assert sorted(os.listdir(f"{place}{Path(qemu).parents[2]}")) == ["usr"]
    assert [path.name for path in Path(f"{place}{Path(qemu).parents[4]}").iterdir()] == [Path(qemu).parents[3].name]
    assert messages(world) == []


def test_its_journal_shows_how_it_ended(world: World, qemu: str) -> None:
    world.start(kvm_path=qemu, disks=[world.disk(exit_after_boot="poweroff")])
    world.wait_ended(world.record())
    journal = read_journal(str(GuestPaths(world.dir()).journal))
    assert (journal.status, journal.reason, journal.guest_initiated) == ("shutdown", "guest-shutdown", True)
    assert (world.info().state, world.info().reason) == (State.SHUTDOWN, "shut down by the guest")


def test_a_crash_is_a_crash_and_force_is_force(world: World, qemu: str) -> None:
    world.start(kvm_path=qemu)
    world.kill()
    assert (world.info().state, world.info().reason) == (State.CRASHED, "QEMU was killed by SIGKILL")
    world.start(kvm_path=qemu)
    assert world.node.stop("web1", force=True).stopped_by == "quit"
    assert world.leftovers() == []


@pytest.mark.parametrize(
    "name", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in GUESTS]
)
def test_nothing_on_the_command_line_is_refused_or_deprecated(world: World, strict: str, name: str) -> None:
    more = guest(world, name)
    facts = probe(strict, cache_dir=None)
    world.start(kvm_path=strict, **more)
    world.node.pause("web1")
    world.node.resume("web1")
    assert messages(world) == []
    assert deprecated_in(world, facts) == []
    assert world.node.stop("web1", force=True).stopped_by == "quit"


def deprecated_in(world: World, facts: Facts) -> list[str]:
    """Devices that QEMU did not make as specified, and the machine, if QEMU lists it as deprecated."""
    machine = world.info().details["machine"]
    found = [row.name for row in facts.machines if row.name == machine and row.deprecated]
    record = world.record()
    assert record.process is not None
    argv = Path(f"/proc/{record.process.pid}/cmdline").read_bytes().decode().split("\0")
    ids = {
        value.removeprefix("id=")
        for option, argument in itertools.pairwise(argv)
        for value in argument.split(",")
        if option == "-device" and value.startswith("id=")
    }
    with connect(str(GuestPaths(world.dir()).commands), deadline_s=PATIENCE_S) as client:
        there = {row["name"] for row in client.execute("qom-list", {"path": "/machine/peripheral"})}
    return found + sorted(f"no device {name}" for name in ids - there)


def test_a_strict_qemu_dies_of_what_is_deprecated(strict: str) -> None:
    """Proves that the test above can fail. The command is deprecated since 6.0 and still exists."""
    argv = [strict, "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    commands = '{"execute": "qmp_capabilities"}\n{"execute": "nbd-server-add", "arguments": {"device": "x"}}\n'
    done = subprocess.run(argv, input=commands, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -6
