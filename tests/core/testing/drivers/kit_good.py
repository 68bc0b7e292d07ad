"""A driver that passes all checks. Each broken driver differs from it in one thing.

An instance is one confined process, ``timeout SECONDS sleep SECONDS``, which exits on SIGTERM.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import hvcore.plugin as hv

USER = hv.Identity(key="uid")
PARAMS = hv.ParamGroup(
    "good",
    hv.Param("motd", hv.text(max_bytes=80), default="hello", help="Text that the program would print."),
    hv.Param("size", hv.integer(minimum=1, maximum=9), default=1, help="Size of the instance."),
    hv.Param("quick", hv.boolean(), default=False, help="Whether the program exits after 0.2 s."),
    hv.Param("deaf", hv.boolean(), default=False, help="Whether the program ignores SIGTERM."),
    hv.Param("broken", hv.boolean(), default=False, help="Whether the program is missing."),
    hv.Param("kernel", hv.file(), help="File to boot."),
    hv.Param("password", hv.text(max_bytes=80), secret=True, help="Password of the console."),
)
ALLOW_ALL = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)  # linux/seccomp.h: return SECCOMP_RET_ALLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(hv.Resource[None]):
    """A file outside the instance's directory, which has to be released."""


class NoteKind(hv.ResourceKind[Note, None]):
    name: ClassVar[str] = "note"
    resource: ClassVar[type[Note]] = Note
    turn: ClassVar[hv.Turn] = hv.Turn.WHO

    def path(self, owner: hv.Owner) -> Path:
        return owner.host.run_dir / f"note-{owner.name}"

    def entry(self, resource: Note, site: hv.Site) -> Mapping[str, Any]:
        return {}

    def acquire(self, resource: Note, held: hv.Held) -> None:
        self.path(held.owner).write_text("taken")

    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        self.path(owner).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The decisions about an instance."""

    name: str
    motd: str
    size: int
    seconds: str
    deaf: bool
    broken: bool
    kernel: str | None


@hv.hookimpl
def params() -> hv.ParamGroup:
    return PARAMS


@hv.hookimpl
def resource_kinds() -> list[NoteKind]:
    return [NoteKind()]


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    if params["quick"] and params["deaf"]:
        yield hv.Problem(path="params.deaf", what="contradicts params.quick", got="true")


def stopped(pid: int) -> bool:
    """Whether the kernel has stopped the process: SIGSTOP is sent before it is delivered."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Good:
    """The base class of all broken drivers."""

    name: ClassVar[str] = "good"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (("good", sys.modules[__name__]),)
    hookspecs: ClassVar[tuple[object, ...]] = ()
    sandbox: ClassVar[dict[str, Any] | None] = {"filter": ALLOW_ALL}

    def __init__(self, hooks: hv.Hooks) -> None:
        self.hooks = hooks

    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        return Spec(
            name=instance.name,
            motd=params["motd"],
            size=params["size"],
            seconds="0.2" if params["quick"] else "100000",
            deaf=params["deaf"],
            broken=params["broken"],
            kernel=params["kernel"],
        )

    def verify(self, spec: Any, host: hv.Host) -> Iterable[hv.Problem]:
        return ()

    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        def origin(*keys: str) -> hv.Origin:
            return hv.Origin(plugin="good", params=keys, why="the program")

        text = spec.motd.replace(",", ",,")
        return hv.Plan(
            name=spec.name,
            driver=self.name,
            steps=(hv.Step(kind="uid", what="one of the pool"), hv.Step(kind="launch", what="timeout")),
            arguments=(
                hv.Argument(tokens=("timeout", spec.seconds), origin=origin("quick", "deaf", "broken")),
                hv.Argument(tokens=("--say", f"text={text},size={spec.size}"), origin=origin("motd", "size")),
                *([hv.Argument(tokens=("--kernel", spec.kernel), origin=origin("kernel"))] if spec.kernel else ()),
            ),
        )

    def argv(self, spec: Any) -> tuple[str, ...]:
        if spec.broken:
            return ("/usr/bin/no-such-program",)
        # Alone, sleep is the first process of its namespace and has no handler: SIGTERM does not reach it.
        sleep = ("/usr/bin/sleep", spec.seconds)
        return sleep if spec.deaf or spec.seconds == "0.2" else ("/usr/bin/timeout", spec.seconds, *sleep)

    def start(self, spec: Any, job: hv.Job) -> None:
        job.acquire(Note(key="note"), USER, level=hv.Level.STRICT)
        self.launch(spec, job)

    def launch(self, spec: Any, job: hv.Job) -> None:
        sandbox = None
        if self.sandbox is not None:
            sandbox = hv.Sandbox(**{"who": job.held[USER], **self.sandbox})
        child = job.launch(hv.Command(argv=self.argv(spec), sandbox=sandbox))
        try:
            process = self.ready(child, job)
            if process is None:
                return
            if job.record.paused:
                self.send(process, signal.SIGSTOP)
                while not stopped(process.pid) and job.deadline.left() > 0.0:
                    pass
            job.started(process, child.monitor())
        finally:
            child.close()

    def ready(self, child: hv.Child, job: hv.Job) -> hv.ProcessId | None:
        """Its process; None if it has ended as it should, which on a busy machine may be before anybody looks."""
        while job.deadline.left() > 0.0:
            process = child.process()
            if process is not None and executed(process.pid):
                return process
            ended = child.wait(0.002)
            if ended is not None and ended.code == 0:
                return None
            if ended is not None:
                said = job.output()
                raise hv.LaunchError(name=job.name, how=f"timeout {ended}", output=said, argv=("timeout",))
        raise hv.DeadlineError(subject=job.name, waiting_for="process", waited_s=0.0, todo="try again")

    @staticmethod
    def send(process: hv.ProcessId | None, number: int) -> None:
        if process is None:
            return
        with hv.verified_pidfd(process) as fd, suppress(ProcessLookupError):
            if fd is not None:
                signal.pidfd_send_signal(fd, number)

    def observe(self, live: hv.Live) -> hv.Observation:
        process = live.record.process
        if process is not None and hv.alive(process):
            state = hv.State.PAUSED if stopped(process.pid) else hv.State.RUNNING
            return hv.Observation(state=state, pid=process.pid)
        ended = hv.read_status(live.dir / hv.STATUS).ended
        if ended is not None and ended.code == 0:
            return hv.Observation(state=hv.State.SHUTDOWN, reason="it has exited")
        return hv.Observation(state=hv.State.CRASHED, reason=f"it {ended or 'ended'}")

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        process = live.record.process
        if process is None:
            return "gone"
        if not force:
            self.send(process, signal.SIGCONT)
            self.send(process, signal.SIGTERM)
            if hv.wait_gone(process, job.deadline.left()):
                return "term-by-itself"
        hv.kill_and_wait(process, subject=job.name, deadline_s=60)
        return "kill"

    def pause(self, live: hv.Live, job: hv.Job) -> None:
        self.send(live.record.process, signal.SIGSTOP)
        self.wait_state(live, hv.State.PAUSED, job)

    def resume(self, live: hv.Live, job: hv.Job) -> None:
        self.send(live.record.process, signal.SIGCONT)
        self.wait_state(live, hv.State.RUNNING, job)

    def wait_state(self, live: hv.Live, state: hv.State, job: hv.Job) -> None:
        while self.observe(live).state is not state and job.deadline.left() > 0.0:
            pass

    def console(self, live: hv.Live) -> hv.Console:
        return hv.Console(name=live.record.name, argv=("true",))

    def adopt(self, live: hv.Live, job: hv.Job) -> bool:
        status = hv.read_status(live.dir / hv.STATUS)
        process = None if status.pid is None else hv.identify(status.pid)
        if process is None or status.ended is not None or not hv.alive(process) or not executed(process.pid):
            return False
        job.started(process, None)
        return True


def executed(pid: int) -> bool:
    """Whether it is the program by now, and no longer what confines it."""
    with suppress(OSError):
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) in {"timeout", "sleep"}
    return False
