"""Real guests through every operation: each has one defined answer, and nothing is left at the end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from world import PATIENCE_S, World, bootable_iso

import hvcore
from hv_kvm.qmp import connect
from hvcore import EndedBy, Nic, State

pytestmark = pytest.mark.live


def test_a_started_guest_is_listed_with_real_figures(world: World) -> None:
    outcome = world.start(vcpus=2, memory_mib=48)
    assert (outcome.changed, outcome.state) == (True, State.RUNNING)
    info = world.info()
    assert [one.name for one in world.node.instances()] == ["web1"]
    assert (info.state, info.reason, info.memory_mib, info.vcpus) == (State.RUNNING, None, 48, 2)
    assert info.cpu_seconds is not None
    assert info.uptime_s is not None
    assert 0 < info.uptime_s < 600
    assert info.resident_mib is not None
    assert 10 < info.resident_mib < 400
    assert info.uuid == world.record().instance.uuid
    assert info.details["machine"].startswith("pc-i440fx-")
    assert info.details["accel"] == "tcg"
    assert "web1" in Path(f"/proc/{info.pid}/cmdline").read_text()


def test_a_guest_shuts_down_by_its_power_button(world: World) -> None:
    world.pressable()
    outcome = world.node.stop("web1", deadline_s=60)
    assert (outcome.changed, outcome.stopped_by, outcome.state) == (True, "powerdown", State.STOPPED)
    assert world.leftovers() == []


def test_a_guest_that_ignores_the_button_is_ended_by_quit_after_the_deadline(world: World) -> None:
    world.pressable(disks=[world.disk(ignore_power_button=True)])
    outcome = world.node.stop("web1", deadline_s=1.0)
    assert outcome.stopped_by == "quit"
    assert 1.0 <= outcome.seconds < 30.0  # the guest would never end
    assert world.leftovers() == []


def test_a_stop_by_force_takes_over_a_polite_stop_that_waits_for_the_guest(world: World) -> None:
    world.pressable(disks=[world.disk(ignore_power_button=True)])
    waiting = threading.Event()
    node = hvcore.Node(world.run_dir, progress=lambda text: waiting.set() if "shut down" in text else None)
    with ThreadPoolExecutor(1) as pool:
        polite = pool.submit(node.stop, "web1", deadline_s=PATIENCE_S)
        assert waiting.wait(PATIENCE_S)
        begun = time.monotonic()
        forced = world.node.stop("web1", force=True)
        assert time.monotonic() - begun < PATIENCE_S / 3
    assert (forced.changed, forced.state) == (True, State.STOPPED)
    assert polite.result().stopped_by in ("quit", "kill")  # QEMU had its chance to write its caches out
    assert world.leftovers() == []


def test_a_guest_without_acpi_is_not_waited_for(world: World) -> None:
    world.start(acpi=False)
    outcome = world.node.stop("web1", deadline_s=120)
    assert outcome.stopped_by == "quit"
    assert outcome.seconds < 60.0


def test_force_ends_it_at_once(world: World) -> None:
    world.pressable()
    outcome = world.node.stop("web1", force=True)
    assert outcome.stopped_by == "quit"
    assert outcome.seconds < 30.0  # the deadline is 60 s
    assert world.leftovers() == []


def test_a_hung_qemu_is_killed(world: World) -> None:
    world.start()
    os.kill(world.pid(), signal.SIGSTOP)
    assert world.info().state is State.RUNNING
    outcome = world.node.stop("web1", deadline_s=1.0)
    assert outcome.stopped_by == "kill"
    assert outcome.seconds < 60.0  # it would never answer
    assert world.leftovers() == []


def test_a_hung_qemu_is_killed_soon_with_force(world: World) -> None:
    world.start()
    os.kill(world.pid(), signal.SIGSTOP)
    outcome = world.node.stop("web1", force=True)
    assert outcome.stopped_by == "kill"
    assert outcome.seconds < 60.0  # it would never answer


def test_a_guest_that_has_ended_is_gone(world: World) -> None:
    world.start()
    world.kill()
    outcome = world.node.stop("web1")
    assert (outcome.changed, outcome.stopped_by) == (True, "gone")
    assert world.leftovers() == []


def test_a_paused_guest_uses_no_cpu_and_continues(world: World) -> None:
    world.start(paused=True)
    assert world.info().state is State.PAUSED
    assert world.info().reason == "has not run yet"
    world.booted()
    assert world.info().state is State.RUNNING
    assert world.node.pause("web1").changed
    assert world.info().state is State.PAUSED
    assert world.info().reason is None
    assert not world.node.pause("web1").changed
    used = world.info().cpu_seconds or 0.0
    time.sleep(0.3)
    assert (world.info().cpu_seconds or 0.0) - used < 0.1  # QEMU itself answers to us
    assert world.node.resume("web1").changed
    assert not world.node.resume("web1").changed
    assert world.info().state is State.RUNNING


def test_a_paused_guest_reacts_to_its_power_button_as_well(world: World) -> None:
    world.pressable()
    world.node.pause("web1")
    assert world.node.stop("web1", deadline_s=60).stopped_by == "powerdown"


@pytest.mark.parametrize("again", ["stop", "reboot", "reset"])
def test_a_stop_of_a_guest_that_has_never_run_does_not_run_it(world: World, again: str) -> None:
    world.start(paused=True, disks=[world.disk()])
    if again == "reset":
        with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S) as client:
            client.execute("system_reset", deadline_s=PATIENCE_S)
    with world.console() as console:
        outcome = world.node.reboot("web1") if again == "reboot" else world.node.stop("web1", deadline_s=300)
        assert outcome.stopped_by == "quit"
        said = b""
        while data := console.sock.recv(4096):
            said += data
    assert said == b""


def test_a_guest_that_shuts_itself_down_is_not_a_crash(world: World) -> None:
    world.start(disks=[world.disk(exit_after_boot="poweroff")])
    world.wait_ended(world.record())
    info = world.info()
    assert (info.state, info.reason, info.pid) == (State.SHUTDOWN, "shut down by the guest", None)
    assert world.node.cleanup("web1").changed
    assert world.leftovers() == []


PANICS: bytes = bytes.fromhex("faba0505b001eef4ebfd").ljust(510, b"\0") + b"\x55\xaa"  # out 0x505, 1; hlt


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("-device pvpanic", "the guest panicked: poweroff"),  # what QEMU does by default
        ("-device pvpanic -action panic=exit-failure", "the guest panicked: poweroff; QEMU exited with 1"),
    ],
)
def test_a_guest_that_panicked_is_crashed_regardless_of_what_qemu_does_then(
    world: World, tmp_path: Path, extra: str, reason: str
) -> None:
    (disk := tmp_path / "panics.img").write_bytes(PANICS.ljust(1 << 20, b"\0"))
    world.start(disks=[str(disk)], kvm_extra=extra)
    world.wait_ended(world.record())
    assert (world.info().state, world.info().reason) == (State.CRASHED, reason)
    assert world.node.cleanup("web1").changed
    assert world.leftovers() == []


def test_a_reboot_of_the_guest_ends_it_when_it_is_to(world: World) -> None:
    world.start(disks=[world.disk(exit_after_boot="reboot")], reboot_behavior="exit")
    world.wait_ended(world.record())
    assert world.info().state is State.SHUTDOWN
    assert world.info().reason == "shut down by the guest"


def test_a_reboot_of_the_guest_is_one_by_default(world: World) -> None:
    world.start(disks=[world.disk(exit_after_boot="reboot")], paused=True)
    with world.console() as console:
        world.node.resume("web1")
        for _ in range(3):
            console.until(b"test guest\r\n")
    assert world.info().state is State.RUNNING


def test_a_killed_qemu_is_a_crash_and_starts_again(world: World) -> None:
    world.start()
    world.kill()
    info = world.info()
    assert (info.state, info.reason) == (State.CRASHED, "QEMU was killed by SIGKILL")
    assert world.start().changed
    assert world.info().state is State.RUNNING


def test_sigterm_from_outside_is_the_reason(world: World) -> None:
    world.start()
    world.kill(number=signal.SIGTERM)
    info = world.info()
    assert info.state is State.SHUTDOWN
    assert info.reason is not None
    assert info.reason.startswith("ended from outside the guest")


def test_start_of_something_running_changes_nothing_and_says_what_differs(world: World) -> None:
    world.start()
    pid = world.pid()
    again = world.start()
    assert (again.changed, again.state, again.notes) == (False, State.RUNNING, ())
    assert world.pid() == pid
    other = world.kvm.start(world.instance(memory_mib=64))
    assert not other.changed
    assert "hv stop and hv start" in other.notes[0]


def test_stop_of_an_instance_that_does_not_run_is_fine(world: World) -> None:
    assert not world.node.stop("web1").changed
    world.start()
    assert world.node.stop("web1", force=True).changed
    assert not world.node.stop("web1").changed
    assert not world.node.cleanup("web1").changed


def test_cleanup_of_something_running_is_refused_with_what_is_legal(world: World) -> None:
    world.start()
    with pytest.raises(hvcore.StateError, match="is running; use 'hv stop' first"):
        world.node.cleanup("web1")
    assert world.info().state is State.RUNNING


def test_a_name_that_does_not_exist_is_not_found(world: World) -> None:
    for call in (world.node.info, world.node.pause, world.node.resume, world.node.console, world.node.reboot):
        with pytest.raises(hvcore.NotFoundError, match="web9: no such instance"):
            call("web9")


def test_reboot_is_another_process_and_says_how_it_ended(world: World) -> None:
    world.pressable()
    before = world.pid()
    outcome = world.node.reboot("web1", deadline_s=60)
    assert (outcome.changed, outcome.state, outcome.stopped_by) == (True, State.RUNNING, "powerdown")
    assert world.pid() != before


def test_every_byte_of_the_console_arrives_when_it_is_opened_before_the_guest_runs(world: World) -> None:
    message = "".join(chr(65 + n % 26) for n in range(300)) + "\r\n"
    world.start(disks=[world.disk(message=message)], paused=True)
    with world.console() as console:
        world.node.resume("web1")
        assert console.until(b"\r\n").endswith(message.encode())


# Each byte takes QEMU two system calls. The buffers of the socket and the pipe are full several times over.
@pytest.mark.parametrize("size_bytes", [300_000, pytest.param(1_100_000, marks=pytest.mark.slow)])
def test_the_console_survives_a_flood_and_so_does_the_guest(world: World, size_bytes: int) -> None:
    world.start(disks=[world.disk(message="0123456789abcdef" * 20 + "\n", flood=True)], paused=True)
    with world.console() as console:
        world.node.resume("web1")
        seen = 0
        while seen < size_bytes:
            seen += len(console.until(b"\n"))
    with world.console() as console:
        console.until(b"0123456789")
    assert world.node.stop("web1", deadline_s=60).stopped_by == "powerdown"


def test_a_guest_without_a_serial_console_says_how_to_get_one(world: World) -> None:
    world.start(serial_console=False, vnc_bind_address="127.0.0.1")
    with pytest.raises(hvcore.OperationError, match=r"serial_console = true .* or use 'hv view web1'"):
        world.node.console("web1")


@pytest.mark.parametrize("more", [{"machine_version": "q35"}, {"disk_type": "ide"}, {"vcpus": 4}], ids=str)
def test_it_boots_as(world: World, more: dict[str, Any]) -> None:
    world.pressable(**more)
    assert world.node.stop("web1", deadline_s=60).stopped_by == "powerdown"


def test_it_boots_a_q35_with_an_ide_disk_and_a_cdrom(world: World, tmp_path: Path) -> None:
    world.pressable(machine_version="q35", disk_type="ide", cdrom_image_path=world.disk("cd.iso"))


@pytest.mark.parametrize("model", ["paravirtual", "e1000", "rtl8139", "pcnet", "ne2k_pci", "i82551"])
def test_user_mode_interfaces_of_every_kind_come_up(own_net: None, world: World, model: str) -> None:
    world.pressable(nics=(Nic(mode="user"), Nic(mode="user", mac="aa:00:00:4b:c1:01")), nic_type=model)


def test_a_display_on_tcp_picks_a_free_port_and_shows_it(world: World) -> None:
    world.start("web1", vnc_bind_address="127.0.0.1")
    world.start("web2", vnc_bind_address="127.0.0.1")
    places = [str(world.info(name).details["vnc"]) for name in ("web1", "web2")]
    assert len(set(places)) == 2
    for place in places:
        host, _, port = place.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            assert client.recv(4) == b"RFB "


def test_a_display_on_a_busy_port_is_a_clean_error(world: World) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        port = busy.getsockname()[1]
        if port < 5900:
            pytest.skip("the kernel gave a port below 5900")
        busy.listen()
        with pytest.raises(hvcore.VerifyError, match="address already in use") as caught:
            world.start(vnc_bind_address="127.0.0.1", vnc_port=port)
    assert "params.vnc_port" in str(caught.value)
    assert world.leftovers() == []
    assert world.node.instances() == []


def test_a_display_on_a_unix_socket_is_linked_at_the_path_of_the_parameter(world: World, tmp_path: Path) -> None:
    place = tmp_path / "display.sock"
    world.start(vnc_bind_address=str(place))
    assert world.info().details["vnc"] == str(place)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(place))
        assert client.recv(4) == b"RFB "
    world.node.stop("web1", force=True)
    assert not os.path.lexists(place)


def test_a_display_in_a_directory_has_the_name_of_the_guest_and_a_tablet(world: World, tmp_path: Path) -> None:
    place = tmp_path / "displays"
    place.mkdir()
    world.start(vnc_bind_address=str(place))
    assert world.info().details["vnc"] == f"{place}/web1.vnc"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(f"{place}/web1.vnc")
        assert client.recv(4) == b"RFB "
    with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S) as client:
        assert "QEMU HID Tablet" in str(client.execute("query-mice", deadline_s=PATIENCE_S))
    world.node.stop("web1", force=True)
    assert list(place.iterdir()) == []


def test_what_is_in_the_way_of_a_display_is_left_alone(world: World, tmp_path: Path) -> None:
    place = tmp_path / "display.sock"
    place.write_text("mine")
    with pytest.raises(hvcore.VerifyError, match="exists already"):
        world.start(vnc_bind_address=str(place))
    assert place.read_text() == "mine"
    assert world.leftovers() == []


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("kind", ["ide", "scsi-cd", "paravirtual"])
def test_a_guest_boots_from_a_cdrom_of_each_type(world: World, tmp_path: Path, kind: str, machine: str) -> None:
    iso = tmp_path / "boot.iso"
    iso.write_bytes(bootable_iso())
    more = {"machine_version": machine, "scsi_controller_type": "virtio-scsi-pci"}
    world.pressable(disks=[], boot_order="cdrom", cdrom_image_path=str(iso), cdrom_disk_type=kind, **more)


def test_a_guest_boots_from_a_cdrom_that_several_may_read(world: World, tmp_path: Path) -> None:
    iso = tmp_path / "boot.iso"
    iso.write_bytes(bootable_iso())
    for name in ("web1", "web2"):
        world.pressable(name, disks=[], boot_order="cdrom", cdrom_image_path=str(iso))


def test_two_hundred_starts_of_what_runs_are_one_guest(world: World) -> None:
    world.start()
    pid = world.pid()
    instance = world.instance()
    assert not any(world.kvm.start(instance).changed for _ in range(200))
    assert world.pid() == pid


def test_the_search_for_leftovers_finds_what_is_left(world: World) -> None:
    world.start()
    found = "\n".join(world.leftovers())
    for kind in ("record.json", "instances/web1", "process"):
        assert kind in found
    world.node.stop("web1", force=True)
    assert world.leftovers() == []


@pytest.mark.live
def test_an_exit_status_that_is_not_known_yet_is_not_a_crash(world: World) -> None:
    world.start()
    record = world.record()
    assert record.monitor is not None
    os.kill(record.monitor.pid, signal.SIGSTOP)  # on a busy node it waits for a processor
    try:
        os.kill(world.pid(), signal.SIGKILL)
        world.node.wait("web1", state=State.STOPPING, deadline_s=PATIENCE_S)
        assert world.info().reason == "QEMU has exited, and its exit status is not known yet"
    finally:
        os.kill(record.monitor.pid, signal.SIGCONT)
    ended = world.node.wait("web1", state=State.CRASHED, deadline_s=PATIENCE_S)
    assert ended.ended_by is EndedBy.KILLED
