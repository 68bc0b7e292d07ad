"""The serial console."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.paths import SERIAL

__all__ = ["DEVICES", "PARAMS", "Serial", "plan", "render"]

_SOCKET: Final = hv.UnixSocket(key=SERIAL)
_SPEEDS: Final = (
    *(75, 110, 300, 600, 1200, 1800, 2400, 4800, 9600, 14400, 19200, 28800),
    *(38400, 57600, 115200, 230400, 345600, 460800),
)

PARAMS: Final = hv.ParamGroup(
    "serial",
    hv.Param(
        "serial_console",
        hv.boolean(),
        default=True,
        help="Whether the guest has a serial port (COM1), to which hv console connects.",
        example=False,
    ),
    hv.Param(
        "serial_speed",
        hv.one_of(*_SPEEDS),
        default=38400,
        unit="bits per second",
        help="The speed in the console= argument of a kernel that kernel_path names.",
        example=115200,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serial(Device):
    """A 16550 UART at COM1, on a Unix socket of the node."""

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The socket that `hv console` connects to."""
        yield _SOCKET


DEVICES: Final = (Serial,)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One port, or none."""
    if params["serial_console"]:
        yield Serial()


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The socket exists before QEMU starts and is passed as a descriptor, so its path cannot be too long for QEMU."""
    for _ in spec.of(Serial):
        props: Props = {"id": "serial0", "fd": bindings[_SOCKET], "server": True, "wait": False}
        yield Opt(name="-chardev", head="socket", props=props, params=("serial_console",))
        yield Opt(name="-serial", head="chardev:serial0", plain=True, params=("serial_console",))
