"""USB: a controller, a pointing device, and other devices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import lacking, listed
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Outside
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "UsbController", "UsbDevice", "plan", "render", "verify"]

_MODELS: Final = {
    "mouse": "usb-mouse",
    "tablet": "usb-tablet",
    "keyboard": "usb-kbd",
    "wacom-tablet": "usb-wacom-tablet",
    "ccid": "usb-ccid",
    "hub": "usb-hub",
}
_HOST: Final = re.compile("host:(?:([0-9a-f]{4}):([0-9a-f]{4})|([0-9]{1,3})[.]([0-9]{1,3}))")
_EXPECTS: Final = (
    f"one or more of {', '.join(_MODELS)}, host:VENDOR:PRODUCT (four hexadecimal digits each) "
    "and host:BUS.ADDRESS, separated by commas or spaces"
)
_ITEM: Final = f"{'|'.join(_MODELS)}|host:[0-9A-Fa-f]{{4}}:[0-9A-Fa-f]{{4}}|host:[0-9]{{1,3}}[.][0-9]{{1,3}}"

PARAMS: Final = hv.ParamGroup(
    "usb",
    hv.Param(
        "usb_mouse",
        hv.one_of(
            {
                "mouse": "A mouse, which reports movements. A viewer has to grab the pointer.",
                "tablet": "A tablet, which reports positions. The guest's pointer follows the viewer's.",
                "none": "Only the PS/2 mouse of the machine.",
            }
        ),
        help="The USB pointing device of the guest.",
        default_means="tablet with a VNC display, else none",
        example="tablet",
    ),
    hv.Param(
        "usb_devices",
        listed(_ITEM, _EXPECTS, max_items=8),
        help="More USB devices of the guest. Devices of the node (host:) need confinement off.",
        default_means="none",
        example="keyboard,wacom-tablet",
    ),
    help="The guest's USB devices.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbController(PciDevice):
    """The controller, if there is a device: UHCI on pc, xHCI on q35."""

    q35: bool

    on_board: ClassVar[bool] = True

    @property
    def model(self) -> str:
        """The type of QEMU's device."""
        return "qemu-xhci" if self.q35 else "piix3-usb-uhci"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbDevice(Device):
    """One device, as written in its parameter ``key``."""

    index: int
    key: str
    what: str

    @property
    def model(self) -> str:
        """The type of QEMU's device."""
        return _MODELS.get(self.what, "usb-host")

    @property
    def label(self) -> str:
        """That of its device ends with ``-dev``."""
        return f"usb{self.index}"

    def fixed(self, spec: KvmSpec) -> None:
        """A USB device can be plugged on every machine with a controller."""

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """A device of the node needs /dev/bus/usb, where its path changes each time it is plugged in."""
        if self.model == "usb-host":
            reason = f"{self.what} is a device of the node"
            yield Outside(key=f"usb{self.index}.outside", given_by=f"params.{self.key}", reason=reason)


DEVICES: Final = (UsbController, UsbDevice)


@hv.hookimpl
@hv.when_given("usb_mouse", "usb_devices", "vnc_bind_address")
def plan(params: hv.Params) -> Iterator[Device]:
    """The devices, and a controller for them."""
    mouse = params["usb_mouse"] or ("tablet" if params["vnc_bind_address"] is not None else "none")
    wanted = [("usb_mouse", mouse)] if mouse != "none" else []
    wanted += [("usb_devices", word) for word in (params["usb_devices"] or "").split(",") if word]
    if wanted:
        yield UsbController(q35="q35" in params["machine_version"])
    for index, (key, what) in enumerate(wanted):
        yield UsbDevice(index=index, key=key, what=what)


@hv.hookimpl
@when_planned(UsbController, UsbDevice)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have the controller and the devices; usb-host may be in a separate package."""
    needed = {(device.key, device.model) for device in spec.of(UsbDevice)}
    needed |= {("usb_mouse", controller.model) for controller in spec.of(UsbController)}
    for key, model in sorted(needed):
        yield from lacking(facts, model, f"params.{key}", "remove it, or install the package of QEMU that has it")


@hv.hookimpl
@when_planned(UsbController, UsbDevice)
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Controller and devices."""
    for controller in spec.of(UsbController):
        place: Props = {"id": "usb", **controller.address(spec)}
        yield Opt(name="-device", head=controller.model, props=place, params=("usb_mouse", "usb_devices"))
    for device in spec.of(UsbDevice):
        props: Props = {"id": f"usb{device.index}-dev", "bus": "usb.0", **_host(device.what)}
        yield Opt(name="-device", head=device.model, props=props, params=(device.key,))


def _host(what: str) -> Props:
    found = _HOST.fullmatch(what)
    if found is None:
        return {}
    vendor, product, bus, address = found.groups()
    if vendor is not None:
        return {"vendorid": int(vendor, 16), "productid": int(product, 16)}
    return {"hostbus": int(bus), "hostaddr": int(address)}
