"""What the guest boots: a device that the firmware finds, or a kernel that QEMU loads directly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.buses import first_by_boot_order
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.option import Opt
from hv_kvm.machine.resource import Bindings, ShownFile
from hv_kvm.machine.spec import Device, KvmSpec

__all__ = ["DEVICES", "PARAMS", "DirectKernel", "assess", "check", "plan", "render"]

PARAMS: Final = hv.ParamGroup(
    "boot",
    hv.Param(
        "boot_order",
        hv.one_of(
            {
                "disk": "The first disk, or the disks that have a boot_index.",
                "cdrom": "The first CD-ROM drive.",
                "floppy": "The floppy drive.",
                "network": "The first NIC, or the NICs that have a boot_index.",
            }
        ),
        default="disk",
        help="The device that the firmware tries to boot first. Other disks and NICs follow if they have a boot_index.",
        example="cdrom",
    ),
    hv.Param(
        "kernel_path",
        hv.file(),
        help="The Linux kernel on the node that QEMU starts directly, in place of a boot device.",
        default_means="none: the firmware boots a device",
        example="/boot/vmlinuz",
    ),
    hv.Param(
        "initrd_path",
        hv.file(),
        help="The initial RAM disk for the kernel of kernel_path.",
        default_means="none",
        example="/boot/initrd.img",
    ),
    hv.Param(
        "root_path",
        hv.text(max_bytes=256, empty=True),
        default="/dev/vda1",
        help="The guest's root device. The kernel of kernel_path gets it as root=.",
        example="LABEL=root",
    ),
    hv.Param(
        "kernel_args",
        hv.text(max_bytes=2000, empty=True),
        default="ro",
        help="More arguments for the kernel of kernel_path. hv adds console= for the serial console.",
        example="ro quiet",
    ),
    help="What the guest boots.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectKernel(Device):
    """A kernel of the node, its initial RAM disk, and its command line."""

    kernel: str
    initrd: str | None
    command_line: str

    @property
    def kernel_file(self) -> ShownFile:
        """The kernel, by path: QEMU takes no descriptor for it or for the initial RAM disk."""
        return ShownFile(key="kernel", given_by="params.kernel_path", path=self.kernel)

    @property
    def initrd_file(self) -> ShownFile | None:
        """The initial RAM disk."""
        if self.initrd is None:
            return None
        return ShownFile(key="initrd", given_by="params.initrd_path", path=self.initrd)

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """Both files."""
        yield self.kernel_file
        if self.initrd_file is not None:
            yield self.initrd_file


DEVICES: Final = (DirectKernel,)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """A kernel needs a root device, a RAM disk needs a kernel, the boot device must exist, and boot indexes must differ."""
    yield from _boot_indexes(instance, params)
    if params["initrd_path"] and not params["kernel_path"]:
        yield problem(params, "initrd_path", "is set without a kernel", "set kernel_path too")
    order = params["boot_order"]
    if params["kernel_path"]:
        if not params["root_path"]:
            yield problem(params, "root_path", "is empty, but kernel_path is set", "name the root device")
    elif order in ("cdrom", "floppy") and not params[f"{order}_image_path"]:
        yield problem(params, "boot_order", f"the guest has no {order}", f"set {order}_image_path")
    elif order == "network" and not instance.nics:
        yield problem(params, "boot_order", "the guest has no NIC", "add one under [[nics]]")


def _boot_indexes(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """QEMU refuses two devices with one boot index, also if one of them follows from boot_order."""
    taken: dict[int, str] = {}
    given = [(f"disks[{number}]", disk.boot_index) for number, disk in enumerate(instance.disks)]
    given += [(f"nics[{number}]", nic.boot_index) for number, nic in enumerate(instance.nics)]
    for place, index in given:
        if index is None:
            continue
        if not taken and (first := first_by_boot_order(instance, params)) is not None:
            taken[1] = f"{first} (by boot_order)"
        if index in taken:
            what = f"is already the boot index of {taken[index]}"
            yield hv.Problem(path=f"{place}.boot_index", what=what, got=str(index), todo="give another")
        else:
            taken[index] = place


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """With a kernel, the firmware boots no device."""
    if params["kernel_path"] and params["boot_order"] != "disk":
        yield problem(params, "boot_order", "has no effect with kernel_path", "unset one of them")


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """The kernel, if there is one."""
    if params["kernel_path"]:
        console = f"console=ttyS0,{params['serial_speed']}" if params["serial_console"] else ""
        command_line = " ".join(filter(None, (f"root={params['root_path']}", params["kernel_args"], console)))
        yield DirectKernel(kernel=params["kernel_path"], initrd=params["initrd_path"], command_line=command_line)


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Strict boot order, and the kernel."""
    yield Opt(
        name="-boot",
        props={"strict": True},
        params=("boot_order",),
        why="the firmware boots only devices with a boot index",
    )
    for kernel in spec.of(DirectKernel):
        yield Opt(name="-kernel", head=bindings[kernel.kernel_file].path, plain=True, params=("kernel_path",))
        if kernel.initrd_file is not None:
            yield Opt(name="-initrd", head=bindings[kernel.initrd_file].path, plain=True, params=("initrd_path",))
        words = ("root_path", "kernel_args", "serial_console", "serial_speed")
        yield Opt(name="-append", head=kernel.command_line, plain=True, params=words)
