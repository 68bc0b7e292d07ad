"""Every device family in real guests: each command line starts, and each boot device boots."""

from __future__ import annotations

import dataclasses
import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from world import PATIENCE_S, World, bootable_iso

import hvcore
from hvcore import Disk, Nic

pytestmark = pytest.mark.live

OVMF: Final = Path("/usr/share/OVMF")
MACHINES: Final = pytest.mark.parametrize("machine", ["pc", "q35"])


def boots(world: World, *disks: Disk, name: str = "web1", **params: Any) -> None:
    """A guest with these disks starts, and its QEMU prints no warning."""
    instance = dataclasses.replace(world.instance(name, disks=[], **params), disks=disks)
    world.kvm.start(instance, paused=True, deadline_s=PATIENCE_S)
    world.booted(name)
    log = (world.dir(name) / "log").read_text("utf-8", "replace")
    assert [line for line in log.splitlines() if not line.startswith("VNC server running")] == []


def refused(world: World, *disks: Disk, **params: Any) -> str:
    instance = dataclasses.replace(world.instance(disks=[], **params), disks=disks)
    with pytest.raises(hvcore.VerifyError) as caught:
        world.kvm.start(instance)
    assert world.leftovers() == []
    return str(caught.value)


def floppy(world: World, **kind: Any) -> str:
    path = world.disk("boot.fd", **kind)
    os.truncate(path, 1_474_560)
    return path


@MACHINES
def test_everything_at_once(own_net: None, world: World, machine: str) -> None:
    """All devices that one guest can have."""
    cdrom = world.disk("cd.iso", message="not me")
    world.pressable(
        machine_version=machine,
        cdrom_image_path=cdrom,
        cdrom2_image_path=cdrom,
        floppy_image_path=floppy(world, message="not me"),
        iothreads=2,
        usb_mouse="tablet",
        usb_devices="keyboard mouse wacom-tablet ccid hub",
        soundhw="hda,ac97,es1370,sb16,adlib,gus,cs4231a,pcspk",
        vga="std",
        vnc_bind_address="127.0.0.1",
        use_guest_agent=True,
        kvm_extra="-device 'pvpanic,id=its-own'",
        cpu_cores=2,
        vcpus=2,
        mem_path="/dev/shm",
        nics=(Nic(mode="user"), Nic(mode="user", boot_index=2)),
        use_localtime=True,
    )
    assert world.node.stop("web1", deadline_s=PATIENCE_S).stopped_by == "powerdown"


@MACHINES
def test_it_boots_from_a_floppy_that_several_may_read(world: World, machine: str) -> None:
    image = floppy(world)
    for name in ("web1", "web2"):
        boots(world, name=name, machine_version=machine, floppy_image_path=image, boot_order="floppy")


@pytest.mark.parametrize(
    ("machine", "bus"),
    [
        *(("pc", "ide"), ("q35", "scsi-cd"), ("q35", "paravirtual")),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("q35", "ide"), ("pc", "scsi-cd"), ("pc", "paravirtual"))
        ),
    ],
)
def test_it_boots_from_a_cdrom_on(world: World, machine: str, bus: str) -> None:
    path = world.root / "cd.iso"
    path.write_bytes(bootable_iso())
    other = Disk(path=world.disk("d.img", message="not me"))
    boots(world, other, machine_version=machine, cdrom_disk_type=bus, cdrom_image_path=str(path), boot_order="cdrom")


@pytest.mark.parametrize(
    ("machine", "controller"),
    [
        *(("pc", "lsi"), ("q35", "virtio-scsi-pci"), ("pc", "megasas"), ("q35", "dc390")),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("q35", "lsi"), ("pc", "virtio-scsi-pci"), ("q35", "megasas"), ("pc", "dc390"))
        ),
    ],
)
def test_it_boots_from_a_scsi_disk_behind(world: World, machine: str, controller: str) -> None:
    disks = (Disk(path=world.disk()), Disk(path=world.disk("d.img"), read_only=True))
    more = {"disk_type": "scsi-hd", "scsi_controller_type": controller, "cdrom_image_path": world.disk("cd.iso")}
    boots(world, *disks, machine_version=machine, **more)


