"""A driver whose guests are real processes that sleep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import hvcore.plugin as hv


@dataclass(frozen=True)
class SleeperSpec:
    seconds: int = 100


class Sleeper:
    """A guest that sleeps. ``meanwhile`` is called after the launch and before it is recorded."""

    name: ClassVar[str] = "fake"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = ()
    hookspecs: ClassVar[tuple[object, ...]] = ()
    sandbox: ClassVar[hv.Sandbox | None] = None
    meanwhile: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def __init__(self, hooks: hv.Hooks) -> None:
        self._hooks = hooks

    def plan(self, instance: hv.Instance, params: hv.Params) -> SleeperSpec:
        return SleeperSpec()

    def verify(self, spec: SleeperSpec, host: hv.Host) -> Iterable[hv.Problem]:
        return ()

    def describe(self, spec: SleeperSpec, host: hv.Host) -> hv.Plan:
        return hv.Plan(name="x", driver=self.name, steps=())

    def start(self, spec: SleeperSpec, job: hv.Job) -> None:
        job.acquire(hv.Identity(key="uid"), level=hv.Level.STRICT)
        child = job.launch(hv.Command(argv=("sleep", str(spec.seconds)), sandbox=self.sandbox))
        try:
            type(self).meanwhile()
            process = child.process()
            while process is None and child.ended() is None:
                process = child.process()
            assert process is not None
            job.started(process, child.monitor())
        finally:
            child.close()

    def observe(self, live: hv.Live) -> hv.Observation:
        process = live.record.process
        lives = process is not None and hv.alive(process)
        return hv.Observation(state=hv.State.RUNNING if lives else hv.State.CRASHED)

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        assert live.record.process is not None
        hv.kill_and_wait(live.record.process, subject=job.name, deadline_s=60)
        return "kill"
