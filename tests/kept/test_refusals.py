"""Everything that verify refuses, each with the path that it names. A table: an instance, and the expected problems.

The text is the beginning of the message. The words may be improved; the path and the refusal must stay. A path with two
names may have either.

Refusals that need more than a file, a namespace or another user are not here:

- a working KVM together with ``cpu_type = "host"``: few test machines have it (a missing KVM is here).
- A machine of QEMU that is not a PC: check refuses all of them.
- A device that this QEMU has as a module: with the module removed. `LESSER` lacks the device instead, which has the same effect.
- ``aio`` and block drivers that this QEMU lacks: they are found in its schema, which `LESSER` does not rewrite.
- SPICE that takes no password: no QEMU from 5.2 on.
- A SCSI device node that is a disk: there is no SCSI here (the refusal of other files is).
- bwrap, mount and the other tools one by one: they are missing all together.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import kept_node
import pytest

import hvcore

pytestmark = pytest.mark.live

Expected = tuple[tuple[str, str], ...]

# A QEMU that has not got what is named: it asks the node's own and takes the names out of the answers.
LESSER: Final = r"""
import os, re, socket, subprocess, sys, threading
argv, lacks = sys.argv[1:], {lacks!r}
if "-blockdev" in argv:
    sys.exit("qemu: -blockdev driver=http: Unknown driver")
(fd,) = [int(found[1]) for word in argv if (found := re.search(r",fd=(\d+)", word))]
asked, (ours, theirs) = socket.socket(fileno=fd), socket.socketpair()
argv = [word.replace(f",fd={{fd}}", f",fd={{theirs.fileno()}}") for word in argv]
qemu = subprocess.Popen(["qemu-system-x86_64", *argv], pass_fds=[theirs.fileno()])
theirs.close()
def on():
    while data := asked.recv(65536):
        ours.sendall(data)
    qemu.kill()
threading.Thread(target=on, daemon=True).start()
for line in ours.makefile("rb"):
    for name in lacks:
        line = line.replace(b'"%s"' % name.encode(), b'"no-%s"' % name.encode())
    asked.sendall(line)
