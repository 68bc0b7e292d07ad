"""Everything a start would do, for people: the steps, and where each argument of the launch comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import ROOT
from hv_chroot.resources.mounts import mount_command
from hv_chroot.run.confinement import sandbox_of
from hv_chroot.run.rooted import chroot_command
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import identify_disk, sandboxed

__all__ = ["describe"]

_PLUGIN: Final = "chroot"
# What exists only during a start; shown as {status}, {life}, {filter} and {holder}.
_STATUS_FD, _LIFE_FD, _FILTER_FD, _HOLDER_PID = 3, 4, 5, 0
_UIDS: Final = range(65536)

_USERS: Final = ("user_namespace", "network")
# Option to the parameters that it follows from and the reason.
_WHY: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "nsenter": (_USERS, "joins the namespaces that were made for it"),
    "setpriv": (("capabilities",), "gives up what no process of the instance may ever get"),
    "bwrap": (_USERS, "makes the namespaces and the file system"),
    "--ro-bind": (_USERS, "the node's programs, read-only, where its users can reach the root"),
    "--dev-bind": (_USERS, "the node's processes, to join the namespaces by"),
    "--json-status-fd": ((), "reports the init's pid and the script's exit code"),
    "--sync-fd": ((), "the init holds the life lock, nothing else inside does"),
    "--seccomp": (("seccomp", "capabilities"), "no system call that a service does not need"),
    "--unshare-pid": ((), "its processes are those of one pid namespace"),
    "--unshare-ipc": ((), "own shared memory and message queues"),
    "--unshare-uts": (("hostname",), "own host name"),
    "--unshare-net": (("network",), "a network without a way out"),
    "--hostname": (("hostname",), "what its processes see as host name"),
    "--cap-drop": ((), "no capability but those that follow"),
    "--cap-add": (("capabilities",), "daemons need it inside, it does not reach the node"),
    "--bind": (_USERS, "its root, which becomes the whole file system"),
    "--dev": (_USERS, "a small /dev of its own"),
    "--proc": ((), "its own processes only"),
    "--ro-bind-try": (_USERS, "nobody inside may change the node there"),
    "--chdir": ((), "begins at the root"),
    "--clearenv": ((), "nothing of the caller's environment"),
    "--setenv": (("environment",), "what a script may count on"),
    "--": (_USERS, "what follows is no option"),
}


def describe(spec: ChrootSpec, host: hv.Host) -> hv.Plan:
    """The plan. Looks whether the disk is a file, which decides about a loop device; changes nothing."""
    root = host.run_dir / "instances" / spec.name / ROOT
    return hv.Plan(
        name=spec.name,
        driver=_PLUGIN,
        steps=tuple(hv.Step(kind=kind, what=what) for kind, what in _steps(spec, root)),
        arguments=_arguments(spec, root) if spec.namespaces else _plain_arguments(spec, root),
    )


def _steps(spec: ChrootSpec, root: Path) -> Iterator[tuple[str, str]]:
    shared = "for it alone" if spec.source_is_written else "shared with others that only read it"
    yield "claim", f"{spec.source}, {shared}"
    if spec.users:
        yield "uids", "65536 uids of the node that nobody else has, as those of its users"
    yield "group", f"a control group of its own, where the node has them, {_limits(spec)}"
    for interface in spec.interfaces:
        with_them = ", ".join(interface.addresses) or "no address"
        yield "connect", f"{interface.name} ({interface.mac}, {with_them}) to bridge {interface.bridge!r}"
    yield "mount", _source(spec, root)
    if spec.overlay != "none":
        where = f"{spec.overlay_mib} MiB of memory" if spec.overlay_directory is None else repr(spec.overlay_directory)
        yield "mount", f"an overlay with the changes to it in {where}"
    for bind in spec.binds:
        yield "mount", f"{bind.source!r} at {bind.target!r}, {'writable' if bind.writable else 'read-only'}"
    if spec.node_resolv_conf:
        yield "mount", "a copy of the node's resolv.conf at '/etc/resolv.conf', read-only"
    yield "check", f"{spec.init_script!r} is a program in its root, without leaving it"
    yield "mount", "a tmpfs of 1 MiB for the output of the script"
    yield "launch", f"{spec.init_script!r} start; ready when it exits with 0 within {spec.script_deadline_s:g} s"
    yield "confine", _confinement(spec)


def _limits(spec: ChrootSpec) -> str:
    values = {
        "{} MiB of memory": spec.memory_limit_mib,
        "{} % of one cpu": spec.cpu_limit_percent,
        "{} processes": spec.process_limit,
    }
    found = [text.format(value) for text, value in values.items() if value is not None]
    return f"with at most {', '.join(found)}" if found else "without limits"


def _source(spec: ChrootSpec, root: Path) -> str:
    if spec.disk is None:
        return f"{spec.source}, nosuid and nodev"
    try:
        image = not identify_disk(spec.disk).block_device
    except OSError:
        image = True  # not there: verify says so
    return " ".join(mount_command(spec, str(root if spec.overlay == "none" else root.with_name("lower")), image=image))


def _confinement(spec: ChrootSpec) -> str:
    if not spec.namespaces:
        return "nothing but its root: its processes are root of the node"
    own = "own mount, pid, ipc, uts" + (", user" if spec.users else "")
    network = "the node's network" if spec.share_network else "a network of its own"
    filtered = "a seccomp filter" if spec.seccomp else "no seccomp filter"
    capabilities = f"{len(spec.capabilities)} capabilities"
    return f"{own} namespaces, {network}, {capabilities}, {filtered}, no new privileges; read back from /proc"


def _plain_arguments(spec: ChrootSpec, root: Path) -> tuple[hv.Argument, ...]:
    tokens = chroot_command(spec, root, ())
    why = "the start script with another root and this environment, and nothing else of its own"
    return (_of(tokens, ("environment",), why), _script(spec))


def _script(spec: ChrootSpec) -> hv.Argument:
    return _of((spec.init_script, "start"), ("init_script",), "the start script, and how it is called")


def _of(tokens: tuple[str, ...], params: tuple[str, ...], why: str) -> hv.Argument:
    # Whether it is this command at all, or another, follows from the isolation.
    return hv.Argument(tokens=tokens, origin=hv.Origin(plugin=_PLUGIN, params=(*params, "isolation"), why=why))


def _arguments(spec: ChrootSpec, root: Path) -> tuple[hv.Argument, ...]:
    held = None
    if spec.users or spec.interfaces:
        held = hv.Held(pid=_HOLDER_PID, users=spec.users, network=bool(spec.interfaces))
    sandbox = sandbox_of(spec, str(root), _UIDS if spec.users else None)
    tokens = sandboxed(sandbox, (), _STATUS_FD, _LIFE_FD, filter_fd=_FILTER_FD, held=held).argv
    groups: list[list[str]] = []
    for token in tokens:
        if token in _WHY or not groups:
            groups.append([token])
        else:
            groups[-1].append(token)
    return (*(_of(_named(group), *_WHY.get(group[0], ((), ""))) for group in groups), _script(spec))


def _named(group: list[str]) -> tuple[str, ...]:
    placeholder = {"--json-status-fd": "{status}", "--sync-fd": "{life}", "--seccomp": "{filter}"}.get(group[0])
    holder = f"/proc/{_HOLDER_PID}/"
    shown = [token.replace(holder, "/proc/{holder}/") for token in group]
    return (shown[0], placeholder) if placeholder else tuple(shown)
