"""The serial console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import GUEST_USER, Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.paths import SERIAL, SERIAL_LOG
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Serial", "plan", "render"]

_SOCKET: Final = hv.UnixSocket(key=SERIAL)
# With the uid of the guest, which cannot reach it from its own PID namespace and mounts: one guest takes one uid.
_HISTORY: Final = hv.OutputHistory(
    key="serial.history", given_by="params.serial_log", file=SERIAL_LOG, owner=GUEST_USER, also=hv.LOG
)
_FDSET: Final = 3
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
        "serial_log",
        hv.boolean(),
        default=True,
        help="Whether the last MiB that the guest writes to its serial port is kept, for hv console --log. It can contain "
        "secrets that the guest shows; only the user who started the instance can read it.",
        changes="launch",
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
    """A 16550 UART at COM1, on a Unix socket of the node. ``log``: the end of its output is kept."""

    log: bool = False

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The socket that `hv console` connects to, and the reader of the output."""
        yield _SOCKET
        if self.log:
            yield _HISTORY


DEVICES: Final = (Serial,)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One port, or none."""
    if params["serial_console"]:
        yield Serial(log=params["serial_log"])


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The socket exists before QEMU starts and is passed as a descriptor, so its path cannot be too long for QEMU.

    QEMU's log file is a pipe: its space is not bounded, and `hvcore.plugin.OutputHistory` bounds it. QEMU appends to it,
    because it would empty a file, and a pipe cannot be emptied.
    """
    for serial in spec.of(Serial):
        props: Props = {"id": "serial0", "fd": bindings[_SOCKET], "server": True, "wait": False}
        if serial.log:
            pipe: Props = {"fd": bindings[_HISTORY], "set": _FDSET, "opaque": _HISTORY.key}
            yield Opt(name="-add-fd", props=pipe, params=("serial_log",), why="to the program that keeps the output")
            props |= {"logfile": f"/dev/fdset/{_FDSET}", "logappend": True}
        yield Opt(name="-chardev", head="socket", props=props, params=("serial_console",))
        yield Opt(name="-serial", head="chardev:serial0", plain=True, params=("serial_console",))