"""
LACKS: Final = (
    *("virtio-serial-pci", "AC97", "virtio-balloon-pci", "ide-cd", "qemu64", "virtio-blk-pci", "cfi.pflash01"),
    *("floppy", "virtio-net-pci", "virtio-rng-pci", "sandbox", "lsi", "query-spice", "tpm-crb", "usb-tablet"),
    *("virtio-vga", "tls-creds-anon", "virtio-scsi-pci", "scsi-hd"),
)


@dataclass(frozen=True)
class Case:
    """Parameters and disks (a path, or a table), the other fields of an instance, and what has to be said.

    ``{here}`` is the directory of `files`. ``where`` is what the asker is: see `WHERE`.
    """

    id: str
    expected: Expected
    params: dict[str, Any] = field(default_factory=dict)
    disks: tuple[str | dict[str, Any], ...] = ("{here}/disk",)
    more: dict[str, Any] = field(default_factory=dict)
    driver: str = "kvm"
    where: str = ""

    def __str__(self) -> str:
        return f"{self.driver}-{self.id}"


def chroot(id: str, expected: Expected, **more: Any) -> Case:  # noqa: A002 - a test's id
    return Case(id, expected, driver="chroot", **more)


NIC: Final = {"mac": "aa:00:00:4b:c1:01"}
VETH: Final = {"network": "veth"}
TPM: Final = {"tpm_version": "2.0", "tpm_state_path": "{here}/tpm"}
NOBODY: Final[dict[str, Any]] = {"disks": ("{here}/everybodys",), "where": "nobody"}
UEFI: Final = {"boot_firmware": "uefi", "uefi_code_path": "{here}/code", "uefi_vars_path": "{here}/new/vars"}

CASES: Final = (
    # What this release does not do.
    Case(
        "bridged", (("nics[0].link", "does not exist"),), more={"nics": [{**NIC, "mode": "bridged", "link": "kept9"}]}
    ),
    Case(
        "routed",
        (("nics[0].link", "is not a routing table"), ("nics[1].link", "does not exist")),
        more={
            "nics": [
                {**NIC, "mode": "routed", "link": "kept9", "ip": "192.0.2.7"},
                {"mode": "bridged", "link": "kept8"},
            ]
        },
        where="a network that forwards",
    ),
    Case(
        "not-forwarded",
        (("nics[0].mode", "needs a node that forwards IPv4"),),
        more={"nics": [{**NIC, "mode": "routed", "ip": "192.0.2.7"}]},
        where="a network that does not forward",
    ),
    Case(
        "network-scripts",
        (("params.network_down_script", "cannot be used"), ("params.network_up_script", "cannot be used")),
        {"network_up_script": "/nonexistent/up", "network_down_script": "/nonexistent/down"},
        more={"nics": [{**NIC, "mode": "ext"}]},
    ),
    Case("user-shutdown", (("params.user_shutdown", "needs a watcher"),), {"user_shutdown": True}),
    # Who asks, and as whom it is to run.
    Case("not-root", (("params.confinement", "needs root"),), {"confinement": "strict"}, **NOBODY),
    Case("not-root-pool", (("params.security_model", "needs root"),), {"security_model": "pool"}, **NOBODY),
    Case(
        "no-such-user",
        (("params.security_domain", "is not a user of this node"),),
        {"security_model": "user", "security_domain": "kept-nobody"},
    ),
    Case(
        "user-root",
        (("params.security_domain", "is root"),),
        {"security_model": "user", "security_domain": "root"},
    ),
    # What a confined guest cannot have.
    Case("usb-host", (("params.usb_devices", "host:1234:5678 is a device"),), {"usb_devices": "host:1234:5678"}),
    # Files that are handed over.
    Case("password-empty", (("params.vnc_password_file", "has no password"),), {"vnc_password_file": "{here}/empty"}),
    Case(
        "password-long",
        (("params.vnc_password_file", "has a password of 9 bytes"),),
        {"vnc_password_file": "{here}/nine"},
    ),
    Case("password-nul", (("params.vnc_password_file", "has a NUL byte"),), {"vnc_password_file": "{here}/nul"}),
    Case(
        "password-bytes",
        (("params.vnc_password_file", "has a password that is not UTF-8"),),
        {"vnc_password_file": "{here}/latin"},
    ),
    Case("password-big", (("params.vnc_password_file", "is larger than"),), {"vnc_password_file": "{here}/disk2"}),
    Case("password-fifo", (("params.vnc_password_file", "is not a regular"),), {"vnc_password_file": "{here}/fifo"}),
    Case(
        "password-missing",
        (("params.vnc_password_file", "cannot be used (No such"),),
        {"vnc_password_file": "{here}/none"},
    ),
    Case(
        "password-unreadable",
        (("params.vnc_password_file", "cannot be read by this user"),),
        {"vnc_password_file": "{here}/ours"},
        **NOBODY,
    ),
    Case(
        "spice-password-empty",
        (("params.spice_password_file", "has no password"),),
        {"spice_bind": "127.0.0.1", "spice_password_file": "{here}/empty"},
    ),
    Case(
        "certificates",
        3 * (("params.vnc_x509_path", "cannot be read (No such"),),
        {"vnc_tls": True, "vnc_x509_path": "{here}/tpm"},
    ),
    Case(
        "spice-certificates",
        3 * (("params.spice_x509_path", "cannot be read (No such"),),
        {"spice_bind": "127.0.0.1", "spice_use_tls": True, "spice_x509_path": "{here}/tpm"},
    ),
    # Addresses and ports.
    Case(
        "interface", (("params.vnc_bind_address", "is not a network interface of this"),), {"vnc_bind_address": "kept9"}
    ),
    Case(
        "no-address",
        (("params.vnc_bind_address", "is an interface without an address"),),
        {"vnc_bind_address": "lo"},
        where="another network",
    ),
    Case("spice-interface", (("params.spice_bind", "is not a network interface of this"),), {"spice_bind": "kept9"}),
    Case(
        "no-ipv6",
        (("params.spice_bind", "is an interface without an IPv6 address"),),
        {"spice_bind": "lo", "spice_ip_version": 6},
        where="another network",
    ),
    Case(
        "port-taken",
        (("params.spice_port", "cannot be opened at 127.0.0.1 (address already in use)"),),
        {"spice_bind": "127.0.0.1", "spice_port": 5999},
        where="port 5999 taken",
    ),
    Case(
        "port-of-an-address-elsewhere",
        (("params.spice_port", "cannot be opened at 192.0.2.77 (cannot assign"),),
        {"spice_bind": "192.0.2.77", "spice_port": 5999},
    ),
    # What the binary should have brought.
    Case(
        "keymap",
        (("params.keymap", "is not part of this QEMU"),),
        {"keymap": "de"},
        where="no keymap",
    ),
    # Programs beside it.
    Case("swtpm", (("params.swtpm_path", "is not a program"),), {**TPM, "swtpm_path": "{here}/nine"}),
    Case(
        "swtpm-missing",
        (("params.swtpm_path", "cannot be used (No such"),),
        {**TPM, "swtpm_path": "{here}/none"},
    ),
    Case("tpm-foreign", (("params.tpm_state_path", "holds "),), {**TPM, "tpm_state_path": "{here}"}),
    Case(
        "tpm-missing",
        (("params.tpm_state_path", "cannot be used (No such"),),
        {**TPM, "tpm_state_path": "{here}/none"},
    ),
    Case("tpm-file", (("params.tpm_state_path", "is not a directory"),), {**TPM, "tpm_state_path": "{here}/nine"}),
    # Processors.
    Case("mask", (("params.cpu_mask", "names CPUs that this node does not have online: 4094"),), {"cpu_mask": "4094"}),
    Case(
        "mask-each",
        (("params.cpu_mask", "names CPUs that this node does not have online: 4093, 4094"),),
        {"cpu_mask": "0,4093:4094"},
        more={"vcpus": 2},
    ),
    # Disks and images.
    Case("disk-missing", (("disks[0].path", "cannot be used (No such"),), disks=("{here}/none",)),
    Case("disk-directory", (("disks[0].path", "is neither a file nor a block"),), disks=("{here}",)),
    Case("disk-fifo", (("disks[0].path", "is neither a file nor a block"),), disks=("{here}/fifo",)),
    Case(
        "disk-unreadable",
        (("disks[0].path", "no permission to read and write it"),),
        disks=("{here}/ours",),
        where="nobody",
    ),
    Case(
        "disk-read-only",
        (("disks[0].path", "no permission to read it"),),
        disks=({"path": "{here}/ours", "read_only": True},),
        where="nobody",
    ),
    Case(
        "second-disk",
        (("disks[1].path", "cannot be used (No such"), ("disks[2].path", "is not a qcow2 image")),
        disks=("{here}/disk", "{here}/none", {"path": "{here}/disk2", "format": "qcow2"}),
    ),
    Case(
        "qcow2-version",
        (("disks[0].path", "is a qcow2 image of version 4"),),
        disks=({"path": "{here}/version.qcow2", "format": "qcow2"},),
    ),
    Case(
        "qcow2-backing",
        (("disks[0].path", "is a qcow2 image with a backing file"),),
        disks=({"path": "{here}/backing.qcow2", "format": "qcow2"},),
    ),
    Case(
        "qcow2-data-file",
        (("disks[0].path", "is a qcow2 image whose data are in another"),),
        disks=({"path": "{here}/data.qcow2", "format": "qcow2"},),
    ),
    Case(
        "qcow2-corrupt",
        (("disks[0].path", "is a qcow2 image that is marked as corrupt"),),
        disks=({"path": "{here}/corrupt.qcow2", "format": "qcow2"},),
    ),
    Case("scsi-block", (("disks[0].path", "is not a block device"),), {"disk_type": "scsi-block"}),
    Case("scsi-generic", (("disks[0].path", "is not a SCSI generic"),), {"disk_type": "scsi-generic"}),
    Case(
        "rbd",
        (("disks[0].path", "the rbd library needs the node's"), ("disks[0].path", "this QEMU ")),
        {"kvm_path": "{here}/modules-qemu"},
        disks=("rbd:pool/image",),
    ),
    Case(
        "gluster",
        (("disks[0].path", "the gluster library needs the node's"), ("disks[0].path", "this QEMU ")),
        {"kvm_path": "{here}/modules-qemu"},
        disks=("gluster://server/volume/image",),
    ),
    Case(
        "cdrom-missing",
        (("params.cdrom_image_path", "cannot be used (No such"),),
        {"cdrom_image_path": "{here}/none"},
    ),
    Case(
        "cdrom-directory",
        (("params.cdrom_image_path", "is a directory, not"),),
        {"cdrom_image_path": "{here}"},
    ),
    Case("cdrom-fifo", (("params.cdrom_image_path", "is neither a file"),), {"cdrom_image_path": "{here}/fifo"}),
    Case(
        "floppy-fifo",
        (("floppy1|params.floppy_image_path", "is neither a file"),),
        {"floppy_image_path": "{here}/fifo"},
    ),
    Case(
        "floppy-missing",
        (("params.floppy_image_path", "cannot be used (No such"),),
        {"floppy_image_path": "{here}/none"},
    ),
    Case(
        "http-module",
        (("params.cdrom_image_path", "this QEMU "),),
        {"cdrom_image_path": "http://192.0.2.1/a.iso", "kvm_path": "{here}/modules-qemu"},
    ),
    # Firmware, kernel, memory.
    Case(
        "uefi-template",
        (
            ("params.uefi_vars_template", "cannot be used (No such"),
            ("params.uefi_vars_path", "does not exist, and neither does its template"),
        ),
        {**UEFI, "uefi_vars_template": "{here}/none"},
    ),
    Case(
        "uefi-directory",
        (("params.uefi_vars_path", "does not exist and cannot be created in"),),
        {**UEFI, "uefi_vars_template": "{here}/code"},
    ),
    Case(
        "uefi-forbidden",
        (("params.uefi_vars_path", "does not exist and cannot be created in"),),
        {**UEFI, "uefi_vars_template": "{here}/nine", "uefi_vars_path": "{here}/vars"},
        **NOBODY,
    ),
    Case(
        "kernel-fifo",
        (("kernel|params.kernel_path", "is not a regular file"),),
        {"kernel_path": "{here}/fifo"},
    ),
    Case(
        "kernel-missing",
        (("params.kernel_path", "cannot be used (No such"),),
        {"kernel_path": "{here}/none"},
    ),
    Case("memory-room", (("params.mem_path", "has "),), {"mem_path": "{here}/small"}, more={"memory_mib": 64}),
    Case("memory-pages", (("params.mem_path", "has pages of 2 MiB"),), {"mem_path": "{here}/huge"}),
    Case(
        "memory-missing",
        (("params.mem_path", "cannot be used (No such"),),
        {"mem_path": "{here}/none"},
    ),
    # The binary.
    Case("not-qemu", (("params.kvm_path", "is not a usable QEMU"),), {"kvm_path": "/bin/true"}),
    Case(
        "no-qemu",
        (("params.kvm_path", "cannot be used (No such"),),
        {"kvm_path": "{here}/none"},
    ),
    Case("cpu-unknown", (("params.cpu_type", "this QEMU "),), {"cpu_type": "kept"}),
    Case("machine-unknown", (("params.machine_version", "this QEMU "),), {"machine_version": "pc-i440fx-99.0"}),
    Case("machine-small", (("vcpus", "is more than the 255 vCPUs"),), more={"vcpus": 256}),
    Case(
        "lesser-qemu",
        (
            ("params.use_guest_agent", "this QEMU "),
            ("params.soundhw", "this QEMU "),
            ("params.memory_balloon", "this QEMU "),
            ("params.cdrom_disk_type", "this QEMU "),
            ("params.cpu_type", "this QEMU "),
            ("params.disk_type", "this QEMU "),
            ("params.floppy_image_path", "this QEMU "),
            ("params.nic_type", "this QEMU "),
            ("params.virtio_rng", "this QEMU "),
            ("params.confinement", "this QEMU "),
            ("params.spice_bind", "this QEMU "),
            ("params.tpm_version", "this QEMU "),
            ("params.usb_mouse", "this QEMU "),
            ("params.vga", "this QEMU "),
        ),
        {
            **TPM,
            "kvm_path": "{here}/lesser-qemu",
            "use_guest_agent": True,
            "soundhw": "ac97",
            "memory_balloon": True,
            "cdrom_image_path": "{here}/disk2",
            "cpu_type": "qemu64",
            "floppy_image_path": "{here}/disk2",
            "virtio_rng": True,
            "spice_bind": "127.0.0.1",
            "usb_mouse": "tablet",
            "vga": "virtio",
        },
        more={"nics": [NIC]},
    ),
    Case(
        "lesser-qemu-scsi",
        (
            ("params.disk_type", "this QEMU "),
            ("params.boot_firmware", "this QEMU "),
            ("params.confinement", "this QEMU "),
            ("params.scsi_controller_type", "this QEMU "),
            ("params.usb_mouse", "this QEMU "),
            ("params.vnc_tls", "this QEMU "),
        ),
        {
            "kvm_path": "{here}/lesser-qemu",
            "disk_type": "scsi-hd",
            "scsi_controller_type": "virtio-scsi-pci",
            "vnc_tls": True,
            **UEFI,
            "uefi_vars_path": "{here}/vars",
            "uefi_vars_template": "{here}/code",
        },
    ),
    Case(
        "spice-module",
        (("params.spice_bind", "this QEMU "),),
        {"kvm_path": "{here}/modules-qemu", "spice_bind": "127.0.0.1"},
    ),
    # chroot
    chroot("not-root", (("privileges", "only root can mount"),), **NOBODY),
    chroot(
        "users", (("params.user_namespace", "is not possible"),), params={"network": "none"}, where="user namespace"
    ),
    chroot("architecture", (("params.seccomp", "has no profile"),), where="32 bits"),
    chroot(
        "tools",
        tuple((name, "is not installed") for name in ("bwrap", "mount", "setpriv")),
        where="no programs",
    ),
    chroot(
        "tools-users",
        tuple((name, "is not installed") for name in ("bwrap", "mount", "setpriv", "nsenter", "unshare")),
        params={"network": "none"},
        where="no programs",
    ),
    chroot(
        "tools-plain",
        tuple((name, "is not installed") for name in ("chroot", "env", "mount")),
        params={"isolation": "none"},
        where="no programs",
    ),
    chroot(
        "limits",
        (("privileges", "only root can mount"), ("params", "the limits cannot be set")),
        params={"process_limit": 10},
        **NOBODY,
    ),
    chroot("disk-directory", (("disks[0].path", "is a directory"),), disks=("{here}",)),
    chroot("disk-missing", (("disks[0].path", "does not exist"),), disks=("{here}/none",)),
    chroot("disk-fifo", (("disks[0].path", "cannot be used ("),), disks=("{here}/fifo",)),
    chroot("disk-empty", (("disks[0].path", "is empty"),), disks=("{here}/empty",)),
    chroot(
        "disk-forbidden",
        (("privileges", "only root can mount"), ("disks[0].path", "cannot be read and written")),
        disks=("{here}/ours",),
        where="nobody",
    ),
    chroot(
        "root-missing",
        (("params.root_directory", "cannot be used (No such"),),
        params={"root_directory": "{here}/none"},
        disks=(),
    ),
    chroot(
        "root-file",
        (("params.root_directory", "is not a directory"),),
        params={"root_directory": "{here}/disk"},
        disks=(),
    ),
    chroot(
        "overlay-missing",
        (("params.overlay_directory", "cannot be used (No such"),),
        params={"overlay": "directory", "overlay_directory": "{here}/none"},
    ),
    chroot("bind-missing", (("params.binds", "does not exist"),), params={"binds": ["{here}/none:/mnt"]}),
    chroot(
        "bridges",
        (("nics[0].link", "does not exist on this node"), ("nics[1].link", "is not a bridge")),
        params=VETH,
        more={"nics": [{"mode": "bridged", "link": "br9"}, {"mode": "bridged", "link": "lo"}]},
        where="another network",
    ),
)


def nobody(here: Path) -> None:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def nobodys(driver: str, here: Path) -> hvcore.DriverHandle:
    """The driver, loaded by root, of a node that user nobody made: nobody may not be able to read the checkout."""
    os.setresuid(65534, 65534, 0)
    try:
        asking = hvcore.Node(here / "nowhere")
    finally:
        os.setresuid(0, 0, 0)
    return asking.driver(driver)


def user_namespace(here: Path) -> None:
    kept_node.unshare(kept_node.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    for kind in ("uid", "gid"):
        Path(f"/proc/self/{kind}_map").write_text("0 0 1\n")


def no_keymap(here: Path) -> None:
    kept_node.unshare_mounts()
    subprocess.run(["mount", "--bind", str(here / "tpm"), "/usr/share/qemu/keymaps"], check=True)


def thirty_two_bits(here: Path) -> None:
    assert ctypes.CDLL(None).personality(8) == 0  # PER_LINUX32, linux/personality.h


def taken(here: Path) -> None:
    listening = socket.socket()
    with contextlib.suppress(OSError):  # another program of this node has it
        listening.bind(("127.0.0.1", 5999))
        listening.listen(1)
    listening.detach()  # for as long as this child lives


def forwarding(value: str) -> None:
    """Enter another network, which forwards IPv4 packets or not."""
    kept_node.unshare(kept_node.CLONE_NEWNET)
    Path("/proc/sys/net/ipv4/ip_forward").write_text(value, encoding="ascii")


WHERE: Final[dict[str, Callable[[Path], object]]] = {
    "nobody": nobody,
    "user namespace": user_namespace,
    "another network": lambda here: kept_node.unshare(kept_node.CLONE_NEWNET),
    "a network that forwards": lambda here: forwarding("1"),
    "a network that does not forward": lambda here: forwarding("0"),
    "no keymap": no_keymap,
    "32 bits": thirty_two_bits,
    "no programs": lambda here: os.environ.update(PATH=str(here)),
    "port 5999 taken": taken,
}


def qcow2(*, version: int = 3, backing: int = 0, features: int = 0) -> bytes:
    return struct.pack(">4sIQ56xQ24x", b"QFI\xfb", version, backing, features)


FILES: Final = {
    "empty": b"",
    "nine": b"123456789\n",
    "nul": b"ab\0cd\n",
    "latin": b"\xfc\n",
    "ours": b"secret\n",
    "everybodys": bytes(1 << 20),
    "version.qcow2": qcow2(version=4),
    "backing.qcow2": qcow2(backing=512),
    "data.qcow2": qcow2(features=1 << 2),
    "corrupt.qcow2": qcow2(features=1 << 1),
}


@pytest.fixture(scope="module")
def here(needs: None) -> Iterator[Path]:
    """Files of every kind that the cases use, in a directory that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="kept-"))
    os.chmod(folder, 0o755)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
        os.chmod(folder / name, {"ours": 0o600, "everybodys": 0o666}.get(name, 0o644))
    for name in ("disk", "disk2", "code"):
        (folder / name).write_bytes(b"")
        os.truncate(folder / name, 2 << 20)
    for name in ("disk", "everybodys"):
        subprocess.run(["mkfs.ext4", "-q", "-F", str(folder / name)], check=True)
    os.mkfifo(folder / "fifo")
    for name in ("tpm", "small", "huge"):
        (folder / name).mkdir()
    for name, lacks in (("lesser-qemu", LACKS), ("modules-qemu", ("chardev-spicevmc",))):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{LESSER.format(lacks=lacks)}")
        (folder / name).chmod(0o755)
    for name, how in (("small", ("-t", "tmpfs", "-o", "size=8m")), ("huge", ("-t", "hugetlbfs", "-o", "pagesize=2M"))):
        subprocess.run(["mount", *how, "none", str(folder / name)], check=True)
    yield folder
    for name in ("small", "huge"):
        subprocess.run(["umount", str(folder / name)], check=True)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def node(here: Path) -> hvcore.Node:
    made = hvcore.Node(here / "run")
    (here / "run").mkdir(mode=0o700)  # what was found out about QEMU is remembered there
    for driver in ("kvm", "chroot"):
        made.driver(driver)
    return made


