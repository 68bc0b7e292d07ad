"""The firmware: SeaBIOS, which is part of QEMU, or UEFI with the instance's own variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import descriptors, file_props, read_only_image
from hv_kvm.devices.shared.params import new_file, problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings, Image
from hv_kvm.machine.spec import Device, KvmSpec, when_planned

__all__ = ["DEVICES", "PARAMS", "Uefi", "check", "plan", "render", "verify"]

_DEBIAN: Final = "/usr/share/OVMF"

PARAMS: Final = hv.ParamGroup(
    "firmware",
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
    help="The guest's firmware.",
)
_CODE: Final = "pflash0"
_VARS: Final = "pflash1"


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


DEVICES: Final = (Uefi,)


@hv.hookimpl
@hv.when_given(*(param.key for param in PARAMS))
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """UEFI needs a file for its variables, and the other parameters need UEFI."""
    if params["boot_firmware"] == "bios":
        for param in PARAMS.params[1:]:
            if params[param.key]:
                what = "is set, but boot_firmware is 'bios'"
                yield problem(params, param.key, what, 'set boot_firmware = "uefi"')
        return
    if params["uefi_vars_path"] is None:
        what = "is not set, but UEFI keeps its variables there"
        yield problem(params, "uefi_vars_path", what, "name a file; the first start makes it")
    if params["uefi_secure_boot"] and "q35" not in params["machine_version"]:
        yield problem(params, "machine_version", "does not support secure boot", 'set machine_version = "q35"')
    if params["boot_order"] == "floppy" and not params["kernel_path"]:
        yield problem(params, "boot_order", "UEFI cannot boot from a floppy", "use a CD-ROM drive")


@hv.hookimpl
@hv.when_given("boot_firmware")
def plan(params: hv.Params) -> Iterator[Device]:
    """The flash memories of UEFI. SeaBIOS is the default of QEMU."""
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


@hv.hookimpl
@when_planned(Uefi)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """Flash memory must exist in this QEMU."""
    if spec.of(Uefi) and not facts.has_type("cfi.pflash01"):
        what = f"this QEMU ({facts.version}) has no flash memory"
        yield hv.Problem(path="params.boot_firmware", what=what, got="'uefi'", todo="use 'bios'")


@hv.hookimpl
@when_planned(Uefi)
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Two block nodes, and the machine options that use them."""
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
            yield Opt(
                name="-global",
                props=fixed,
                params=("uefi_secure_boot",),
                why="only the firmware can write to the variables",
            )
