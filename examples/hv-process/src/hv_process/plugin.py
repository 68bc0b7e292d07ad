"""Driver ``process``: each instance is one program and its child processes, in their own namespaces."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import hvcore.plugin as hv

__all__ = ["ProcessDriver", "ProcessSpec"]

SHELL: Final = "/usr/bin/bash"
# The kernel does not deliver a signal to the first process of a pid namespace if that has no handler for it. So a shell is
# the first: it passes SIGTERM on, reaps, and exits with the program's exit status, which ends all other processes.
INIT: Final = """set -m; trap 'kill "$!"' TERM; "$BASH" -O execfail -c "$@" & exec READY>&-
while kill -0 "$!"; do wait -f "$!"; done 2>/dev/null; wait "$!"; exit "$?" """
# Only a successful exec closes this shell's copy of READY: a pipe that ends empty means that the program runs, and one with
# a word means that it does not. Values are arguments, never code.
ENTER: Final = """{ cd -- "$1" && exec -- "${@:2}"; } READY>&-; echo failed >&READY; exit 127"""
PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
USER: Final = hv.Identity(key="uid")
AFTER_KILL_S: Final = 5.0
ENDING_S: Final = 1.0


@hv.impl.params
def params() -> hv.ParamGroup:
    """The parameters of this driver; `hv params process` shows them."""
    return hv.ParamGroup(
        "process",
        hv.Param(
            "command",
            hv.list_of(hv.text(max_bytes=4096, empty=True), maximum=256, repeats=True),
            required=True,
            help="The program and its arguments. No shell interprets them.",
            example=["sleep", "infinity"],
        ),
        hv.Param(
            "environment",
            hv.list_of(hv.regexp("[A-Za-z_][A-Za-z0-9_]*=.*", "NAME=value"), maximum=256),
            default=[],
            help="The variables of the program's environment, besides PATH. Every user of the node can read them.",
            example=["LANG=C.UTF-8"],
        ),
        hv.Param(
            "working_directory",
            hv.regexp("/.*", "an absolute path"),
            default="/",
            help="The program's working directory, as a path inside its view.",
        ),
        hv.Param(
            "read_only",
            hv.list_of(hv.directory()),
            default=[],
            help="The directories of the node that the program can read, besides /usr.",
        ),
        hv.Param(
            "writable",
            hv.list_of(hv.directory()),
            default=[],
            help="The directories of the node that the program can read and write, as far as their modes allow.",
        ),
        hv.Param(
            "network",
            hv.boolean(),
            default=False,
            help="Whether the program shares the node's network. Otherwise it has no network.",
        ),
        hv.Param(
            "confinement",
            hv.one_of({"strict": "Run it with its own uid. Needs root.", "user": "Run it in a user namespace."}),
            default_means="strict for root, user for other callers",
            help="The user as whom the program runs.",
        ),
        hv.Param(
            "enforce_limits",
            hv.boolean(),
            default=False,
            help="Whether memory_mib and vcpus limit the program, by its control group. Otherwise they have no effect.",
        ),
        hv.Param(
            "stop_after",
            hv.seconds(maximum=3600),
            default=10,
            unit="seconds",
            help="The time between SIGTERM and SIGKILL at a stop.",
        ),
        help="The program.",
    )


@hv.impl.check
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Errors between values. It runs anywhere, so it uses its arguments only."""
    for field in ("disks", "nics"):
        if getattr(instance, field):
            yield hv.Problem(path=field, what="is not supported by this driver", todo="remove them")
    if not params["command"]:
        yield hv.Problem(path="params.command", what="is empty", todo="name a program")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """Everything that the program can see, decided by `plan`. The record keeps it while the instance runs."""

    name: str
    command: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    read_only: tuple[str, ...]
    writable: tuple[str, ...]
    network: bool
    confinement: str | None
    memory_mib: int | None
    vcpus: int | None
    stop_after_s: float

    @property
    def resources(self) -> tuple[hv.Resource[Any], ...]:
        """The resources that the instance holds while it runs. hvcore checks, shows, acquires and releases them."""
        memory_bytes = None if self.memory_mib is None else self.memory_mib << 20
        limits = hv.GroupLimits(memory_bytes=memory_bytes, cpus=self.vcpus)
        return (hv.ControlGroup(key="cgroup", given_by="params.enforce_limits", limits=limits), USER)