def filled(value: Any, here: Path) -> Any:
    """The value with the directory of `files` in place of its name."""
    if isinstance(value, str):
        return value.replace("{here}", str(here))
    if isinstance(value, dict):
        return {key: filled(one, here) for key, one in value.items()}
    return [filled(one, here) for one in value] if isinstance(value, (list, tuple)) else value


def built(case: Case, here: Path) -> hvcore.Instance:
    disks = [{"path": disk} if isinstance(disk, str) else disk for disk in case.disks]
    params: dict[str, Any] = (
        {"vnc_bind_address": "127.0.0.1"} if any("vnc" in key or key == "keymap" for key in case.params) else {}
    )
    if case.driver == "kvm":
        params |= {"kvm_flag": "disabled", "memory_balloon": False, "virtio_rng": False}
    memory = {"memory_mib": 33 if case.id == "memory-pages" else 32, "vcpus": 1}
    more = {key: value for key, value in case.more.items() if key != "nics"}
    return hvcore.Instance(
        name="kept",
        driver=case.driver,
        disks=tuple(hvcore.Disk(**filled(disk, here)) for disk in disks),
        nics=tuple(hvcore.Nic(**nic) for nic in case.more.get("nics", ())),
        params={key: one for key, one in {**params, **filled(case.params, here)}.items() if one is not None},
        **{**memory, **more},
    )


