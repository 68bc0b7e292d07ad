"""The firmware, SeaBIOS or UEFI, and what it boots: a device, or a kernel that QEMU loads directly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import descriptors, file_props, read_only_image
from hv_kvm.devices.shared.buses import first_by_boot_order
from hv_kvm.devices.shared.params import new_file, problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings, Image, ShownFile
from hv_kvm.machine.spec import Device, KvmSpec, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "DirectKernel", "Uefi", "assess", "check", "plan", "render", "verify"]

_DEBIAN: Final = "/usr/share/OVMF"
_UEFI_KEYS: Final = ("uefi_vars_path", "uefi_secure_boot", "uefi_code_path", "uefi_vars_template")
_FIRMWARE_KEYS: Final = frozenset((*_UEFI_KEYS, "boot_firmware"))
_CODE: Final = "pflash0"
_VARS: Final = "pflash1"

PARAMS: Final = hv.ParamGroup(
    "boot",
    hv.Param(
        "boot_firmware",
        hv.one_of({"bios": "SeaBIOS, which is part of QEMU.", "uefi": "UEFI (OVMF). Needs uefi_vars_path."}),
        default="bios",
        help="The firmware that starts the guest.",
        example="uefi",
    ),
    hv.Param(
        "uefi_vars_path",
        new_file(),
        help="The file in which UEFI keeps the variables of this instance. If the file does not exist, the start makes it "
        "from uefi_vars_template.",
        default_means="none, but UEFI needs one",
        example="/srv/web1.nvram",
    ),
    hv.Param(
        "uefi_secure_boot",
        hv.boolean(),
        default=False,
        help="Whether UEFI refuses boot loaders without a trusted signature. Needs a q35 machine.",
        example=True,
    ),
    hv.Param(
        "uefi_code_path",
        hv.file(),
        help="The file with the code of the UEFI firmware.",
        default_means=f"the file of Debian's package ovmf in {_DEBIAN}",
        example=f"{_DEBIAN}/OVMF_CODE_4M.fd",
    ),
    hv.Param(
        "uefi_vars_template",
        hv.file(),
        help="The file from which uefi_vars_path is made.",
        default_means="the file of Debian's package ovmf; for secure boot, the one with Microsoft's keys",
        example=f"{_DEBIAN}/OVMF_VARS_4M.fd",
    ),
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
    help="The guest's firmware, and what it boots.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uefi(Device):
    """Two flash memories: the code, which is read-only, and the variables of this instance."""

    code: str
    variables: str
    template: str
    secure: bool

    @property
    def code_image(self) -> Image:
        """The code."""
        return Image(key=_CODE, given_by="params.uefi_code_path", path=self.code, fdset=1, write=False, claim=False)

    @property
    def variables_image(self) -> Image:
        """The variables, copied from their template if the file does not exist."""
        return Image(
            key=_VARS,
            given_by="params.uefi_vars_path",
            path=self.variables,
            fdset=2,
            write=True,
            claim=True,
            template=self.template,
        )

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """Both files."""
        yield from (self.code_image, self.variables_image)


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


DEVICES: Final = (Uefi, DirectKernel)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """UEFI and a kernel need their files, the boot device must exist, and boot indexes must differ."""
    if params.any_given(_FIRMWARE_KEYS):
        yield from _firmware(params)
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


def _firmware(params: hv.Params) -> Iterator[hv.Problem]:
    if params["boot_firmware"] == "bios":
        for key in filter(params.get, _UEFI_KEYS):
            yield problem(params, key, "is set, but boot_firmware is 'bios'", 'set boot_firmware = "uefi"')
        return
    if params["uefi_vars_path"] is None:
        what = "is not set, but UEFI keeps its variables there"
        yield problem(params, "uefi_vars_path", what, "name a file; the first start makes it")
    if params["uefi_secure_boot"] and "q35" not in params["machine_version"]:
        yield problem(params, "machine_version", "does not support secure boot", 'set machine_version = "q35"')
    if params["boot_order"] == "floppy" and not params["kernel_path"]:
        yield problem(params, "boot_order", "UEFI cannot boot from a floppy", "use a CD-ROM drive")


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
    """The flash memories of UEFI, and the kernel. SeaBIOS is the default of QEMU."""
    if params["boot_firmware"] == "uefi":
        secure = params["uefi_secure_boot"]
        code = "OVMF_CODE_4M.secboot.fd" if secure else "OVMF_CODE_4M.fd"
        template = "OVMF_VARS_4M.ms.fd" if secure else "OVMF_VARS_4M.fd"
        yield Uefi(
            code=params["uefi_code_path"] or f"{_DEBIAN}/{code}",
            variables=params["uefi_vars_path"],
            template=params["uefi_vars_template"] or f"{_DEBIAN}/{template}",
            secure=secure,
        )
    if params["kernel_path"]:
        console = f"console=ttyS0,{params['serial_speed']}" if params["serial_console"] else ""
        command_line = " ".join(filter(None, (f"root={params['root_path']}", params["kernel_args"], console)))
        yield DirectKernel(kernel=params["kernel_path"], initrd=params["initrd_path"], command_line=command_line)


@hv.hookimpl
@when_planned(Uefi)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """Flash memory must exist in this QEMU."""
    if spec.of(Uefi) and not facts.has_type("cfi.pflash01"):
        what = f"this QEMU ({facts.version}) has no flash memory"
        yield hv.Problem(path="params.boot_firmware", what=what, got="'uefi'", todo="use 'bios'")


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The flash memories and the machine options that use them, strict boot order, and the kernel."""
    for uefi in spec.of(Uefi):
        code, variables = bindings[uefi.code_image], bindings[uefi.variables_image]
        yield from descriptors(code, uefi.code)
        yield read_only_image(_CODE, file_props(code), ("uefi_code_path",))
        yield from descriptors(variables, uefi.variables)
        node: Props = {"driver": "raw", "node-name": _VARS, **file_props(variables)}
        yield Opt(name="-blockdev", props=node, params=("uefi_vars_path",))
        secure = True if uefi.secure else None
        machine: Props = {_CODE: _CODE, _VARS: _VARS, "smm": secure}
        yield Opt(name="-machine", props=machine, params=("boot_firmware", "uefi_secure_boot"))
        if secure:
            fixed: Props = {"driver": "cfi.pflash01", "property": "secure", "value": True}
            why = "only the firmware can write to the variables"
            yield Opt(name="-global", props=fixed, params=("uefi_secure_boot",), why=why)
    why = "the firmware boots only devices with a boot index"
    yield Opt(name="-boot", props={"strict": True}, params=("boot_order",), why=why)
    for kernel in spec.of(DirectKernel):
        yield Opt(name="-kernel", head=bindings[kernel.kernel_file].path, plain=True, params=("kernel_path",))
        if kernel.initrd_file is not None:
            yield Opt(name="-initrd", head=bindings[kernel.initrd_file].path, plain=True, params=("initrd_path",))
        words = ("root_path", "kernel_args", "serial_console", "serial_speed")
        yield Opt(name="-append", head=kernel.command_line, plain=True, params=words)
