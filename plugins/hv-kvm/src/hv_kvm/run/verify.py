"""What keeps this node from running a spec: files and rights, users, addresses, what its QEMU lacks. Acquires nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from hv_kvm.confinement import level_of, user_of
from hv_kvm.devices.security import Security
from hv_kvm.machine.spec import KvmSpec, Open
from hv_kvm.qemu.accelerator import kvm_works
from hv_kvm.qemu.block_modules import missing_module
from hv_kvm.qemu.choose import accel_of, facts_of
from hv_kvm.qemu.probe import ProbeError
from hv_kvm.resources.addresses import address_of, is_interface, port_problem
from hv_kvm.resources.companions import companion_problems
from hv_kvm.resources.handed import HandedError, contents
from hv_kvm.resources.hugepages import temporary_problem
from hv_kvm.resources.qcow2 import HEADER_BYTES, qcow2_problem
from hv_kvm.run.pinning import pin_problems
from hvcore.plugin import Hooks, Host, Level, Problem

__all__ = ["problems_on"]


def problems_on(hooks: Hooks, spec: KvmSpec, host: Host) -> Iterator[Problem]:
    """Everything that keeps this node from running the spec."""
    yield from spec.each(lambda device: device.refusals())
    yield from _confinement_problems(spec, host)
    yield from _identity_problems(spec)
    yield from _handed_problems(spec)
    yield from _address_problems(spec)
    yield from _data_problems(spec)
    yield from companion_problems(spec)
    yield from pin_problems(spec)
    for opened in spec.opens:
        yield from _file_problems(opened)
    for wanted in spec.temporaries:
        yield from temporary_problem(wanted)
    for name, path in spec.shows.items():
        if os.path.exists(path) and not os.path.isfile(path):
            what = "is not a regular file; QEMU could wait for ever to read it"
            yield Problem(path=name, what=what, got=repr(path))
    try:
        facts = facts_of(spec, host)
    except ProbeError as error:
        yield Problem(path="params.kvm_path", what="is not a usable QEMU", got=repr(spec.qemu), todo=str(error))
        return
    for _, problem in hooks.items("verify", Problem, spec=spec, facts=facts):
        yield problem
    for path, driver in spec.each(lambda device: device.modules()):
        said = missing_module(spec.qemu, driver) if driver in facts.block_drivers else None
        if said is not None:
            todo = "install its module (Debian: qemu-block-extra)"
            yield Problem(path=path, what=f"this QEMU ({facts.version}) cannot load {driver}: {said}", todo=todo)
    yield from _kvm_problems(spec, host)


def _kvm_problems(spec: KvmSpec, host: Host) -> Iterator[Problem]:
    needs = [path for device in spec.devices if (path := device.needs_kvm()) is not None]
    if needs and spec.kvm != "enabled":
        accel = accel_of(spec, host)
        for path in needs if accel.name == "tcg" else ():
            yield Problem(path=path, what=f"needs KVM, and this guest gets none ({accel.why})", todo="use another")
    if spec.kvm == "enabled":
        verdict = kvm_works(spec.qemu, cache_dir=str(host.cache_dir))
        if not verdict.usable:
            todo = 'unset kvm_flag, or set kvm_flag = "disabled" for software emulation'
            yield Problem(path="params.kvm_flag", what=verdict.reason, got="'enabled'", todo=todo)


def _confinement_problems(spec: KvmSpec, host: Host) -> Iterator[Problem]:
    if level_of(spec, host) is Level.STRICT and not host.privileged:
        todo = 'run as root, or set confinement = "user"'
        models = [security.model for security in spec.of(Security) if security.model in ("user", "pool")]
        if models:
            path, got, todo = "params.security_model", repr(models[0]), "run as root, or set security_model = 'none'"
        else:
            path, got = "params.confinement", "'strict'"
        yield Problem(path=path, what="needs root for a uid of its own", got=got, todo=todo)
    if level_of(spec, host) is not Level.OFF:
        for path, reason in spec.each(lambda device: device.escapes()):
            yield Problem(path=path, what=reason, todo='leave it out, or set confinement = "off"')


def _identity_problems(spec: KvmSpec) -> Iterator[Problem]:
    path = "params.security_domain"
    for security in spec.of(Security):
        if security.user is None:
            continue
        try:
            found = user_of(spec)
        except KeyError:
            yield Problem(
                path=path, what="is no user of this node", got=repr(security.user), todo="make it, or name one"
            )
            continue
        if found is not None and found.uid == 0:
            yield Problem(
                path=path, what="is root, which a guest never runs as", got=repr(security.user), todo="name another"
            )


def _handed_problems(spec: KvmSpec) -> Iterator[Problem]:
    for handed in spec.each(lambda device: device.handed()):
        try:
            contents(handed)
        except HandedError as error:
            path = f"params.{handed.param}"
            yield Problem(path=path, what=str(error), got=repr(handed.path), todo="correct the file, or name another")


def _address_problems(spec: KvmSpec) -> Iterator[Problem]:
    found: dict[str, str] = {}
    for wanted in spec.each(lambda device: device.interfaces()):
        path, got = f"params.{wanted.param}", repr(wanted.name)
        try:
            address = address_of(wanted.name, wanted.family)
        except OSError as error:
            yield Problem(path=path, what=f"is no interface of this node ({error.strerror})", got=got)
            continue
        if address is None:
            kind = f"IPv{wanted.family} address" if wanted.family else "address"
            yield Problem(
                path=path, what=f"is an interface without an {kind}", got=got, todo="give it one, or name another"
            )
        else:
            found[wanted.name] = address
    for port in spec.each(lambda device: device.ports()):
        bind = found.get(port.bind, port.bind)
        why = None if port.port is None or is_interface(bind) else port_problem(bind, port.port)
        if why is not None:
            what = f"cannot be listened on at {bind} ({why})"
            yield Problem(
                path=f"params.{port.param}", what=what, got=str(port.port), todo="choose another, or unset it"
            )


def _data_problems(spec: KvmSpec) -> Iterator[Problem]:
    """What the binary should have brought and has not. Where its data is not in a usual place, nothing is said."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(spec.qemu)))
    for param, name in spec.each(lambda device: device.data_files()):
        places = [place for place in (f"{prefix}/share/qemu", "/usr/share/qemu") if os.path.isdir(place)]
        folders = [os.path.dirname(os.path.join(place, name)) for place in places]
        if not any(os.path.exists(os.path.join(place, name)) for place in places) and any(map(os.path.isdir, folders)):
            what = "is nothing that this QEMU brings"
            yield Problem(path=f"params.{param}", what=what, got=repr(os.path.basename(name)), todo="choose another")


