"""Crash: the caller is killed, interrupted or refused at one of its changes. Then another program recovers."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

from hvcore.errors import DriverError, HvError
from hvcore.host.processes.process import wait_gone
from hvcore.model.state import State
from hvcore.testing.check import Bench, Failed, Level, Skipped, Tier, check, require, seconds_of
from hvcore.testing.checks.states import settled_state
from hvcore.testing.isolate import Ending, act_at, forked

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
    except DriverError:  # an untyped error of the driver, which the core has wrapped
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


def _each(
    bench: Bench, work: Callable[[Bench], None], act: Callable[[], None], before: Callable[[], object], words: str
) -> Iterator[tuple[str, Ending]]:
    """Do the work in a child with ``act`` before one of its changes, for each change: where, and how the child ended.

    Unless ``thorough``, only for an evenly spread sample. ``before`` brings the instance into the state in which the work
    begins. ``words`` has ``{}`` for the number of the change.
    """

    def changes(number: int) -> int:
        seen = act_at(number, act, bench.run_dir)
        work(bench)
        return seen()

    total = forked(partial(changes, -1)).result()
    for number in range(1, total + 1, 1 if bench.thorough else max(1, total // _SAMPLE)):
        before()
        yield words.format(number), forked(partial(changes, number))


def _settled(bench: Bench, where: str) -> None:
    """Recover as another program would. Require that the instance runs, or is gone with everything that it held."""
    node = bench.another_node()
    failed = [found for found in node.recover() if found.what == "failed"]
    require(not failed, f"{where}: recovery fails: {failed[0].detail if failed else ''}")
    infos = node.instances()
    if infos and infos[0].state in _ENDED:  # the interrupted stop had ended it, so a cleanup is legal
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
    """Create the things that are made only once (caches, directories) before changes are counted."""
    bench.start()
    bench.stop()


@check(Level.MUST, Tier.LIVE)
def crash_host_sigkill_start(bench: Bench) -> None:
    """The caller of a start is killed at its changes (thorough: at each one). The instance runs or is gone, and starts again.

    Why: Programs are killed and nodes lose power. A thing that was acquired before it was written down is lost for
    good. Taps, mounts and processes of dead starts are the most reported leaks of all (lxd#11520, kata#2198,
    hypeman#222).
    """
    _warm(bench)
    for where, ending in _each(bench, _start, _die, bench.stop, "killed at change {} of a start"):
        require(ending.signal in (0, signal.SIGKILL), f"{where}: it ended by {ending.signal}")
        _settled(bench, where)
        bench.stop()
        _clean_cycle(bench, where)


@check(Level.MUST, Tier.LIVE)
def crash_host_sigkill_stop(bench: Bench) -> None:
    """The caller of a stop is killed at its changes (thorough: at each one). The instance runs or is gone, and starts again.

    Why: A stop that was killed leaves an instance that is half released. The next operation has to release the rest, in
    the order of the ledger.
    """
    bench.start()
    for where, _ in _each(bench, _stop, _die, bench.start, "killed at change {} of a stop"):
        _settled(bench, where)
        bench.stop()
        _clean_cycle(bench, where)


@check(Level.MUST, Tier.LIVE)
def crash_interrupted_start(bench: Bench) -> None:
    """A start that is interrupted at one of its changes undoes itself. Nothing is left unless the instance runs.

    Why: Ctrl-C can come at any moment. Every project has leaked the process on an error path after it was spawned
    (kata#13564: any ? after spawn).
    """
    _warm(bench)
    for where, _ in _each(bench, _start, _interrupt, bench.stop, "interrupted at change {} of a start"):
        states = [info.state for info in bench.another_node().instances()]
        if not set(states) & set(_HEALTHY):
            _settled(bench, where)  # recovery completes an undo that was refused itself
        bench.stop()
        bench.nothing_left(f"{where}:")


@check(Level.MUST, Tier.LIVE)
def crash_disk_full(bench: Bench) -> None:
    """Each sampled change of a start is refused for lack of space: the start raises a typed error, and nothing is left half done.

    Why: A full /run has to be a clear error that costs no instance. libvirt once killed all guests because it could not
    write their state (gitlab.com/libvirt #549).
    """
    _warm(bench)
    for where, ending in _each(bench, _start_or_error, _refuse, bench.stop, "refused change {} of a start"):
        require(ending.error is None, f"{where}: raises {ending.error} and no typed error")
        _settled(bench, where)
    bench.stop()


@check(Level.MUST, Tier.LIVE)
def crash_emfile(bench: Bench) -> None:
    """Without a free descriptor, a start fails with a typed error and leaves nothing. Running instances go on.

    Why: A program that has used up its descriptors needs an error that says so, and an unchanged node.
    """
    _warm(bench)
    bench.start("other")

    for spare in _SPARE:

        def starved(spare: int = spare) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1 + spare, 4096))
            _start_or_error(bench)

        ending = forked(starved)
        ended = ending.error or ending.signal
        require(not ended, f"without free descriptors a start ends in {ended}")
        bench.stop()
    state = bench.info("other").state
    require(state is State.RUNNING, f"without free descriptors another instance is {state}")
    bench.another_node().recover()
    bench.stop("other")
    bench.nothing_left("without free descriptors a start")


@check(Level.MUST, Tier.LIVE)
def crash_vmm_sigkill(bench: Bench) -> None:
    """After its process was killed, the instance has ended within two seconds, with a reason. It can be cleaned up and started.

    Why: The kernel kills processes when memory runs out, and people kill them by mistake. An instance that is still
    shown as running is never restarted.
    """
    bench.start()
    started = bench.processes()
    state = _killed(bench)
    require(state in _ENDED, f"is {state} after its process was killed")
    require(bench.info().reason, "gives no reason after its process was killed")
    bench.node.cleanup(bench.name())
    bench.nothing_left("cleanup after its process was killed", started)
    _clean_cycle(bench, "after its process was killed")


@check(Level.HARDENING, Tier.LIVE)
def crash_vmm_sigkill_state(bench: Bench) -> None:
    """After its process was killed, the instance is crashed within two seconds, and not shutdown.

    Why: Monitoring restarts crashed instances and leaves alone those that their owner shut down.
    """
    bench.start()
    state = _killed(bench)
    require(state is State.CRASHED, f"is {state} after its process was killed, not crashed")


def _killed(bench: Bench) -> State:
    """The state after the instance's process was killed and its monitor has exited."""
    bench.kill(bench.process())
    monitor = bench.record().monitor
    if monitor is not None:
        wait_gone(monitor, 5.0)
    return settled_state(bench)


@check(Level.MUST, Tier.LIVE)
def crash_vmm_sigstop(bench: Bench) -> None:
    """While its process hangs (SIGSTOP), info answers within two seconds, another instance works, and a stop by force succeeds.

    Why: A program that hangs must not block its observers or other instances, and force has to end it.
    """
    bench.start()
    bench.start("web2")
    os.kill(bench.process().pid, signal.SIGSTOP)
    _wait_stopped(bench.process().pid)
    took_s = seconds_of(bench.info)
    require(took_s < 2.0, f"info of an instance whose process hangs takes {took_s:.1f} s")
    bench.stop("web2")
    took_s = seconds_of(bench.stop)
    require(took_s < 10.0, f"a stop by force of an instance whose process hangs takes {took_s:.1f} s")
    bench.nothing_left("an instance whose process hung")


def _wait_stopped(pid: int) -> None:
    """Wait until the kernel has delivered SIGSTOP, at most ten seconds."""
    give_up = time.monotonic() + 10.0
    while time.monotonic() < give_up:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().rpartition(")")[2].split()[0] == "T":
                return


@check(Level.MUST, Tier.LIVE)
def crash_partial_cleanup(bench: Bench) -> None:
    """After all its processes were killed, a stop still releases everything that the instance held and succeeds.

    Why: The process is gone, and its network and mounts are still there. A cleanup that begins with a kill and gives up
    at 'no such process' skips the rest (urunc#408).
    """
    bench.start()
    started = bench.processes()
    if not started:
        raise Skipped("its instances have no process")
    bench.kill(*started)
    try:
        bench.node.stop(bench.name(), deadline_s=10)
    except Exception as error:
        raise Failed(f"a stop after its processes were killed raises {type(error).__name__}: {error}") from error
    bench.nothing_left("a stop after its processes were killed", started)
