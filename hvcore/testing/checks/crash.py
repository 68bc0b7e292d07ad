"""Crash: the caller is killed, interrupted or refused at a change that it makes; then somebody else comes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator

from hvcore.errors import DriverError, HvError
from hvcore.host.processes.process import kill_and_wait, wait_gone
from hvcore.model.state import State
from hvcore.testing.bench import Bench
from hvcore.testing.check import Failed, Level, Skipped, Tier, check, require
from hvcore.testing.checks.states import settled_state
from hvcore.testing.isolate import Fate, forked
from hvcore.testing.watch import act_at

__all__: tuple[str, ...] = ()

_SAMPLE = 6
_SPARE = (0, 1, 2, 3, 5)
_HEALTHY = (State.RUNNING, State.PAUSED)
_ENDED = (State.SHUTDOWN, State.CRASHED)


def _start(bench: Bench) -> None:
    bench.another_node().driver(bench.subject.driver).start(bench.instance(), deadline_s=20)


def _start_or_error(bench: Bench) -> None:
    try:
        _start(bench)
    except DriverError:  # an error of its own that the core has wrapped
        raise
    except HvError:
        return


def _stop(bench: Bench) -> None:
    bench.another_node().stop(bench.name(), force=True, deadline_s=10)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _at(bench: Bench, number: int, act: Callable[[], None], work: Callable[[Bench], None]) -> Fate:
    """Do the work in a child, with the act before its n-th change."""

    def acted() -> None:
        act_at(number, act, bench.run_dir)
        work(bench)

    return forked(acted)


def _points(bench: Bench, work: Callable[[Bench], None]) -> Iterator[int]:
    """Numbers of the changes that the work makes: all of them, or a sample that is spread evenly."""

    def counted() -> int:
        seen = act_at(-1, _die, bench.run_dir)
        work(bench)
        return seen()

    total = forked(counted).result()
    step = 1 if bench.thorough else max(1, total // _SAMPLE)
    yield from range(1, total + 1, step)


def _each(
    bench: Bench, work: Callable[[Bench], None], act: Callable[[], None], before: Callable[[], object], words: str
) -> Iterator[tuple[str, Fate]]:
    """The work, with the act before one of its changes, for each of its points: in words where, and what became of it.

    ``before`` brings the instance to where the work begins; ``words`` have ``{}`` for the number of the change.
    """
    for number in _points(bench, work):
        before()
        yield words.format(number), _at(bench, number, act, work)


def _settled(bench: Bench, where: str) -> None:
    """Recover as another program would, and demand that it either runs or is gone with all that it held."""
    node = bench.another_node()
    failed = [found for found in node.recover() if found.what == "failed"]
    require(not failed, f"{where}: recovery fails: {failed[0].detail if failed else ''}")
    infos = node.instances()
    if infos and infos[0].state in _ENDED:  # it was told to end just before, and may be cleaned up
        node.cleanup(bench.name())
        infos = node.instances()
    states = [info.state for info in infos]
    require(set(states) <= set(_HEALTHY), f"{where}: is {states} after recovery, neither running nor gone")
    if not states:
        bench.nothing_left(f"{where}: gone, and")


def _clean_cycle(bench: Bench, where: str) -> None:
    try:
        bench.start()
        bench.stop()
    except Failed as error:
        raise Failed(f"{where}: afterwards it {error}") from error
    bench.nothing_left(f"{where}: a clean cycle afterwards")


def _warm(bench: Bench) -> None:
    """What is made only once (caches, directories) is there before anything is counted."""
    bench.start()
    bench.stop()


@check(
    Level.MUST,
    Tier.LIVE,
    why="Programs are killed, nodes lose power. Whatever was acquired and not written down first is lost for ever: taps, "
    "mounts and processes of dead starts are the most reported leaks of all (lxd#11520, kata#2198, hypeman#222).",
)
def crash_host_sigkill_start(bench: Bench) -> None:
    """The caller of a start is killed at its changes (thorough: at each one): it runs or it is gone, and starts again."""
    _warm(bench)
    for where, fate in _each(bench, _start, _die, bench.stop, "killed at change {} of a start"):
        require(fate.signal in (0, signal.SIGKILL), f"{where}: it ended by {fate.signal}")
        _settled(bench, where)
        bench.stop()
        _clean_cycle(bench, where)


@check(
    Level.MUST,
    Tier.LIVE,
    why="A stop that died half-way leaves a guest that is half gone: what it held has to be released by whoever comes "
    "next, in the order that the ledger says.",
)
def crash_host_sigkill_stop(bench: Bench) -> None:
    """The caller of a stop is killed at its changes (thorough: at each one): it runs or it is gone, and starts again."""
    bench.start()
    for where, _ in _each(bench, _stop, _die, bench.start, "killed at change {} of a stop"):
        _settled(bench, where)
        bench.stop()
        _clean_cycle(bench, where)


@check(
    Level.MUST,
    Tier.LIVE,
    why="Ctrl-C comes in the middle. Every error path after the process was spawned has leaked it somewhere (kata#13564: "
    "any ? after spawn).",
)
def crash_interrupted_start(bench: Bench) -> None:
    """A start that is interrupted at its changes undoes itself: nothing is left but what runs well."""
    _warm(bench)
    for where, _ in _each(bench, _start, _interrupt, bench.stop, "interrupted at change {} of a start"):
        states = [info.state for info in bench.another_node().instances()]
        if not set(states) & set(_HEALTHY):
            # What the undoing itself was not allowed to do, recovery does.
            _settled(bench, where)
        bench.stop()
        bench.nothing_left(f"{where}:")


@check(
    Level.MUST,
    Tier.LIVE,
    why="A full /run is a clear error and no reason to lose anything: libvirt once killed all guests because their state "
    "could not be written (gitlab.com/libvirt #549).",
)
def crash_disk_full(bench: Bench) -> None:
    """Each sampled change of a start is refused for want of space: a typed error, and nothing half is left."""
    _warm(bench)
    for where, fate in _each(bench, _start_or_error, _refuse, bench.stop, "refused change {} of a start"):
        require(fate.error is None, f"{where}: raises {fate.error} and no typed error")
        _settled(bench, where)
    bench.stop()


@check(
    Level.MUST,
    Tier.LIVE,
    why="A program that has used up its descriptors has to be told so, and finds everything as it was.",
)
def crash_emfile(bench: Bench) -> None:
    """With no descriptor to be had, a start fails with a typed error and leaves nothing; what runs goes on."""
    _warm(bench)
    bench.start("other")

    for spare in _SPARE:

        def starved(spare: int = spare) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1 + spare, 4096))
            _start_or_error(bench)

        fate = forked(starved)
        ended = fate.error or fate.signal
        require(not ended, f"without descriptors a start ends in {ended}")
        bench.stop()
    require(
        bench.info("other").state is State.RUNNING,
        f"without descriptors another instance is {bench.info('other').state}",
    )
    bench.another_node().recover()
    bench.stop("other")
    bench.nothing_left("without descriptors a start")


@check(
    Level.MUST,
    Tier.LIVE,
    why="The kernel kills for memory, people kill by mistake. An instance that is shown as running after that is restarted "
    "by nobody.",
)
def crash_vmm_sigkill(bench: Bench) -> None:
    """Its process is killed: within two seconds it has ended, with a reason; cleanup releases all and it starts again."""
    bench.start()
    started = bench.processes()
    kill_and_wait(bench.process(), subject=bench.name(), deadline_s=5)
    _wait_monitor(bench)
    state = settled_state(bench)
    require(state in _ENDED, f"is {state} after its process was killed")
    require(bench.info().reason, "gives no reason after its process was killed")
    bench.node.cleanup(bench.name())
    bench.nothing_left("cleanup after its process was killed", started)
    _clean_cycle(bench, "after its process was killed")


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="Whoever watches a node restarts what crashed and leaves alone what was shut down by its owner.",
)
def crash_vmm_sigkill_told(bench: Bench) -> None:
    """Its process is killed: within two seconds it is crashed, and not shutdown."""
    bench.start()
    kill_and_wait(bench.process(), subject=bench.name(), deadline_s=5)
    _wait_monitor(bench)
    state = settled_state(bench)
    require(state is State.CRASHED, f"is {state} after its process was killed, not crashed")


def _wait_monitor(bench: Bench) -> None:
    monitor = bench.record().monitor
    if monitor is not None:
        wait_gone(monitor, 5.0)


@check(
    Level.MUST,
    Tier.LIVE,
    why="A program that hangs holds up everybody who asks it. Looking must stay quick, others must not notice, and force "
    "has to end it.",
)
def crash_vmm_sigstop(bench: Bench) -> None:
    """Its process stands still: info answers within two seconds, another instance works, a stop by force ends it."""
    bench.start()
    bench.start("web2")
    os.kill(bench.process().pid, signal.SIGSTOP)
    _wait_standing(bench.process().pid)
    began = time.monotonic()
    bench.info()
    took_s = time.monotonic() - began
    require(took_s < 2.0, f"info of an instance whose process hangs takes {took_s:.1f} s")
    bench.stop("web2")
    began = time.monotonic()
    bench.stop()
    took_s = time.monotonic() - began
    require(took_s < 10.0, f"a stop by force of an instance whose process hangs takes {took_s:.1f} s")
    bench.nothing_left("an instance whose process hung")


def _wait_standing(pid: int) -> None:
    """Until the kernel says so, at most a second: a signal is sent before it is delivered."""
    give_up = time.monotonic() + 1.0
    while time.monotonic() < give_up:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().rpartition(")")[2].split()[0] == "T":
                return


@check(
    Level.MUST,
    Tier.LIVE,
    why="The process is gone and its network and mounts are still there: cleanup that begins with a kill and stops at "
    "'no such process' skips the rest (urunc#408).",
)
def crash_partial_cleanup(bench: Bench) -> None:
    """All its processes are gone: a stop still releases everything that it held, and is no error."""
    bench.start()
    started = bench.processes()
    if not started:
        raise Skipped("its instances have no process")
    for process in started:
        kill_and_wait(process, subject=bench.name(), deadline_s=5)
    try:
        bench.node.stop(bench.name(), deadline_s=10)
    except Exception as error:
        raise Failed(f"a stop of what has no process any more raises {type(error).__name__}: {error}") from error
    bench.nothing_left("a stop of what has no process any more", started)
