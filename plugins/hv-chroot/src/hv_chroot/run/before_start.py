"""Before a start: why this node cannot run an instance, and the plan with the origin of each argument."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.families.root import Bind
from hv_chroot.names import ROOT
from hv_chroot.resource import resources_of
from hv_chroot.resources.root_files import program_problem, script_problem
from hv_chroot.run.confinement import chroot_command, sandbox_of
from hv_chroot.run.start import root_problem
from hv_chroot.seccomp import MACHINES
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import sandboxed

__all__ = ["describe", "examine", "verify"]

_TOOLS: Final = {"bwrap": "bubblewrap", "mount": "mount", "setpriv": "util-linux"}
"""For each program the Debian package that contains it."""
_PLAIN_TOOLS: Final = {"chroot": "coreutils", "env": "coreutils", "mount": "mount"}
_FOR_USERS: Final = {"nsenter": "util-linux", "unshare": "util-linux"}
_DATA: Final = ("data", "home", "media", "mnt", "run", "srv", "tmp", "var")
"""Directories of a root in which no distribution has an interpreter."""
_LOOP: Final = "/dev/loop-control"

_PLUGIN: Final = "chroot"
# They exist only during a start; shown as {status}, {life}, {filter} and {holder}.
_STATUS_FD, _LIFE_FD, _FILTER_FD, _HOLDER_PID = 3, 4, 5, 0
_UIDS: Final = range(65536)

_USERS: Final = ("user_namespace", "network")
# For each option the parameters that it follows from, and the reason.
_WHY: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "nsenter": (_USERS, "joins the namespaces that were created before the launch"),
    "setpriv": (("capabilities",), "drops the capabilities that no process of the instance may get"),
    "bwrap": (_USERS, "creates the namespaces and the file system"),
    "--ro-bind": (_USERS, "the node's programs, read-only, for the next steps of the launch"),
    "--dev-bind": (_USERS, "the node's /proc, which has the namespaces to join"),
    "--json-status-fd": ((), "reports the init's pid and the script's exit status"),
    "--sync-fd": ((), "only the init holds the life lock"),
    "--seccomp": (("seccomp", "capabilities"), "refuses system calls that a service does not need"),
    "--unshare-pid": ((), "its processes are in one pid namespace"),
    "--unshare-ipc": ((), "own shared memory and message queues"),
    "--unshare-uts": (("hostname",), "own host name"),
    "--unshare-net": (("network",), "a network without a connection"),
    "--hostname": (("hostname",), "the host name that its processes see"),
    "--cap-drop": ((), "drops all capabilities but those that follow"),
    "--cap-add": (("capabilities",), "daemons inside need it"),
    "--bind": (_USERS, "the root, which becomes the whole file system"),
    "--dev": (_USERS, "a minimal /dev"),
    "--proc": ((), "shows only its own processes"),
    "--ro-bind-try": (_USERS, "read-only, so that no process inside can change the node there"),
    "--chdir": ((), "starts in the root directory"),
    "--clearenv": ((), "drops the caller's environment"),
    "--setenv": (("environment",), "the environment of the scripts"),
    "--": (_USERS, "end of the options"),
}


def verify(hooks: hv.Hooks, spec: ChrootSpec, host: hv.Host) -> Iterator[hv.Problem]:
    """Every reason that shows without mounting anything."""
    if not host.privileged:
        what = "only root can mount a disk"
        yield hv.Problem(path="privileges", what=what, got=f"uid {os.geteuid()}", todo="run it as root")
    yield from _abilities(spec)
    yield from _script_problems(spec, _site(spec, host))
    yield from hooks.kinds.problems(resources_of(spec), _site(spec, host))


def _script_problems(spec: ChrootSpec, site: hv.Site) -> Iterator[hv.Problem]:
    """What is wrong with the start script, as far as that shows: in a directory, or in the root of a running instance."""
    root = _visible_root(spec, site)
    if root is None or (root != site.dir / ROOT and any(map(_may_cover, spec.binds))):
        return
    if root != site.dir / ROOT and spec.overlay == "none" and os.statvfs(root).f_flag & os.ST_NOEXEC:
        what, todo = "is on a file system that is mounted noexec", "mount it with exec, or use another directory"
        yield hv.Problem(path="params.root_directory", what=what, got=repr(spec.directory), todo=todo)
    problem = script_problem(root, spec.init_script, dict(spec.environment)["PATH"])
    if problem is not None:
        what, todo = problem
        if program_problem(root, spec.init_script) is not None:
            what = f"{what} in the root"
        yield hv.Problem(path="params.init_script", what=what, got=repr(spec.init_script), todo=todo)
    elif spec.namespaces and (wrong := root_problem(spec, root)) is not None:
        yield hv.Problem(path="params.root_directory", what=wrong[0], got=repr(spec.directory), todo=wrong[1])


def _may_cover(bind: Bind) -> bool:
    """Whether a bind may bring the script or its interpreter: it is at or above a place where programs are."""
    return bind.target.split("/")[1] not in _DATA


def _visible_root(spec: ChrootSpec, site: hv.Site) -> Path | None:
    """What the root of the next start can be seen at; None when it is not mounted yet. Changes in memory are not in it."""
    if spec.overlay == "memory" or not os.path.ismount(site.dir / ROOT):
        directory = spec.directory if spec.overlay != "directory" else None
        return Path(directory) if directory is not None and os.path.isdir(directory) else None
    return site.dir / ROOT


def _site(spec: ChrootSpec, host: hv.Host) -> hv.Site:
    return hv.Site(name=spec.name, host=host, level=hv.Level.STRICT)


def _abilities(spec: ChrootSpec) -> Iterator[hv.Problem]:
    tools = {**(_TOOLS if spec.namespaces else _PLAIN_TOOLS), **(_FOR_USERS if spec.users or spec.interfaces else {})}
    for program, package in tools.items():
        if shutil.which(program) is None:
            yield hv.Problem(path=program, what="is not installed on this node", todo=f"install {package}")
    machine = os.uname().machine
    if spec.namespaces and spec.seccomp and machine not in MACHINES:
        what = "has no profile for this architecture"
        yield hv.Problem(path="params.seccomp", what=what, got=repr(machine), todo="set it to 'off'")


def examine(host: hv.Host) -> Iterator[hv.Finding]:
    """The findings, for ``hv doctor`` and ``hv verify chroot``."""
    if not host.privileged:
        what = f"only root can mount a disk, and this is uid {os.geteuid()}"
        yield hv.Finding(subject="privileges", severity=hv.Severity.PROBLEM, what=what, todo="run it as root")
    for name, package in _TOOLS.items():
        yield hv.program(name, package)
    if os.access(_LOOP, os.R_OK | os.W_OK):
        yield hv.Finding(subject=_LOOP, severity=hv.Severity.OK, what="image files can be mounted")
    else:
        what, todo = "cannot be used: image files cannot be mounted, block devices can", "modprobe loop"
        yield hv.Finding(subject=_LOOP, severity=hv.Severity.NOTE, what=what, todo=todo)


def describe(hooks: hv.Hooks, spec: ChrootSpec, host: hv.Host) -> hv.Plan:
    """The plan. Reads whether the disk is a file, which needs a loop device; changes nothing."""
    site = _site(spec, host)
    root = site.dir / ROOT
    return hv.Plan(
        name=spec.name,
        driver=_PLUGIN,
        steps=tuple(_steps(hooks, spec, site)),
        arguments=(
            *(_confined(spec, root) if spec.namespaces else _plain(spec, root)),
            _of((spec.init_script, "start"), ("init_script",), "the start script and its argument"),
        ),
    )


def _steps(hooks: hv.Hooks, spec: ChrootSpec, site: hv.Site) -> Iterator[hv.Step]:
    yield from hooks.kinds.steps(resources_of(spec), site)
    yield hv.Step(kind="check", what=f"{spec.init_script!r} is a program in the root, not a link that leads out of it")
    ready = f"ready when it exits with 0 within {spec.script_deadline_s:g} s"
    yield hv.Step(kind="launch", what=f"{spec.init_script!r} start; {ready}")
    yield hv.Step(kind="confine", what=_confinement(spec))


def _confinement(spec: ChrootSpec) -> str:
    if not spec.namespaces:
        return "only the root directory: its processes are root on the node"
    own = "own mount, pid, ipc, uts" + (", user" if spec.users else "")
    network = "the node's network" if spec.share_network else "its own network"
    filtered = "a seccomp filter" if spec.seccomp else "no seccomp filter"
    capabilities = f"{len(spec.capabilities)} capabilities"
    return f"{own} namespaces, {network}, {capabilities}, {filtered}, no new privileges; read back from /proc"


def _plain(spec: ChrootSpec, root: Path) -> Iterator[hv.Argument]:
    why = "runs the start script with another root and this environment, not confined"
    yield _of(chroot_command(spec, root, ()), ("environment",), why)


def _of(tokens: tuple[str, ...], params: tuple[str, ...], why: str) -> hv.Argument:
    # The isolation decides which command it is.
    return hv.Argument(tokens=tokens, origin=hv.Origin(plugin=_PLUGIN, params=(*params, "isolation"), why=why))


def _confined(spec: ChrootSpec, root: Path) -> Iterator[hv.Argument]:
    held = None
    if spec.users or spec.interfaces:
        held = hv.HeldNamespaces(pid=_HOLDER_PID, users=spec.users, network=bool(spec.interfaces))
    sandbox = sandbox_of(spec, str(root), _UIDS if spec.users else None)
    tokens = sandboxed(sandbox, (), _STATUS_FD, _LIFE_FD, filter_fd=_FILTER_FD, held=held).argv
    groups: list[list[str]] = []
    for token in tokens:
        if token in _WHY or not groups:
            groups.append([token])
        else:
            groups[-1].append(token)
    return (_of(_named(group), *_WHY.get(group[0], ((), ""))) for group in groups)


def _named(group: list[str]) -> tuple[str, ...]:
    placeholder = {"--json-status-fd": "{status}", "--sync-fd": "{life}", "--seccomp": "{filter}"}.get(group[0])
    holder = f"/proc/{_HOLDER_PID}/"
    shown = [token.replace(holder, "/proc/{holder}/") for token in group]
    return (shown[0], placeholder) if placeholder else tuple(shown)