class ProcessDriver:
    """The class that the entry point names. hvcore takes the lock and checks the state before it calls a method."""

    name: ClassVar[str] = "process"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (("process", sys.modules[__name__]),)
    hookspecs: ClassVar[tuple[object, ...]] = ()

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hv.Instance, params: hv.Params) -> ProcessSpec:
        """The spec, from the instance and its parameters only: no file, no clock, no process."""
        return ProcessSpec(
            name=instance.name,
            command=params["command"],
            environment=params["environment"],
            working_directory=params["working_directory"],
            read_only=params["read_only"],
            writable=params["writable"],
            network=params["network"],
            confinement=params["confinement"],
            memory_mib=instance.memory_mib if params["enforce_limits"] else None,
            vcpus=instance.vcpus if params["enforce_limits"] else None,
            stop_after_s=params["stop_after"],
        )

    def verify(self, spec: ProcessSpec, host: hv.Host) -> Iterator[hv.Problem]:
        """The problems of this node. Changes nothing."""
        for finding in self.examine(host):
            if finding.severity is hv.Severity.PROBLEM:
                yield hv.Problem(path=finding.subject, what=finding.what, todo=finding.todo)
        if spec.confinement == "strict" and not host.privileged:
            yield hv.Problem(path="params.confinement", what="needs root", got="'strict'", todo="use 'user'")
        yield from self._hooks.kinds.problems(spec.resources, _site(spec, host))

    def examine(self, host: hv.Host) -> Iterable[hv.Finding]:
        """The programs that every instance needs, for `hv doctor`."""
        yield hv.program(SHELL, "bash")
        yield hv.program("bwrap", "bubblewrap")
        yield hv.program("setpriv", "util-linux")

    def describe(self, spec: ProcessSpec, host: hv.Host) -> hv.Plan:
        """The plan that `hv plan` and `hv explain` show."""
        argv = _argv(spec, "{ready}")
        shell = hv.Origin(plugin=self.name, why="an init, and a shell that becomes the program")
        where = hv.Origin(plugin=self.name, params=("working_directory",))
        command = hv.Origin(plugin=self.name, params=("command",))
        site = _site(spec, host)
        return hv.Plan(
            name=self.name,
            driver=self.name,
            steps=(
                *self._hooks.kinds.steps(spec.resources, site),
                hv.Step(kind="launch", what=f"the program, confinement {site.level}, and wait until it is executed"),
            ),
            arguments=(
                hv.Argument(tokens=argv[:6], origin=shell),
                hv.Argument(tokens=argv[6:7], origin=where),
                *(hv.Argument(tokens=(word,), origin=command) for word in argv[7:]),
            ),
        )

    def start(self, spec: ProcessSpec, job: hv.Job) -> None:
        """Acquire, launch, wait until the program runs. If this raises, hvcore releases everything in the ledger."""
        handles = job.acquire(*spec.resources, level=_site(spec, job.host).level)
        sandbox = _sandbox(spec, handles[USER] or hv.AsCaller())
        up, ready = os.pipe()
        try:
            try:
                command = hv.Command(argv=_argv(spec, str(ready)), sandbox=sandbox, fds=(ready,))
                child = job.launch(command)
            finally:
                os.close(ready)  # our copy: the pipe ends when the last one is closed
            try:
                _wait_until_up(up, child, command, job)
                _remember(sandbox, child, command, job)
            finally:
                child.close()
        finally:
            os.close(up)
        if job.record.paused:
            self.pause(job.live, job)

    def observe(self, live: hv.Live) -> hv.Observation:
        """The state now: fast, without the lock, also of a program that has ended."""
        process = live.record.process
        found = None if process is None else hv.figures(process)
        if process is None or found is None:
            ended = hv.read_status(live.dir / hv.STATUS).ended
            state = hv.State.SHUTDOWN if ended == hv.Ended(code=0) else hv.State.CRASHED
            return hv.Observation(state=state, reason=str(ended or "its process has ended"))
        spec = hv.decode(ProcessSpec, live.record.spec)
        group = live.group
        used = None if group is None else group.figures()
        return hv.Observation(
            state=hv.State.PAUSED if group is not None and group.frozen() else hv.State.RUNNING,
            pid=process.pid,
            memory_mib=spec.memory_mib,
            vcpus=spec.vcpus,
            resident_mib=found.resident_mib if used is None or used.memory_bytes is None else used.memory_bytes >> 20,
            cpu_seconds=found.cpu_seconds if used is None or used.cpu_seconds is None else used.cpu_seconds,
            uptime_s=found.uptime_s,
        )

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        """SIGTERM to the program, then SIGKILL to all processes that are left. hvcore releases the resources."""
        process = live.record.process
        if process is None:
            return "gone"
        if live.group is not None:
            live.group.thaw()
        if not force:
            spec = hv.decode(ProcessSpec, live.record.spec)
            with hv.verified_pidfd(process) as pidfd:
                if pidfd is None:
                    return "gone"
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if hv.wait_gone(process, job.deadline.left(at_most=spec.stop_after_s)):
                return "powerdown"
        hv.kill_and_wait(process, subject=job.name, deadline_s=AFTER_KILL_S)
        return "kill"

    def pause(self, live: hv.Live, job: hv.Job) -> None:
        """Freeze the program and its child processes."""
        if live.group is None:
            raise hv.NodeError(f"{job.name}: has no control group, so it cannot be frozen; see hv doctor")
        live.group.freeze(job.deadline.left())

    def resume(self, live: hv.Live, job: hv.Job) -> None:
        """Let the frozen processes of the instance continue."""
        if live.group is not None:
            live.group.thaw()

    def log(self, live: hv.Live) -> Path:
        """The file with its standard output and standard error."""
        return live.dir / "log"


