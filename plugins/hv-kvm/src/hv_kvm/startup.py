"""From a spec to a guest that runs: acquire, render, launch, wait for QMP, read back, continue."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from hv_kvm import node
from hv_kvm.acquire import Held, listening_socket, make_guest_dir, open_files, refuse_twin, shown_files
from hv_kvm.bindings import Bindings
from hv_kvm.companions import entries, prove_companions, said, start_companions
from hv_kvm.confine import GUEST_DIR, inside, kvm_groups, level_of, sandbox_in_record, sandbox_of, user_of
from hv_kvm.devices.security import Security
from hv_kvm.devices.vnc import Vnc
from hv_kvm.displays import addresses, link, note_displays, ports, set_passwords
from hv_kvm.facts import Facts
from hv_kvm.handed import HandedError, hand_over, take_back
from hv_kvm.newfiles import make_temporaries
from hv_kvm.paths import GuestPaths
from hv_kvm.pinning import pin_vcpus
from hv_kvm.qmp import QmpClient, QmpClosedError, QmpConnectError, QmpError, QmpTimeoutError, commands, connect
from hv_kvm.render import argv_of, render
from hv_kvm.spec import KvmSpec
from hvcore import (
    DISK,
    LINK,
    PROCESS,
    UID,
    AsCaller,
    AsUser,
    Child,
    Command,
    ConfinementError,
    Entry,
    Hooks,
    Job,
    LaunchError,
    Level,
    OperationError,
    ProcessId,
    Sandbox,
    encode,
    pidfile_lock_holder,
    read_status,
    unmet_limits,
    wait_readable,
    weaknesses,
)

__all__ = ["bring_up", "finish"]

_DYING_S: Final = 2.0
_TODO_OFF: Final = 'or set confinement = "off"'
_NO_SANDBOX: Final = {
    Level.STRICT: f"cannot be confined on this node; see what bubblewrap says, {_TODO_OFF}",
    Level.USER: "cannot be confined, this node gives us no user namespace; allow them "
    f"(user.max_user_namespaces, kernel.unprivileged_userns_clone), start it as root, {_TODO_OFF}",
}


def bring_up(hooks: Hooks, spec: KvmSpec, job: Job) -> None:
    """Start the guest; when this returns it runs, or waits paused if that was asked for. Raises `OperationError`."""
    facts = node.facts_of(spec, job.host)
    spec = node.pin(spec, facts)
    accel = node.accel_of(spec, job.host)
    paths = GuestPaths(job.dir)
    level = level_of(spec, job.host)
    refuse_twin(job.dir, job.name)
    job.update(spec=encode(spec), ledger=_ledger(spec, level))
    with Held() as held:
        user = _user(spec, level, job, kvm=accel.name == "kvm")
        uid = None if user is None else user.uid
        job.bind(
            uid=uid,
            gid=None if user is None else user.group,
            groups=[] if user is None else list(user.groups),
            confinement=str(level),
            accel=accel.name,
            qemu=str(facts.version),
            host_network=spec.host_network,
        )
        fifo = make_guest_dir(paths, uid)  # kept open until QEMU has its own end
        held.keep(fifo)
        files = open_files(spec, job, held)
        shown = shown_files(spec, paths, uid)
        _hand_over(spec, paths, uid, job)
        found = addresses(spec, job)
        bindings = Bindings(
            guest_dir=str(paths.guest) if level is Level.OFF else GUEST_DIR,
            socket_dir=_by_descriptor(paths.guest, held) if level is Level.OFF else GUEST_DIR,
            accel=accel.name,
            accel_why=accel.why,
            confined=level is not Level.OFF,
            sockets={name: held.add(listening_socket(job.dir / name)) for name in spec.sockets},
            companions=start_companions(spec, level, job, held.add, held.keep),
            files=files,
            shown=shown if level is Level.OFF else inside(spec, level),
            addresses=found,
            ports=ports(spec, job, found, held.keep),
            temporary=make_temporaries(spec, uid, held.add),
        )
        arguments = render(hooks, spec, facts, bindings)
        sandbox = None
        if level is not Level.OFF:
            kvm = accel.name == "kvm"
            sandbox = sandbox_of(spec, user or AsCaller(), guest_dir=paths.guest, shown=shown, kvm=kvm)
        # If we die from here on, whoever finds the guest has to know how it was to be confined.
        job.intend(Entry(kind=PROCESS))
        job.progress(f"starting {spec.qemu}")
        child = job.launch(Command(argv=argv_of(arguments), sandbox=sandbox, fds=tuple(held.fds)))
        try:
            # Our copies of the listening sockets would keep a connection waiting after QEMU died.
            held.close()
            _make_ready(child, (sandbox, level), argv_of(arguments), (spec, facts), job)
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


def _hand_over(spec: KvmSpec, paths: GuestPaths, uid: int | None, job: Job) -> None:
    try:
        hand_over(spec.each(lambda device: device.handed()), paths.guest, uid)
    except HandedError as error:
        raise OperationError(f"{job.name}: {error}; correct the file, or name another") from error


def _by_descriptor(directory: Path, held: Held) -> str:
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


def _make_ready(
    child: Child, confined: tuple[Sandbox | None, Level], argv: tuple[str, ...], what: tuple[KvmSpec, Facts], job: Job
) -> None:
    paths, (spec, facts), (sandbox, level) = GuestPaths(job.dir), what, confined
    job.progress("waiting for QMP")
    try:
        with connect(str(paths.commands), deadline_s=job.deadline.left()) as client:
            commands.query_status(client, deadline_s=job.deadline.left())
            _remember(child, job)
            _prove_confined(sandbox, level, job)
            prove_companions(spec, level, job)
            _pin(client, spec, job)
            take_back(spec.each(lambda device: device.handed()), paths.guest)
            set_passwords(client, spec, facts, job)
            note_displays(client, spec, job)
            if not job.record.paused:
                commands.cont(client, deadline_s=job.deadline.left())
                _prove_running(client, job)
    except (QmpClosedError, QmpConnectError) as error:
        raise _died(child, level, argv, spec, job, error) from error
    except QmpTimeoutError as error:
        how = f"{argv[0]} runs and does not answer to {error.command} within {job.deadline.spent():.1f} s"
        raise LaunchError(name=job.name, how=how, output=job.output(), argv=argv) from error


def _remember(child: Child, job: Job) -> None:
    process = child.process()
    if process is None or pidfile_lock_holder(GuestPaths(job.dir).pidfile) != process.pid:
        raise OperationError(f"{job.name}: cannot tell which process is QEMU; look into {job.dir}")
    job.started(process, child.monitor())


def _prove_confined(sandbox: Sandbox | None, level: Level, job: Job) -> None:
    process = job.record.process
    found = [*weaknesses(sandbox, process.pid), *unmet_limits(process.pid)] if process is not None else ["no process"]
    if found:
        raise ConfinementError(
            f"{job.name}: not as confined as asked ({level}): {'; '.join(found)}; "
            'look at what differs on this node, or lower it with confinement = "off"'
        )


def _pin(client: QmpClient, spec: KvmSpec, job: Job) -> None:
    if job.record.process is not None:
        pin_vcpus(client, job.record.process, spec, job)


def _prove_running(client: QmpClient, job: Job) -> None:
    status = commands.query_status(client, deadline_s=job.deadline.left())
    if not status.running:
        raise OperationError(f"{job.name}: did not go on, QEMU says {status.state!r}; see its log in {job.dir}")


def finish(client: QmpClient, process: ProcessId, spec: KvmSpec, job: Job) -> bool:
    """Complete a start that was interrupted after QEMU had answered; False when it is not what was asked for."""
    bound = job.record.bindings
    if "groups" not in bound or commands.query_status(client).running == job.record.paused:
        return False
    if weaknesses(sandbox_in_record(bound), process.pid):
        return False
    prove_companions(spec, Level(bound["confinement"]), job)
    job.started(process)
    pin_vcpus(client, process, spec, job)
    server = commands.query_vnc(client)
    if server is not None and server.port is not None:
        job.bind(vnc=f"{server.host}:{server.port}")
    for entry in job.record.ledger:
        if entry.kind == LINK:
            link(Path(entry.data["path"]), GuestPaths(job.dir).vnc, job)
            job.bind(vnc=entry.data["path"])
    return True


def _died(
    child: Child, level: Level, argv: tuple[str, ...], spec: KvmSpec, job: Job, error: QmpError
) -> LaunchError | QmpError:
    """How QEMU ended, instead of what its monitor looked like from here."""
    if not wait_readable(child.pidfd, job.deadline.left(at_most=_DYING_S)):
        return error
    ended = child.ended()
    how = f"{argv[0]} {ended} after {job.deadline.spent():.1f} s" if ended else f"{argv[0]} ended"
    output = job.output()
    if read_status(job.dir / "status").pid is None and output.startswith("bwrap: "):
        how = _NO_SANDBOX[level]
    for companion in spec.companions:
        output += f"\n{companion.name}: {said(companion, job)}"
    return LaunchError(name=job.name, how=how, output=output, argv=argv)
