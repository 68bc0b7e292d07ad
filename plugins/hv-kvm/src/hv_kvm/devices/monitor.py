"""QEMU's monitors: one for commands, one kept free for recovery, and a journal of events that needs no reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import GUEST_DIRECTORY, Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.paths import COMMANDS, EVENTS, PIDFILE, RECOVERY

__all__ = ["DEVICES", "Monitor", "plan", "render"]

_SOCKETS: Final = (hv.UnixSocket(key=COMMANDS), hv.UnixSocket(key=RECOVERY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor(Device):
    """Always there: without it nothing could be asked or told."""

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """QEMU serves one client per monitor, so recovery has one that short commands never hold."""
        yield GUEST_DIRECTORY
        yield from _SOCKETS


DEVICES: Final = (Monitor,)


@hv.hookimpl
def plan() -> Iterator[Device]:
    """One set of monitors."""
    yield Monitor()


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Two sockets handed over as descriptors, a pipe pair for the events, the pidfile that QEMU locks for life."""
    for _ in spec.of(Monitor):
        for socket, why in zip(_SOCKETS, ("commands", "recovery, when commands hang"), strict=True):
            name = socket.key
            props: Props = {"id": name, "fd": bindings[socket], "server": True, "wait": False}
            yield Opt(name="-chardev", head="socket", props=props, why=f"QMP for {why}")
            yield Opt(name="-qmp", head=f"chardev:{name}", plain=True, why=f"QMP for {why}")
        # events.in is a FIFO that was given qmp_capabilities, events.out a plain file: QEMU itself keeps the journal.
        props = {"id": EVENTS, "path": f"{bindings.guest_dir}/{EVENTS}"}
        yield Opt(name="-chardev", head="pipe", props=props, why="journal of events, read without asking QEMU")
        yield Opt(name="-qmp", head=f"chardev:{EVENTS}", plain=True, why="journal of events")
        path = f"{bindings.guest_dir}/{PIDFILE}"
        yield Opt(name="-pidfile", head=path, plain=True, why="QEMU holds a lock on it for life: proof that it lives")