def refusals(driver: hvcore.DriverHandle, instance: hvcore.Instance) -> list[list[str]]:
    try:
        driver.verify(instance)
    except hvcore.VerifyError as error:
        return [[problem.path, problem.what] for problem in error.problems]
    return []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_verify_refuses(case: Case, here: Path, node: hvcore.Node) -> None:
    if case.where == "user namespace" and kept_node.in_plain_chroot():
        pytest.skip("the kernel makes no user namespaces in a chroot")
    instance = built(case, here)
    asked = node.driver(case.driver)
    if case.where:
        if case.where == "nobody":
            fit = Case("fit", (), driver=case.driver)
            refusals(asked, built(fit, here))  # imports what is needed, while the checkout can be read
            asked = nobodys(case.driver, here)

        def ask() -> list[list[str]]:
            WHERE[case.where](here)
            return refusals(asked, instance)

        found = kept_node.forked(ask)
    else:
        found = refusals(asked, instance)
    assert isinstance(found, list), found
    found, expected = sorted(found), sorted(case.expected)  # the order says nothing
    places = [path.split("|") for path, _ in expected]
    assert len(found) == len(places), found
    assert all(path in allowed for (path, _), allowed in zip(found, places, strict=True)), found
    assert [what for (_, what), (_, text) in zip(found, expected, strict=True) if not what.startswith(text)] == []