@pytest.mark.parametrize("vga", ["std", "cirrus", "qxl", "virtio", "vmware", "none"])
def test_it_has_the_graphics_card(world: World, vga: str) -> None:
    if vga == "qxl" and "qxl-vga" not in refusable(world):
        pytest.skip("this QEMU has no qxl-vga: install qemu-system-modules-spice or what has it")
    boots(world, Disk(path=world.disk()), vga=vga, vnc_bind_address="127.0.0.1")


def refusable(world: World) -> frozenset[str]:
    from hv_kvm.qemu.probe import probe

    return probe("/usr/bin/qemu-system-x86_64", cache_dir=str(world.run_dir / "cache")).types


def qcow2(world: World, name: str = "disk.qcow2", *more: str) -> str:
    if shutil.which("qemu-img") is None:
        pytest.skip("no qemu-img: install qemu-utils")
    path = str(world.root / name)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", *more, world.disk(f"{name}.raw"), path], check=True)
    return path


@pytest.mark.parametrize(
    "ways", [{}, {"cache": "none", "aio": "native"}, {"aio": "io_uring", "discard": "unmap"}], ids=str
)
def test_it_boots_from_qcow2(world: World, ways: dict[str, Any]) -> None:
    boots(world, Disk(path=qcow2(world), format="qcow2", **ways))


