"""QEMU's monitors: one for commands, one for recovery, and a journal of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import GUEST_DIRECTORY, Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.paths import COMMANDS, EVENTS, PIDFILE, RECOVERY
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "Monitor", "plan", "render"]

_SOCKETS: Final = (hv.UnixSocket(key=COMMANDS), hv.UnixSocket(key=RECOVERY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor(Device):
    """The monitors, which every guest has."""

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The sockets. QEMU serves one client per monitor, so recovery has a monitor that commands never occupy."""
        yield GUEST_DIRECTORY
        yield from _SOCKETS


DEVICES: Final = (Monitor,)


@hv.hookimpl
def plan() -> Iterator[Device]:
    """The monitors."""
    yield Monitor()


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Two sockets, passed as descriptors; a pair of pipes for the events; the pidfile, which QEMU locks."""
    for _ in spec.of(Monitor):
        for socket, why in zip(_SOCKETS, ("commands", "recovery, when commands hang"), strict=True):
            name = socket.key
            props: Props = {"id": name, "fd": bindings[socket], "server": True, "wait": False}
            yield Opt(name="-chardev", head="socket", props=props, why=f"QMP for {why}")
            yield Opt(name="-qmp", head=f"chardev:{name}", plain=True, why=f"QMP for {why}")
        # events.in is a FIFO that contains qmp_capabilities, events.out a plain file: QEMU itself writes the journal.
        props = {"id": EVENTS, "path": f"{bindings.guest_dir}/{EVENTS}"}
        yield Opt(name="-chardev", head="pipe", props=props, why="journal of events, read without asking QEMU")
        yield Opt(name="-qmp", head=f"chardev:{EVENTS}", plain=True, why="journal of events")
        path = f"{bindings.guest_dir}/{PIDFILE}"
        yield Opt(name="-pidfile", head=path, plain=True, why="QEMU locks the file, which proves that it runs")
