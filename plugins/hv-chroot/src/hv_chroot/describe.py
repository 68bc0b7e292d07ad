"""Everything a start would do, for people: the steps, and where each argument of the launch comes from."""

from __future__ import annotations

from typing import Final

import hvcore
from hv_chroot.confinement import sandbox_of
from hv_chroot.mounting import ROOT, mount_command
from hv_chroot.spec import ChrootSpec
from hvcore import identify_disk, sandboxed

__all__ = ["describe"]

_PLUGIN: Final = "chroot"
_STATUS_FD, _LIFE_FD = 3, 4  # numbers that exist only during a start; shown as {status} and {life}

# Option to the parameters that it follows from and the reason.
_WHY: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "setpriv": ((), "gives up what no process of the instance may ever get"),
    "bwrap": ((), "makes the namespaces and the file system"),
    "--json-status-fd": ((), "reports the init's pid and the script's exit code"),
    "--sync-fd": ((), "the init holds the life lock, nothing else inside does"),
    "--unshare-pid": ((), "its processes are those of one pid namespace"),
    "--unshare-ipc": ((), "own shared memory and message queues"),
    "--unshare-uts": (("hostname",), "own host name"),
    "--unshare-net": (("network",), "a network without a way out"),
    "--hostname": (("hostname",), "what its processes see as host name"),
    "--cap-drop": ((), "no capability but those that follow"),
    "--cap-add": ((), "daemons need it inside, it does not reach the node"),
    "--bind": ((), "the first disk is the whole file system"),
    "--dev": ((), "a small /dev of its own"),
    "--proc": ((), "its own processes only"),
    "--ro-bind-try": ((), "root inside may not change the node there"),
    "--chdir": ((), "begins at the root"),
    "--clearenv": ((), "nothing of the caller's environment"),
    "--setenv": ((), "what a script may count on"),
    "--": ((), "what follows is no option"),
}


def describe(spec: ChrootSpec, host: hvcore.Host) -> hvcore.Plan:
    """The plan. Looks whether the disk is a file, which decides about a loop device; changes nothing."""
    root = str(host.run_dir / "instances" / spec.name / ROOT)
    try:
        image = not identify_disk(spec.disk).block_device
    except OSError:
        image = True  # not there: verify says so
    command = " ".join(mount_command(spec, root, image=image))
    network = "the node's network" if spec.share_network else "no network"
    return hvcore.Plan(
        name=spec.name,
        driver=_PLUGIN,
        steps=(
            hvcore.Step(kind="claim", what=f"disk {spec.disk!r}, " + ("shared" if spec.read_only else "for it alone")),
            hvcore.Step(kind="mount", what=command),
            hvcore.Step(kind="mount", what="a tmpfs of 1 MiB for the output of the script"),
            hvcore.Step(kind="check", what=f"{spec.init_script!r} is a program on the disk, without leaving it"),
            hvcore.Step(
                kind="launch",
                what=f"{spec.init_script!r} start; ready when it exits with 0 within {spec.script_deadline_s:g} s",
            ),
            hvcore.Step(
                kind="confine",
                what=f"own mount, pid, ipc and uts namespaces, {network}, {len(spec.capabilities)} capabilities, "
                "no new privileges; read back from /proc",
            ),
        ),
        arguments=_arguments(spec, root),
    )


def _arguments(spec: ChrootSpec, root: str) -> tuple[hvcore.Argument, ...]:
    program = (spec.init_script, "start")
    tokens = list(sandboxed(sandbox_of(spec, root), program, _STATUS_FD, _LIFE_FD))[: -len(program)]
    groups: list[list[str]] = []
    for token in tokens:
        if token in _WHY or not groups:
            groups.append([token])
        else:
            groups[-1].append(token)
    arguments = [hvcore.Argument(tokens=_named(group), origin=_origin(group)) for group in groups]
    why = "the start script, and how it is called"
    origin = hvcore.Origin(plugin=_PLUGIN, params=("init_script",), why=why)
    return (*arguments, hvcore.Argument(tokens=program, origin=origin))


def _named(group: list[str]) -> tuple[str, ...]:
    placeholder = {"--json-status-fd": "{status}", "--sync-fd": "{life}"}.get(group[0])
    return (group[0], placeholder) if placeholder else tuple(group)


def _origin(group: list[str]) -> hvcore.Origin:
    params, why = _WHY.get(group[0], ((), ""))
    return hvcore.Origin(plugin=_PLUGIN, params=params, why=why)
