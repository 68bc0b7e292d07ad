"""From a spec to a guest that runs: acquire, render, launch, wait for QMP. What is done then is in `hv_kvm.run.ready`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from hv_kvm.confinement import GUEST_DIR, inside, kvm_groups, level_of, sandbox_of, user_of
from hv_kvm.devices.security import Security
from hv_kvm.devices.vnc import Vnc
from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.render import argv_of, render
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.paths import GuestPaths
from hv_kvm.qemu import choose
from hv_kvm.qmp import QmpClosedError, QmpConnectError, QmpError, QmpTimeoutError, commands, connect
from hv_kvm.resources.acquire import Descriptors, listening_socket, make_guest_dir, open_files, refuse_twin, shown_files
from hv_kvm.resources.companions import entries, said, start_companions
from hv_kvm.resources.handed import HandedError, hand_over
from hv_kvm.resources.newfiles import make_temporaries
from hv_kvm.run.displays import addresses, ports
from hv_kvm.run.ready import make_ready
from hvcore.plugin import (
    DISK,
    LINK,
    PROCESS,
    UID,
    AsCaller,
    AsUser,
    Child,
    Command,
    Entry,
    Hooks,
    Job,
    LaunchError,
    Level,
    OperationError,
    ProcessId,
    encode,
    pidfile_lock_holder,
    read_status,
    wait_readable,
)

__all__ = ["bring_up"]

_DYING_S: Final = 2.0
_TODO_OFF: Final = 'or set confinement = "off"'
_NO_SANDBOX: Final = {
    Level.STRICT: f"cannot be confined on this node; see what bubblewrap says, {_TODO_OFF}",
    Level.USER: "cannot be confined, this node gives us no user namespace; allow them "
    f"(user.max_user_namespaces, kernel.unprivileged_userns_clone), start it as root, {_TODO_OFF}",
}


def bring_up(hooks: Hooks, spec: KvmSpec, job: Job) -> None:
    """Start the guest; when this returns it runs, or waits paused if that was asked for. Raises `OperationError`."""
    facts = choose.facts_of(spec, job.host)
    spec = choose.pin(spec, facts)
    accel = choose.accel_of(spec, job.host)
    level = level_of(spec, job.host)
    refuse_twin(job.dir, job.name)
    job.update(spec=encode(spec), ledger=_ledger(spec, level))
    with Descriptors() as held:
        user = _user(spec, level, job, kvm=accel.name == "kvm")
        job.bind(
            uid=None if user is None else user.uid,
            gid=None if user is None else user.group,
            groups=[] if user is None else list(user.groups),
            confinement=str(level),
            accel=accel.name,
            qemu=str(facts.version),
        )
        bindings, shown = _acquire(spec, accel, level, user, job, held)
        sandbox = None
        if level is not Level.OFF:
            sandbox = sandbox_of(
                spec, user or AsCaller(), guest_dir=GuestPaths(job.dir).guest, shown=shown, kvm=accel.name == "kvm"
            )
        argv = argv_of(render(hooks, spec, facts, bindings))
        # If we die from here on, whoever finds the guest has to know how it was to be confined.
        job.intend(Entry(kind=PROCESS))
        job.progress(f"starting {spec.qemu}")
        child = job.launch(Command(argv=argv, sandbox=sandbox, fds=tuple(held.fds)))
        try:
            # Our copies of the listening sockets would keep a connection waiting after QEMU died.
            held.close()
            _wait_ready(child, argv, spec, facts, job)
        finally:
            child.close()


def _user(spec: KvmSpec, level: Level, job: Job, *, kvm: bool) -> AsUser | None:
    """The user to run as; None for the caller."""
    if level is not Level.STRICT:
        return None
    try:
        found = user_of(spec) or AsUser(job.take_uid())
    except KeyError as error:
        raise OperationError(f"{job.name}: security_domain is no user of this node, {error.args[0]}") from error
    return replace(found, groups=kvm_groups()) if kvm else found


def _acquire(
    spec: KvmSpec, accel: choose.Accel, level: Level, user: AsUser | None, job: Job, held: Descriptors
) -> tuple[Bindings, dict[str, str]]:
    """Make, open and claim what QEMU will use; and where each file that it opens by path is on the node."""
    paths, uid, off = GuestPaths(job.dir), None if user is None else user.uid, level is Level.OFF
    held.keep(make_guest_dir(paths, uid))  # open until QEMU has its own end
    files = open_files(spec, job, held)
    shown = shown_files(spec, paths, uid)
    _hand_over(spec, paths, uid, job)
    found = addresses(spec, job)
    bindings = Bindings(
        guest_dir=str(paths.guest) if off else GUEST_DIR,
        socket_dir=_by_descriptor(paths.guest, held) if off else GUEST_DIR,
        accel=accel.name,
        accel_why=accel.why,
        confined=not off,
        sockets={name: held.add(listening_socket(job.dir / name)) for name in spec.sockets},
        companions=start_companions(spec, level, job, held.add, held.keep),
        files=files,
        shown=shown if off else inside(spec, level),
        addresses=found,
        ports=ports(spec, job, found, held.keep),
        temporary=make_temporaries(spec, uid, held.add),
    )
    return bindings, shown


def _hand_over(spec: KvmSpec, paths: GuestPaths, uid: int | None, job: Job) -> None:
    try:
        hand_over(spec.each(lambda device: device.handed()), paths.guest, uid)
    except HandedError as error:
        raise OperationError(f"{job.name}: {error}; correct the file, or name another") from error


def _by_descriptor(directory: Path, held: Descriptors) -> str:
    """A name of 20 bytes for a directory whose own may be too long for a socket's address, or have '=' in it."""
    return f"/proc/self/fd/{held.add(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))}"