def _site(spec: ProcessSpec, host: hv.Host) -> hv.Site:
    strict = host.privileged if spec.confinement is None else spec.confinement == "strict"
    return hv.Site(name=spec.name, host=host, level=hv.Level.STRICT if strict else hv.Level.USER)


def _sandbox(spec: ProcessSpec, who: hv.AsUser | hv.AsCaller) -> hv.Sandbox:
    return hv.Sandbox(
        who=who,
        view=hv.View(
            read_only=tuple((path, path) for path in spec.read_only),
            writable=tuple((path, path) for path in spec.writable),
            proc=True,
        ),
        share_network=spec.network,
        environment=(("PATH", PATH), *_variables(spec)),
    )


def _variables(spec: ProcessSpec) -> Iterator[tuple[str, str]]:
    for variable in spec.environment:
        name, _, value = variable.partition("=")
        yield name, value


def _argv(spec: ProcessSpec, ready: str) -> tuple[str, ...]:
    """The command, made again for each start and never read back."""
    init, enter = (script.replace("READY", ready) for script in (INIT, ENTER))
    return (SHELL, "-c", init, "init", enter, "process", spec.working_directory, *spec.command)


def _wait_until_up(up: int, child: hv.Child, command: hv.Command, job: hv.Job) -> None:
    if not hv.wait_readable(up, job.deadline.left()):
        raise hv.DeadlineError(
            subject=job.name, waiting_for="program", waited_s=job.deadline.seconds, todo="try a longer deadline"
        )
    if os.read(up, 1):
        how = str(child.wait(AFTER_KILL_S) or "ended")
        raise hv.LaunchError(name=job.name, how=how, output=job.output(), argv=command.argv)


def _remember(sandbox: hv.Sandbox, child: hv.Child, command: hv.Command, job: hv.Job) -> None:
    """Prove from /proc that the program is confined as requested, and record its process."""
    process = child.process()
    weak = [] if process is None else hv.weaknesses(sandbox, process.pid)
    if process is None or (weak and hv.wait_gone(process, ENDING_S)):  # it ended before the proof
        how = str(child.wait(AFTER_KILL_S) or "ended")
        raise hv.LaunchError(name=job.name, how=how, output=job.output(), argv=command.argv)
    if weak:
        raise hv.ConfinementError(f"{job.name}: is confined less than requested: {'; '.join(weak)}; see hv doctor")
    job.started(process, child.monitor())
