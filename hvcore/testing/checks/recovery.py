"""Recovery: another program comes, which knows nothing but what is on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hvcore.errors import HvError
from hvcore.host.processes.process import alive, identify, kill_and_wait
from hvcore.model.codec import encode
from hvcore.model.record import Phase, ProcessId
from hvcore.model.state import State
from hvcore.testing.bench import Bench
from hvcore.testing.check import Failed, Level, Tier, check, require
from hvcore.testing.isolate import forked

__all__: tuple[str, ...] = ()


@check(
    Level.MUST,
    Tier.LIVE,
    why="The program that started an instance is seldom the one that stops it. What a driver keeps in memory is gone by "
    "then.",
)
def recover_running(bench: Bench) -> None:
    """A start by a program that has ended since: another one sees the same process, and stops it."""

    def started() -> tuple[int | None, str]:
        bench.start()
        return bench.info().pid, str(bench.info().state)

    pid, state = forked(started).result()
    info = bench.another_node().info(bench.name())
    require(
        (info.pid, str(info.state)) == (pid, state),
        f"was {state} with pid {pid}, for another program {info.state} with pid {info.pid}",
    )
    processes = bench.processes()
    stopped = forked(lambda: bench.another_node().stop(bench.name(), force=True, deadline_s=10).changed).result()
    require(stopped, "a stop by another program says that it changed nothing")
    bench.nothing_left("a stop by another program", processes)


@check(
    Level.MUST,
    Tier.LIVE,
    why="Numbers of processes are used again. A driver that goes by the number signals a stranger (forkd#298: age is the "
    "wrong axis, identity is).",
)
def recover_wrong_process(bench: Bench) -> None:
    """The number of its process belongs to somebody else now: it counts as ended, and the stranger is left alone."""
    bench.start()
    process = bench.process()
    with _bystander() as stranger:
        kill_and_wait(process, subject=bench.name(), deadline_s=5)
        # No number is used again within a hundredth of a second, but this stranger may have begun in the same one.
        began = min(process.start_ticks, stranger.start_ticks - 1)
        bench.save(process=ProcessId(pid=stranger.pid, start_ticks=began, boot_id=process.boot_id), monitor=None)
        state = bench.another_node().info(bench.name()).state
        try:
            bench.another_node().stop(bench.name(), force=True, deadline_s=5)
        except HvError as error:
            raise Failed(f"cannot be stopped when its process's number is another's: {error}") from error
        require(alive(stranger), "a stop signals a stranger that has its process's number")
        require(state not in (State.RUNNING, State.PAUSED), f"counts as {state} when its process's number is another's")


@contextmanager
def _bystander() -> Iterator[ProcessId]:
    """A process that has nothing to do with any instance."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        found = identify(child.pid)
        if found is None:
            raise Failed("a bystander could not be started")
        yield found
        child.kill()


@check(
    Level.MUST,
    Tier.LIVE,
    why="Recovery is for what was interrupted. libvirt once stopped every guest of a node while it recovered; a healthy "
    "one is left alone, always.",
)
def recover_leaves_running_alone(bench: Bench) -> None:
    """Recovery has nothing to do with an instance that runs, and it runs on in the same process."""
    bench.start()
    before = bench.info()
    found = bench.another_node().recover()
    deeds = [(one.what, one.detail) for one in found]
    require(not found, f"recover does something with an instance that runs: {deeds}")
    after = bench.info()
    same = (after.state, after.pid) == (before.state, before.pid)
    require(same, f"was {before.state} with pid {before.pid}, after recover {after.state} with pid {after.pid}")


@check(
    Level.MUST,
    Tier.LIVE,
    why="A start that was interrupted is finished or undone, and never left as it is: the instance could neither be used "
    "nor started.",
)
def recover_interrupted_start(bench: Bench) -> None:
    """A record that says starting: recovery makes it run or removes it with all that it held."""
    bench.start()
    started = bench.processes()
    bench.save(phase=Phase.STARTING)
    found = bench.another_node().recover()
    whats = [one.what for one in found]
    require(
        whats in (["finished"], ["undone"]),
        f"an interrupted start is {whats} by recovery: {[one.detail for one in found]}",
    )
    if whats == ["undone"]:
        bench.nothing_left("an interrupted start is undone and", started)
    else:
        require(
            bench.info().state is State.RUNNING, f"an interrupted start is finished, and it is {bench.info().state}"
        )


@check(
    Level.MUST,
    Tier.LIVE,
    why="A stop that was interrupted before it did anything is taken back: the guest runs, and nobody has to guess.",
)
def recover_interrupted_stop(bench: Bench) -> None:
    """A record that says stopping, of an instance that runs: recovery takes it back, and it runs on."""
    bench.start()
    pid = bench.info().pid
    bench.save(phase=Phase.STOPPING)
    found = [one.what for one in bench.another_node().recover()]
    require(found == ["taken back"], f"an interrupted stop of an instance that runs is {found} by recovery")
    info = bench.info()
    require((info.state, info.pid) == (State.RUNNING, pid), f"is {info.state} after its stop was taken back")


@check(
    Level.MUST,
    Tier.LIVE,
    why="After a reboot of the node nothing of the old boot exists, and its numbers mean other things. Only what is on disk "
    "is to be released.",
)
def recover_after_reboot(bench: Bench) -> None:
    """A record of another boot: recovery cleans up without looking for its processes, and it starts again."""
    bench.start()
    processes = bench.processes()
    for one in processes:
        kill_and_wait(one, subject=bench.name(), deadline_s=5)
    process: ProcessId | None = bench.record().process
    older = None if process is None else ProcessId(pid=1, start_ticks=process.start_ticks, boot_id="another-boot")
    bench.save(boot_id="another-boot", process=older, monitor=None)
    found = [one.what for one in bench.another_node().recover()]
    require(found == ["cleaned"], f"a record of another boot is {found} by recovery")
    bench.nothing_left("a record of another boot")
    bench.start()


@check(
    Level.MUST,
    Tier.LIVE,
    why="The record is what a later release of the driver reads. It holds what the driver decided and nothing of today's "
    "command line or secrets.",
)
def recover_record_reads(bench: Bench) -> None:
    """The spec in the record of a started instance has the form that the driver decided; values may be pinned in it."""
    bench.start()
    instance = bench.instance()
    spec = bench.loaded.driver.plan(instance, bench.loaded.check(instance))
    decided, kept = encode(spec), bench.record().spec
    require(
        kept.get("kind") == decided["kind"], f"the spec in its record is a {kept.get('kind')}, not a {decided['kind']}"
    )
    require(set(kept) == set(decided), "the spec in its record has other fields than was decided")