def test_a_qcow2_image_that_refers_to_another_file_is_refused(world: World) -> None:
    base, path = qcow2(world), str(world.root / "top.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path], check=True)
    assert "is a qcow2 image with a backing file" in refused(world, Disk(path=path, format="qcow2"))
    assert "is not a qcow2 image" in refused(world, Disk(path=world.disk(), format="qcow2"))


def test_it_boots_from_the_disk_with_the_lowest_boot_index(world: World) -> None:
    first = Disk(path=world.disk("a.img", message="not me"))
    boots(world, first, Disk(path=world.disk("b.img"), boot_index=1, read_only=True, aio="io_uring"))


def test_a_file_is_refused_as_a_scsi_device(world: World) -> None:
    disk = Disk(path=world.disk())
    assert "is not a block device" in refused(world, disk, disk_type="scsi-block")
    assert "is not a SCSI generic device" in refused(world, disk, disk_type="scsi-generic")


def test_a_device_that_cannot_work_in_the_sandbox_is_refused_with_the_reason(world: World) -> None:
    said = refused(world, Disk(path="rbd:pool/web1"), usb_devices="host:046d:c52b")
    assert "disks[0].path: the rbd library needs the node's configuration and keys" in said
    assert "params.usb_devices: host:046d:c52b is a device of the node" in said


def test_the_guest_agent_has_a_socket(world: World) -> None:
    world.start(use_guest_agent=True)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        directory = os.open(world.dir(), os.O_PATH)
        try:
            client.connect(f"/proc/self/fd/{directory}/qga")
        finally:
            os.close(directory)
        client.send(b'{"execute": "guest-ping"}\n')


def test_memory_from_a_directory_is_an_unnamed_file(world: World) -> None:
    world.start(mem_path="/dev/shm", memory_mib=32)
    maps = Path(f"/proc/{world.pid()}/maps").read_text()
    assert re.search(r"/dev/shm/\S+ \(deleted\)", maps)
    world.node.stop("web1", force=True)


def test_too_little_memory_in_a_directory_is_refused_before_the_start(world: World) -> None:
    assert "MiB free, the instance needs 60000000 MiB" in refused(world, mem_path="/dev/shm", memory_mib=60_000_000)


@pytest.fixture
def huge(root: None, world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A hugetlbfs with 24 MiB free."""
    pool, place = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"), tmp_path_factory.mktemp("huge")
    if not pool.exists():
        pytest.skip("this kernel has no huge pages of 2 MiB")
    before = int(pool.read_text())
    world.undo.append(lambda: pool.write_text(str(before)))
    pool.write_text(str(before + 12))
    if int(pool.read_text()) < before + 12:
        pytest.skip("this node has no 24 MiB in one piece for huge pages")
    if subprocess.run(["mount", "-t", "hugetlbfs", "none", place], check=False, capture_output=True).returncode:
        pytest.skip("no hugetlbfs can be mounted here")
    world.undo.append(lambda: subprocess.run(["umount", place], check=True))
    return str(place)


def test_it_boots_in_huge_pages_and_takes_no_more_than_there_are(world: World, huge: str) -> None:
    disk = Disk(path=world.disk())
    assert "MiB free, the instance needs 8000 MiB" in refused(world, disk, mem_path=huge, memory_mib=8000)
    assert "is not a multiple of that" in refused(world, disk, mem_path=huge, memory_mib=17)
    boots(world, disk, mem_path=huge, memory_mib=24)
    assert "0 MiB free" in refused_beside(world, huge)
    world.node.stop("web1", force=True)


def refused_beside(world: World, huge: str) -> str:
    with pytest.raises(hvcore.VerifyError) as caught:
        world.start("web2", mem_path=huge, memory_mib=24)
    return str(caught.value)


@pytest.mark.slow  # below: secure, with more of everything
@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_uefi_starts_with_its_own_variables(world: World, machine: str) -> None:
    started_by_uefi(world, machine, secure=False)


def test_secure_boot_starts(world: World) -> None:
    started_by_uefi(world, "q35", secure=True)


def started_by_uefi(world: World, machine: str, *, secure: bool) -> None:
    if not OVMF.is_dir():
        pytest.skip("no UEFI firmware: install ovmf")
    variables = world.root / "web1.nvram"
    more: dict[str, Any] = {"boot_firmware": "uefi", "uefi_vars_path": str(variables), "uefi_secure_boot": secure}
    world.start(paused=True, disks=[], machine_version=machine, memory_mib=128, **more)
    with world.console() as console:
        world.node.resume("web1")
        console.until(b"BdsDxe")
    world.node.stop("web1", force=True)
    template = OVMF / ("OVMF_VARS_4M.ms.fd" if secure else "OVMF_VARS_4M.fd")
    assert variables.stat().st_size == template.stat().st_size
    assert variables.read_bytes() != template.read_bytes()
    assert variables.stat().st_mode & 0o777 == 0o600
    kept = variables.read_bytes()
    world.start(paused=True, disks=[], machine_version=machine, memory_mib=128, **more)
    assert variables.read_bytes() == kept


@pytest.fixture
def server(world: World) -> Iterator[str]:
    """A web server with ranges, which is what QEMU needs, that has a bootable ISO image as /disk.iso; its URL."""
    image = bootable_iso()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(image)))
            self.end_headers()

        def do_GET(self) -> None:
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            first, last = map(int, found.groups()) if found else (0, len(image) - 1)
            body = image[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(image)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in the base class
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/disk.iso"
        serving.shutdown()
        thread.join()


def test_it_boots_from_a_web_server(world: World, server: str, qemu_with_curl: str) -> None:
    more = {"cdrom_image_path": server, "cdrom_disk_type": "paravirtual", "boot_order": "cdrom"}
    boots(world, kvm_path=qemu_with_curl, **more)
    world.node.stop("web1", force=True)


@pytest.fixture
def qemu_with_curl() -> str:
    from hv_kvm.qemu.probe import missing_module

    fetched = Path(__file__).resolve().parents[4] / ".cache/qemu/trixie/root/usr/bin/qemu-system-x86_64"
    for binary in (Path("/usr/bin/qemu-system-x86_64"), fetched.resolve()):
        if binary.exists() and missing_module(str(binary), "http") is None:
            return str(binary)
    pytest.skip("no QEMU here reads http: install qemu-block-extra, or tests/qemus.sh trixie")


def test_a_missing_module_is_refused_before_the_start(world: World) -> None:
    from hv_kvm.qemu.probe import missing_module

    if missing_module("/usr/bin/qemu-system-x86_64", "http") is None:
        pytest.skip("this QEMU has it")
    said = refused(world, cdrom_image_path="http://127.0.0.1:1/x.iso")
    assert "params.cdrom_image_path: this QEMU" in said
    assert "qemu-block-extra" in said
