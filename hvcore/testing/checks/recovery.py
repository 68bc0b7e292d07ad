"""Recovery: another program takes over, with nothing but the files on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hvcore.errors import HvError
from hvcore.host.processes.process import alive, identify
from hvcore.model.codec import encode
from hvcore.model.record import Phase, ProcessId
from hvcore.model.state import State
from hvcore.testing.check import PATIENCE_S, Bench, Failed, Level, Tier, check, require
from hvcore.testing.isolate import forked

__all__: tuple[str, ...] = ()


@check(Level.MUST, Tier.LIVE)
def recover_running(bench: Bench) -> None:
    """The program that started the instance has exited: another one sees the same process and stops it.

    Why: Often another program stops an instance than the one that started it. State that a driver keeps in memory is
    gone by then.
    """

    def started() -> tuple[int | None, str]:
        bench.start()
        return bench.info().pid, str(bench.info().state)

    pid, state = forked(started).result()
    info = bench.another_node().info(bench.name())
    words = f"was {state} with pid {pid}, for another program {info.state} with pid {info.pid}"
    require((info.pid, str(info.state)) == (pid, state), words)
    processes = bench.processes()
    stopped = forked(
        lambda: bench.another_node().stop(bench.name(), force=True, deadline_s=PATIENCE_S).changed
    ).result()
    require(stopped, "a stop by another program says that it changed nothing")
    bench.nothing_left("a stop by another program", processes)


@check(Level.MUST, Tier.LIVE)
def recover_wrong_process(bench: Bench) -> None:
    """Another program now has the pid of its process: the instance counts as ended, and that program gets no signal.

    Why: The kernel reuses pids. A driver that relies on the pid signals another program (forkd#298: age is the
    wrong axis, identity is).
    """
    bench.start()
    process = bench.process()
    with _bystander() as stranger:
        bench.kill(process)
        # The kernel does not reuse a number within 10 ms, but this stranger may have started in the same 10 ms.
        began = min(process.start_ticks, stranger.start_ticks - 1)
        bench.save(process=ProcessId(pid=stranger.pid, start_ticks=began, boot_id=process.boot_id), monitor=None)
        state = bench.another_node().info(bench.name()).state
        try:
            bench.another_node().stop(bench.name(), force=True, deadline_s=PATIENCE_S)
        except HvError as error:
            raise Failed(f"cannot be stopped while another program has the pid of its process: {error}") from error
        require(alive(stranger), "a stop signals another program that has the pid of its process")
        require(
            state not in (State.RUNNING, State.PAUSED),
            f"counts as {state} while another program has the pid of its process",
        )


@contextmanager
def _bystander() -> Iterator[ProcessId]:
    """A process that belongs to no instance."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        found = identify(child.pid)
        if found is None:
            raise Failed("the other program of this check could not be started")
        yield found
        child.kill()


@check(Level.MUST, Tier.LIVE)
def recover_leaves_running_alone(bench: Bench) -> None:
    """Recovery does nothing to a running instance, which keeps its process.

    Why: Recovery is for interrupted operations. libvirt once stopped every guest of a node while it recovered. A
    healthy guest is always left alone.
    """
    bench.start()
    before = bench.info()
    found = bench.another_node().recover()
    require(not found, f"recover changes a running instance: {[(one.what, one.detail) for one in found]}")
    after = bench.info()
    same = (after.state, after.pid) == (before.state, before.pid)
    require(same, f"was {before.state} with pid {before.pid}, after recover {after.state} with pid {after.pid}")


@check(Level.MUST, Tier.LIVE)
def recover_interrupted_start(bench: Bench) -> None:
    """The record says starting: recovery finishes the start, or removes the instance with everything that it held.

    Why: An interrupted start is finished or undone. Otherwise the instance could neither be used nor started.
    """
    bench.start()
    started = bench.processes()
    bench.save(phase=Phase.STARTING)
    found = bench.another_node().recover()
    whats = [one.what for one in found]
    words = f"an interrupted start is {whats} by recovery: {[one.detail for one in found]}"
    require(whats in (["finished"], ["undone"]), words)
    if whats == ["undone"]:
        bench.nothing_left("undoing an interrupted start", started)
    else:
        require(bench.info().state is State.RUNNING, f"is {bench.info().state} after recovery has finished its start")


@check(Level.MUST, Tier.LIVE)
def recover_interrupted_stop(bench: Bench) -> None:
    """The record says stopping and the instance runs: recovery takes the stop back, and the instance goes on.

    Why: A stop that was interrupted before its first step is taken back: the guest runs, and its state is clear.
    """
    bench.start()
    pid = bench.info().pid
    bench.save(phase=Phase.STOPPING)
    found = [one.what for one in bench.another_node().recover()]
    require(found == ["taken back"], f"an interrupted stop of a running instance is {found} by recovery")
    info = bench.info()
    require((info.state, info.pid) == (State.RUNNING, pid), f"is {info.state} after its stop was taken back")


@check(Level.MUST, Tier.LIVE)
def recover_after_reboot(bench: Bench) -> None:
    """The record is of another boot: recovery cleans up without looking for processes, and the instance starts again.

    Why: After a reboot of the node nothing of the old boot exists, and process numbers mean other processes. Only
    things on disk have to be released.
    """
    bench.start()
    bench.kill(*bench.processes())
    process: ProcessId | None = bench.record().process
    older = None if process is None else ProcessId(pid=1, start_ticks=process.start_ticks, boot_id="another-boot")
    bench.save(boot_id="another-boot", process=older, monitor=None)
    found = [one.what for one in bench.another_node().recover()]
    require(found == ["cleaned"], f"a record of another boot is {found} by recovery")
    bench.nothing_left("a record of another boot")
    bench.start()


@check(Level.MUST, Tier.LIVE)
def recover_record_reads(bench: Bench) -> None:
    """The spec in the record of a started instance has the fields that plan decided; the driver may have pinned values.

    Why: A later release of the driver reads the record. It holds the decisions of the driver, and neither a command
    line nor secrets.
    """
    bench.start()
    instance = bench.instance()
    spec = bench.loaded.driver.plan(instance, bench.loaded.check(instance))
    decided, kept = encode(spec), bench.record().spec
    there, wanted = kept.get("kind"), decided["kind"]
    require(there == wanted, f"the spec in its record is a {there}, not a {wanted}")
    require(set(kept) == set(decided), "the spec in its record has other fields than the one of plan")
