"""From a spec to a guest that runs, in steps: pin, acquire, render, launch, ready."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_kvm.confinement import kvm_groups, sandbox_of, site_of
from hv_kvm.devices.cpu import Cpu, begun_with
from hv_kvm.machine.abi import abi_of
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import arguments, rendered
from hv_kvm.machine.resource import GUEST_USER, Bindings, Image, ShownFile
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.paths import GuestPaths
from hv_kvm.qemu import probe
from hv_kvm.qemu.accelerator import Accel, accel_for
from hv_kvm.qmp import QmpClosedError, QmpConnectError, QmpError, QmpTimeoutError, commands, connect
from hv_kvm.qmp.introspect import query_feature_words
from hv_kvm.resources.image_contents import disk_sizes
from hv_kvm.run.startup.ready import make_ready, run_unless_paused
from hv_kvm.run.startup.user_networks import with_user_networks
from hvcore.plugin import dataclass

__all__ = ["Pinned", "acquire", "bring_up", "command", "pin"]

_DYING_S: Final = 2.0
_TODO_OFF: Final = 'or set confinement = "off"'
_NO_SANDBOX: Final = {
    hv.Level.STRICT: f"cannot be confined on this node; see the message of bubblewrap, {_TODO_OFF}",
    hv.Level.USER: "cannot be confined, this node does not allow user namespaces; allow them "
    f"(user.max_user_namespaces, kernel.unprivileged_userns_clone), start it as root, {_TODO_OFF}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A spec whose machine type is resolved, with the facts and choices of this node. Nothing has been acquired.

    ``waits`` are the words with which QEMU waits for the state of a guest, which does not run then.
    """

    spec: KvmSpec
    facts: Facts
    accel: Accel
    site: hv.Site
    waits: tuple[str, ...] = ()

    @property
    def kvm(self) -> bool:
        """Whether the guest runs under KVM."""
        return self.accel.name == "kvm"


def bring_up(hooks: hv.Hooks, spec: KvmSpec, job: hv.Job, *, waits: tuple[str, ...] = ()) -> None:
    """Start the guest; it runs when this returns, or is paused if the record says so. Raises `OperationError`.

    With ``waits``, see `Pinned`, QEMU waits for the state of a guest.
    """
    pinned = pin(spec, job.host)
    if waits:  # as the QEMU of the source was started
        begun = next((cpu.at_start for cpu in spec.of(Cpu)), 0)
        pinned = replace(pinned, spec=begun_with(pinned.spec, begun), waits=waits)
    _refuse_if_running(job.dir, job.name)
    bindings = acquire(pinned, job)
    options = rendered(hooks, pinned.spec, pinned.facts, bindings)
    launched = command(pinned, bindings, options, job)
    job.progress(f"starting {spec.qemu}")
    child = job.launch(launched)
    try:
        _wait_ready(hooks, pinned, child, launched.argv, job, options)
    finally:
        child.close()


def pin(spec: KvmSpec, host: hv.Host) -> Pinned:
    """The spec with the facts and choices of this node. Raises `ProbeError`."""
    facts = probe.facts_of(spec, host)
    spec, accel = with_user_networks(probe.pin(spec, facts)), accel_for(spec.qemu, spec.kvm, host)
    return Pinned(spec=begun_with(spec, 0), facts=facts, accel=accel, site=site_of(spec, host))


def acquire(pinned: Pinned, job: hv.Job) -> Bindings:
    """Acquire everything that the guest holds of its node. The record gets the spec first, and the ledger each resource."""
    level, accel = pinned.site.level, pinned.accel
    job.remember(spec=hv.encode(pinned.spec))
    handles = job.acquire(*pinned.spec.resources, level=level)
    user = _with_groups(handles[GUEST_USER], pinned)
    job.bind(
        uid=None if user is None else user.uid,
        gid=None if user is None else user.group,
        groups=[] if user is None else list(user.groups),
        confinement=str(level),
        accel=accel.name,
        qemu=str(pinned.facts.version),
    )
    return Bindings(handles=handles, accel=accel.name, accel_why=accel.why, confined=level is not hv.Level.OFF)


