"""Lifecycle: from start to stop, through every state, and the reports of failures."""

from __future__ import annotations

from collections.abc import Callable

from hvcore.errors import DriverError, HvError, LaunchError, StateError
from hvcore.host.processes.process import wait_gone
from hvcore.model.answers import Outcome
from hvcore.model.names import MAX_NAME_BYTES
from hvcore.model.state import State
from hvcore.plugins.protocols import Pausable
from hvcore.testing.check import PATIENCE_S, Bench, Failed, Level, Tier, check, require, seconds_of, undelayed
from hvcore.testing.isolate import effects, forked

__all__ = ["settled_state"]

_FORCED = ("quit", "kill", "term")
_SEEN_WITHIN_S = 2.0


@check(Level.MUST, Tier.LIVE)
def life_full_cycle(bench: Bench) -> None:
    """start, info, list, stop: outcomes and states are right, and the instance is not listed afterwards.

    Why: Everyone does this: a started instance is seen to run, a stopped one is gone, and each step reports it.
    """
    name = bench.name()
    outcome = bench.start()
    require(outcome.changed and outcome.state is State.RUNNING, f"a start ends with {outcome.state}")
    info = bench.info()
    require(info.state is State.RUNNING, f"is {info.state} ({info.reason}) after its start")
    require(info.driver == bench.subject.driver, f"belongs to driver {info.driver!r}")
    require([one.name for one in bench.node.instances()] == [name], "is not listed while it runs")
    bench.subject.ready(bench.node, name)
    stopped = bench.node.stop(name, deadline_s=20)
    require(stopped.changed and stopped.state is State.STOPPED, f"a stop ends with {stopped.state}")
    require(stopped.stopped_by, "a stop does not say how the guest was stopped")
    require(bench.node.instances() == [], "is still listed after its stop")


@check(Level.MUST, Tier.LIVE)
def life_state_table(bench: Bench) -> None:
    """Reboot and stop work on a running and, if the driver can pause, on a paused instance. Illegal operations are refused.

    Why: The state table is the core's promise to every host application. A driver that fails at a legal operation
    breaks this promise.
    """
    name = bench.name()
    pausable = isinstance(bench.loaded.driver, Pausable)
    for paused in (False, True) if pausable else (False,):
        bench.start(paused=paused)
        where = "paused" if paused else "running"
        require(str(bench.info().state) == where, f"is {bench.info().state} after a start that should leave it {where}")
        _works(f"reboot while {where}", lambda: bench.node.reboot(name, force=True, deadline_s=PATIENCE_S))
        try:
            bench.node.cleanup(name)
        except StateError:
            pass
        else:
            raise Failed(f"cleanup is allowed while {where}")
        if paused:
            _works("pause while paused", lambda: bench.node.pause(name))
        _works(f"stop while {where}", lambda: bench.node.stop(name, force=True, deadline_s=PATIENCE_S))


def _works(what: str, act: Callable[[], Outcome]) -> Outcome:
    try:
        outcome = act()
    except Exception as error:
        raise Failed(f"{what} fails: {type(error).__name__}: {error}") from error
    require(isinstance(outcome, Outcome), f"{what} returns no outcome")
    return outcome


@check(Level.MUST, Tier.LIVE)
def life_effects_within_plan(bench: Bench) -> None:
    """A step of the plan announces everything in the ledger after a start: a process, mounts, links, a disk.

    Why: The operator approves the plan. A process that no step mentions was not approved.
    """
    wanted = {"process": ("launch",), "mount": ("mount",), "link": ("link",), "disk": ("claim", "file", "disk", "lock")}
    plan = bench.handle.plan(bench.instance())
    kinds = {step.kind for step in plan.steps}
    bench.start()
    for entry in bench.record().ledger:
        announced = wanted.get(entry.kind)
        if announced and not kinds.intersection(announced):
            raise Failed(f"holds a {entry.kind}, and no step of its plan says {' or '.join(announced)}")
    started = bench.record().process is not None
    require(not started or "launch" in kinds, "runs a process, and no step of its plan says launch")


@check(Level.MUST, Tier.LIVE)
def life_start_failure_reports(bench: Bench) -> None:
    """The start of an instance that cannot be started raises a typed error with a reason, and leaves nothing.

    Why: After a failed start the operator needs the driver's words most: how the process exited, its output, what to
    do. And a start that leaves something makes the next one fail.
    """
    factory = bench.needs(bench.subject.failing, "failing")
    try:
        bench.handle.start(bench.instance(factory=factory), deadline_s=PATIENCE_S)
    except DriverError as error:
        raise Failed(f"a start that fails raises an untyped error: {error}") from error
    except HvError as error:
        require(len(str(error)) > len(bench.name()) + 10, f"fails without a reason: {error}")
        require(not isinstance(error, LaunchError) or error.how, "does not say how its process exited")
    except Exception as error:
        raise Failed(f"a start that fails raises {type(error).__name__}, not a typed error: {error}") from error
    else:
        raise Failed("starts the instance that its conformance subject gives as one that cannot start")
    bench.nothing_left("a start that failed")


