"""Everything that a start of a guest would do, with symbols for what only a start makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hv_kvm.confinement import GUEST_DIR, inside, level_of
from hv_kvm.devices.cpu import Cpu
from hv_kvm.devices.nic import TapNic
from hv_kvm.devices.security import Security
from hv_kvm.devices.vnc import Vnc
from hv_kvm.machine.bindings import Bindings, GuestFile, Tap
from hv_kvm.machine.render import render
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu import choose
from hv_kvm.qemu.choose import Accel
from hvcore.plugin import Hooks, Host, Level, Plan, Step

__all__ = ["describe", "symbols"]


def describe(hooks: Hooks, spec: KvmSpec, host: Host) -> Plan:
    """The plan. Raises `ProbeError` when the QEMU binary cannot be asked what it can do."""
    facts = choose.facts_of(spec, host)
    spec = choose.pin(spec, facts)
    accel = choose.accel_of(spec, host)
    level = level_of(spec, host)
    bindings = symbols(spec, level, accel)
    files = {name: _as_device(name, file) for name, file in bindings.files.items() if name in _block_devices(spec)}
    bindings = replace(bindings, files={**bindings.files, **files})
    arguments = render(hooks, spec, facts, bindings)
    return Plan(name=spec.name, driver="kvm", steps=tuple(_steps(spec, host, level, accel)), arguments=arguments)


def symbols(spec: KvmSpec, level: Level, accel: Accel) -> Bindings:
    """Bindings with a symbol such as ``{fd:qmp}`` for everything that only a start makes. Pure."""
    files = {
        opened.name: GuestFile(set_id=number, fds=(f"{{fd:{opened.name}}}",))
        for number, opened in enumerate(spec.opens)
    }
    return Bindings(
        guest_dir=GUEST_DIR if level is not Level.OFF else "{instance}/guest",
        socket_dir=GUEST_DIR if level is not Level.OFF else "/proc/self/fd/{fd:guest}",
        accel=accel.name,
        accel_why=accel.why,
        confined=level is not Level.OFF,
        sockets={name: f"{{fd:{name}}}" for name in spec.sockets},
        companions={companion.name: f"{{fd:{companion.name}}}" for companion in spec.companions},
        files=files,
        shown=inside(spec, level),
        addresses={
            wanted.key: f"{{address:{wanted.name}}}" for wanted in spec.each(lambda device: device.interfaces())
        },
        ports={
            port.name: str(port.port) if port.port is not None else f"{{port:{port.name}}}"
            for port in spec.each(lambda device: device.ports())
        },
        temporary={made.name: f"{{fd:{made.name}}}" for made in spec.temporaries},
        taps={f"nic{nic.index}": _tap(nic) for nic in spec.of(TapNic)},
    )


def _tap(nic: TapNic) -> Tap:
    """Symbols for the descriptors. Whether vhost is there is the node's to say; a plan takes it to be."""
    names = [f"nic{nic.index}" + (f".{queue}" if nic.queues > 1 else "") for queue in range(nic.queues)]
    vhost = tuple(f"{{fd:vhost-{name}}}" for name in names) if nic.vhost is not False else ()
    return Tap(fds=tuple(f"{{fd:tap-{name}}}" for name in names), vhost_fds=vhost)


def _as_device(name: str, file: GuestFile) -> GuestFile:
    return replace(file, block_device=True, fds=(*file.fds, f"{{fd:{name}-reader}}"))


def _block_devices(spec: KvmSpec) -> set[str]:
    return {opened.name for opened in spec.opens if opened.claim and Path(opened.path).is_block_device()}


def _steps(spec: KvmSpec, host: Host, level: Level, accel: Accel) -> Iterator[Step]:
    directory = host.run_dir / "instances" / spec.name
    yield Step(kind="lock", what=f"the instance, and write to {directory}/record.json what follows")
    if level is Level.STRICT:
        users = [security.user for security in spec.of(Security) if security.user is not None]
        pool = f"take one of {host.uid_pool.start}-{host.uid_pool.stop - 1} for this guest alone"
        yield Step(kind="uid", what=f"run as the user {users[0]}" if users else pool)
    for opened in spec.opens:
        claim = "claim and open" if opened.claim else "open"
        right = "read-write" if opened.write else "read-only"
        made = f", made from {opened.template} if it is not there" if opened.template else ""
        yield Step(kind="file", what=f"{claim} {opened.path} {right} as {opened.name}{made}")
    for uri, written in spec.each(lambda device: device.claims()):
        yield Step(kind="file", what=f"claim {uri} {'read-write' if written else 'read-only'}")
    for memory in spec.temporaries:
        yield Step(kind="file", what=f"make a file of {memory.size_mib} MiB without a name in {memory.directory}")
    for handed in spec.each(lambda device: device.handed()):
        kind, part = ("password", "the first line of ") if handed.password_bytes else ("file", "")
        what = f"copy {part}{handed.path} for QEMU alone, until it has read it"
        yield Step(kind=kind, what=what)
    for interface in spec.each(lambda device: device.interfaces()):
        yield Step(kind="address", what=f"take that of {interface.name} for {interface.param}")
    for name in spec.sockets:
        yield Step(kind="socket", what=f"listen on {directory}/{name}")
    yield from _launches(spec, level, accel)
    yield Step(kind="ready", what="when QMP answers, the confinement has been read back from /proc, and the guest runs")


def _launches(spec: KvmSpec, level: Level, accel: Accel) -> Iterator[Step]:
    for companion in spec.companions:
        yield Step(kind="file", what=f"claim {companion.directory}, for {companion.name} alone while it runs")
        own = ", with a uid of its own" if level is Level.STRICT else ""
        yield Step(kind="launch", what=f"{companion.binary} beside it{own}, which ends with the guest")
    yield Step(kind="launch", what=f"{spec.qemu} ({accel.name}), {_confinement(spec, level)}")
    for vnc in spec.of(Vnc):
        if vnc.unix:
            yield Step(kind="link", what=f"{vnc.bind} to the display's socket")
    for cpu in spec.of(Cpu):
        if cpu.mask != "all":
            whom = "each processor to its own of CPUs" if ":" in cpu.mask else "the whole process to CPUs"
            yield Step(kind="pin", what=f"{whom} {cpu.mask}, before the guest runs")


def _confinement(spec: KvmSpec, level: Level) -> str:
    network = "the node's network" if spec.host_network else "no network"
    own = {
        Level.STRICT: f"confined: a uid of its own, no capabilities, own mounts and /dev, {network}",
        Level.USER: f"confined in a user namespace of the caller: own mounts and /dev, {network}",
        Level.OFF: "not confined: it runs with all rights of the caller",
    }
    return own[level]