def test_kvm_that_does_not_work_is_refused(here: Path, node: hvcore.Node) -> None:
    found = {one.subject: one.severity for one in node.driver("kvm").examine()}
    if found["/dev/kvm"] is hvcore.Severity.OK:
        pytest.skip("KVM works here")
    flag, cpu = Case("flag", (), {"kvm_flag": "enabled"}), Case("cpu", (), {"kvm_flag": None, "cpu_type": "host"})
    assert [path for path, _ in refusals(node.driver("kvm"), built(flag, here))] == ["params.kvm_flag"]
    assert [(path, what[:9]) for path, what in refusals(node.driver("kvm"), built(cpu, here))] == [
        ("params.cpu_type", "needs KVM")
    ]


@pytest.mark.parametrize("driver", ["kvm", "chroot"])
def test_what_is_fit_is_not_refused(driver: str, here: Path, node: hvcore.Node) -> None:
    assert refusals(node.driver(driver), built(Case("fit", (), driver=driver), here)) == []


def test_the_command_line_refuses_the_same(here: Path, node: hvcore.Node) -> None:
    file = here / "kept.toml"
    file.write_text(f'name = "kept"\ndriver = "kvm"\n[[disks]]\npath = "{here}/none"\n[params]\nuser_shutdown = true\n')
    command = [str(Path(sys.executable).with_name("hv")), "--run-dir", str(here / "run"), "verify", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    places = [line.split(":")[0].strip() for line in done.stderr.splitlines()[1:]]
    assert places == ["params.user_shutdown", "disks[0].path"]