def _with_groups(user: hv.AsUser | None, pinned: Pinned) -> hv.AsUser | None:
    return replace(user, groups=kvm_groups()) if user is not None and pinned.kvm else user


def command(pinned: Pinned, bindings: Bindings, options: Sequence[tuple[str, Opt]], job: hv.Job) -> hv.Command:
    """The command line of QEMU with the sandbox around it."""
    spec = pinned.spec
    argv = tuple(token for argument in arguments(spec, options) for token in argument.tokens)
    argv += pinned.waits
    if not bindings.confined:
        return hv.Command(argv=argv, sandbox=None)
    sandbox = sandbox_of(
        spec,
        _with_groups(bindings[GUEST_USER], pinned),
        guest_dir=GuestPaths(job.dir).guest,
        shown=[bindings[file] for file in spec.resources_of(ShownFile)],
        kvm=pinned.kvm,
    )
    return hv.Command(argv=argv, sandbox=sandbox)


def _refuse_if_running(directory: Path, name: str) -> None:
    """Raise `OperationError` when the instance already runs and only its state was removed."""
    found = hv.launched_for(directory)
    if found:
        pids = " ".join(str(pid) for pid in sorted({*found, *(child for pid in found for child in _children(pid))}))
        what = f"{name}: already runs as pid {pids}, but its state in the run directory was removed"
        raise hv.OperationError(f"{what}; end it with kill -KILL {pids} before you start it again")


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _wait_ready(
    hooks: hv.Hooks,
    pinned: Pinned,
    child: hv.Child,
    argv: tuple[str, ...],
    job: hv.Job,
    options: Sequence[tuple[str, Opt]],
) -> None:
    job.progress("waiting for QMP")
    try:
        with connect(str(GuestPaths(job.dir).commands), deadline_s=job.deadline.left()) as client:
            commands.query_status(client, deadline_s=job.deadline.left())
            words = query_feature_words(client, deadline_s=job.deadline.left())
            job.bind(abi=dict(abi_of(options, sizes=disk_sizes(pinned.spec), words=words).digests))
            make_ready(hooks, client, _record_process(child, job), pinned.spec, pinned.facts, job)
            if not pinned.waits:
                run_unless_paused(client, job)
    except (QmpClosedError, QmpConnectError) as error:
        raise _died(child, argv, pinned.spec, job, error) from error
    except QmpTimeoutError as error:
        allowed = f"the deadline of {job.deadline.seconds:g} s"
        how = f"{argv[0]} runs, but did not answer {error.command} within {allowed}; give it more with --deadline"
        raise hv.LaunchError(name=job.name, how=how, output=job.output(), argv=argv) from error


def _record_process(child: hv.Child, job: hv.Job) -> hv.ProcessId:
    process = child.process()
    if process is None or hv.pidfile_lock_holder(GuestPaths(job.dir).pidfile) != process.pid:
        raise hv.OperationError(f"{job.name}: cannot find out which process is QEMU; see {job.dir}")
    job.started(process, child.monitor())
    return process


def _died(
    child: hv.Child, argv: tuple[str, ...], spec: KvmSpec, job: hv.Job, error: QmpError
) -> hv.LaunchError | QmpError:
    """How QEMU ended, if it ended; else the error of its monitor."""
    if not hv.wait_readable(child.pidfd, job.deadline.left(at_most=_DYING_S)):
        return error
    ended = child.ended()
    how = f"{argv[0]} {ended} after {job.deadline.spent():.1f} s" if ended else f"{argv[0]} ended"
    output = job.output()
    if hv.read_status(job.dir / hv.STATUS).pid is None and output.startswith("bwrap: "):
        how = _NO_SANDBOX[hv.Level(job.record.bindings["confinement"])]
    elif not output and os.statvfs(job.dir).f_bavail == 0:
        how = f"{how}, with no room left in {str(job.dir)!r},"
    for image in spec.resources_of(Image):
        output = re.sub(rf"/dev/fdset/{image.fdset}\b", image.path.replace("\\", r"\\"), output)
    beside = {
        program.key: job.output(program.key)
        for program in (*spec.resources_of(hv.Program), *spec.resources_of(hv.UserNetwork))
    }
    return hv.LaunchError(name=job.name, how=how, output=output, argv=argv, beside=beside)
