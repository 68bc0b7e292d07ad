"""The plan of a start: its steps, and the launch with the origin of each argument."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hv_chroot.names import ROOT
from hv_chroot.resource import resources_of
from hv_chroot.run.confinement import chroot_command, sandbox_of, site_of
from hv_chroot.spec import ChrootSpec
from hvcore.plugin import sandboxed

__all__ = ["describe"]

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


def describe(hooks: hv.Hooks, spec: ChrootSpec, host: hv.Host) -> hv.Plan:
    """The plan. Reads whether the disk is a file, which needs a loop device; changes nothing."""
    site = site_of(spec, host)
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