def _ledger(spec: KvmSpec, level: Level) -> tuple[Entry, ...]:
    own = any(security.user is not None for security in spec.of(Security))
    found = [Entry(kind=UID)] if level is Level.STRICT and not own else []
    if any(opened.claim for opened in spec.opens) or spec.each(lambda device: device.claims()):
        found.append(Entry(kind=DISK))
    links = (vnc.bind for vnc in spec.of(Vnc) if vnc.unix)
    found += [Entry(kind=LINK, data={"path": path}) for path in links]
    return (*found, *entries(spec, level))


def _wait_ready(child: Child, argv: tuple[str, ...], spec: KvmSpec, facts: Facts, job: Job) -> None:
    job.progress("waiting for QMP")
    try:
        with connect(str(GuestPaths(job.dir).commands), deadline_s=job.deadline.left()) as client:
            commands.query_status(client, deadline_s=job.deadline.left())
            make_ready(client, _remember(child, job), spec, facts, job)
    except (QmpClosedError, QmpConnectError) as error:
        raise _died(child, argv, spec, job, error) from error
    except QmpTimeoutError as error:
        how = f"{argv[0]} runs and does not answer to {error.command} within {job.deadline.spent():.1f} s"
        raise LaunchError(name=job.name, how=how, output=job.output(), argv=argv) from error


def _remember(child: Child, job: Job) -> ProcessId:
    process = child.process()
    if process is None or pidfile_lock_holder(GuestPaths(job.dir).pidfile) != process.pid:
        raise OperationError(f"{job.name}: cannot tell which process is QEMU; look into {job.dir}")
    job.started(process, child.monitor())
    return process


def _died(child: Child, argv: tuple[str, ...], spec: KvmSpec, job: Job, error: QmpError) -> LaunchError | QmpError:
    """How QEMU ended, instead of what its monitor looked like from here."""
    if not wait_readable(child.pidfd, job.deadline.left(at_most=_DYING_S)):
        return error
    ended = child.ended()
    how = f"{argv[0]} {ended} after {job.deadline.spent():.1f} s" if ended else f"{argv[0]} ended"
    output = job.output()
    if read_status(job.dir / "status").pid is None and output.startswith("bwrap: "):
        how = _NO_SANDBOX[Level(job.record.bindings["confinement"])]
    elif not output and os.statvfs(job.dir).f_bavail == 0:
        how = f"{how}, with no room left in {str(job.dir)!r},"
    for companion in spec.companions:
        output += f"\n{companion.name}: {said(companion, job)}"
    return LaunchError(name=job.name, how=how, output=output, argv=argv)