def _file_problems(opened: Open) -> Iterator[Problem]:
    path = opened.path
    try:
        found = os.stat(path)
    except OSError as error:
        if opened.template is not None and isinstance(error, FileNotFoundError):
            yield from _template_problems(opened, opened.template)
        else:
            yield Problem(path=opened.where, what=f"cannot be used ({error.strerror})", got=repr(path))
        return
    what = _wrong_kind(opened.kind, found.st_mode)
    if what is not None:
        yield Problem(path=opened.where, what=what, got=repr(path))
    elif not os.access(path, os.R_OK | (os.W_OK if opened.write else 0)):
        right = "read and write" if opened.write else "read"
        yield Problem(path=opened.where, what=f"we may not {right} it", got=repr(path))
    elif opened.format == "qcow2":
        with open(path, "rb") as file:
            wrong = qcow2_problem(file.read(HEADER_BYTES))
        if wrong is not None:
            yield Problem(path=opened.where, what=wrong.what, got=repr(path), todo=wrong.todo)


def _wrong_kind(kind: str, mode: int) -> str | None:
    if kind == "sg":
        return None if stat.S_ISCHR(mode) else "is not a SCSI generic device such as /dev/sg0"
    if kind == "block":
        return None if stat.S_ISBLK(mode) else "is not a block device, so there is no SCSI device behind it"
    return None if stat.S_ISREG(mode) or stat.S_ISBLK(mode) else "is neither a file nor a block device"


def _template_problems(opened: Open, template: str) -> Iterator[Problem]:
    """The file is not there yet: then it has to be possible to make it."""
    directory = os.path.dirname(opened.path)
    if not os.path.isfile(template):
        what = f"is not there, and neither is its template {template!r}"
        yield Problem(
            path=opened.where,
            what=what,
            got=repr(opened.path),
            todo="install it (Debian: ovmf) or name another",
        )
    elif not os.path.isdir(directory) or not os.access(directory, os.W_OK):
        what = f"is not there, and we cannot make it in {directory!r}"
        todo = "let us write there, or name another" if os.path.isdir(directory) else "make that directory"
        yield Problem(path=opened.where, what=what, got=repr(opened.path), todo=todo)