@check(Level.MUST, Tier.LIVE)
def life_polite_stop(bench: Bench) -> None:
    """A guest that obeys a polite stop is not ended by kill, quit or term.

    Why: A guest that is killed at every stop loses data. Ganeti's chroot driver never ran its stop script because of a
    typing error of one character, and no test noticed.
    """
    name = bench.name()
    bench.start()
    bench.subject.ready(bench.node, name)
    outcome = bench.node.stop(name, deadline_s=20)
    require(outcome.stopped_by not in _FORCED, f"a guest that obeys a polite stop is ended by {outcome.stopped_by}")


@check(Level.MUST, Tier.LIVE)
def life_graceful_then_forced(bench: Bench) -> None:
    """A guest that ignores a polite stop is forced at most 1.5 seconds after the deadline, and the outcome says so.

    Why: A guest that ignores a polite stop must not delay the shutdown of a node beyond the caller's deadline.
    """
    factory = bench.needs(bench.subject.stubborn, "stubborn")
    bench.start(factory=factory)
    bench.subject.ready(bench.node, bench.name())
    began = undelayed()
    outcome = bench.node.stop(bench.name(), deadline_s=1.0)
    took_s = undelayed() - began
    require(
        outcome.stopped_by in _FORCED,
        f"a guest that ignores a polite stop is reported as stopped by {outcome.stopped_by}",
    )
    require(took_s < 2.5, f"a stop with a deadline of 1 s takes {took_s:.1f} s")


@check(Level.MUST, Tier.LIVE)
def life_stop_by_force(bench: Bench) -> None:
    """A stop by force ends every guest within two seconds.

    Why: Force is for a caller without time. It must not wait for a guest that does not answer.
    """
    bench.start(factory=bench.subject.stubborn)
    took_s = seconds_of(bench.stop)
    require(took_s < 2.0, f"a stop by force takes {took_s:.1f} s")


@check(Level.MUST, Tier.LIVE)
def life_deadline_kept(bench: Bench) -> None:
    """A start with a deadline of 1 ms succeeds or gives up within two seconds, and then leaves nothing.

    Why: A start that hangs holds the instance's lock and blocks every operation on the instance.
    """
    began = undelayed()
    try:
        bench.handle.start(bench.instance(), deadline_s=0.001)
    except HvError:
        bench.nothing_left("a start that ran out of time")
    took_s = undelayed() - began
    require(took_s < 2.0, f"a start with a deadline of 1 ms takes {took_s:.1f} s")


@check(Level.MUST, Tier.LIVE)
def life_exit_reported(bench: Bench) -> None:
    """A guest that shuts down on its own is in state shutdown within two seconds.

    Why: Monitoring restarts crashed instances and leaves alone those that were shut down. Both have ended, and only the
    driver knows how.
    """
    factory = bench.needs(bench.subject.ending, "ending")
    bench.start(factory=factory)
    record = bench.record()
    if record.process is not None:
        require(wait_gone(record.process, 20.0), "the subject's ending instance does not end")
        require(record.monitor is None or wait_gone(record.monitor, 5.0), "its monitor does not exit with it")
    state = settled_state(bench)
    require(state is State.SHUTDOWN, f"a guest that shut down is {state}, not shutdown")


def settled_state(bench: Bench) -> State:
    """The first state other than running and paused, or the state after two seconds."""
    give_up = undelayed() + _SEEN_WITHIN_S
    while (state := bench.info().state) in (State.RUNNING, State.PAUSED):
        if undelayed() > give_up:
            break
    return state


@check(Level.MUST, Tier.LIVE)
def life_name_limits(bench: Bench) -> None:
    """The longest name works, and stopping web1 leaves web10 alone.

    Why: Names become directories, sockets and cgroups. Long ones exceed a socket's address (107 bytes), and a
    comparison by prefix takes web10 for a part of web1, as Ganeti's chroot driver did with mounts.
    """
    room = MAX_NAME_BYTES - len(bench.name(""))
    long = "a" * min(63 - len(bench.name("")), room)
    while len(bench.name(long)) < MAX_NAME_BYTES - 1:
        long += "." + "b" * min(62, MAX_NAME_BYTES - len(bench.name(long)) - 1)
    bench.start(long)
    bench.stop(long)
    for label in ("web1", "web10"):
        bench.start(label)
    pid = bench.info("web10").pid
    bench.stop("web1")
    info = bench.info("web10")
    require((info.state, info.pid) == (State.RUNNING, pid), f"stopping web1 leaves web10 {info.state}")


@check(Level.MUST, Tier.LIVE)
def argv_no_shell(bench: Bench) -> None:
    """Neither a start nor a stop runs a shell with a command line.

    Why: A shell between the driver and its program turns values into code, and adds a process that can be left behind.
    """

    def work() -> list[str]:
        return effects(
            lambda: (bench.start(), bench.stop()), events=("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
        )

    shells = ("'sh'", "'/bin/sh'", "'bash'", "'/bin/bash'", "'/usr/bin/sh'", "'dash'")
    seen = [effect for effect in forked(work).result() if effect.startswith("os.system") or _runs(effect, shells)]
    require(not seen, f"runs a shell: {seen[:1]}")


def _runs(effect: str, shells: tuple[str, ...]) -> bool:
    program = effect.partition(": ")[2].partition(",")[0]
    return program in shells and "'-c'" in effect
