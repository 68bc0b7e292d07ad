"""Abilities: what the driver claims works, and what it does not claim is refused with the typed error."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hvcore.errors import HvError, UnsupportedError
from hvcore.host.processes.process import kill_and_wait
from hvcore.model.record import Phase
from hvcore.model.state import State
from hvcore.plugins.protocols import Adopts, Executes, HasConsole, HasLog, Pausable
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.testing.bench import Bench
from hvcore.testing.check import Failed, Level, Skipped, Tier, check, require

__all__: tuple[str, ...] = ()


def _refused(bench: Bench, operation: str, act: Callable[[], object]) -> None:
    try:
        act()
    except UnsupportedError as error:
        require(error.exit_code == 3, f"{operation} is refused with exit code {error.exit_code}, not 3")
    except Exception as error:
        raise Failed(f"{operation} is not claimed, and raises {type(error).__name__}: {error}") from error
    else:
        raise Failed(f"{operation} is not claimed by driver {bench.subject.driver}, and does something")


@contextmanager
def _claimed(operation: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Failed(f"{operation} is claimed, and raises {type(error).__name__}: {error}") from error


@check(
    Level.CAPABILITY,
    Tier.LIVE,
    why="A host application asks what a driver can do and then relies on it. An ability that is claimed and does nothing "
    "is worse than none: a backup of a guest that was not paused is no backup.",
)
def capability_pause(bench: Bench) -> None:
    """Claimed: paused is seen as paused, resumed as running, twice is as good as once. Else: Unsupported."""
    name = bench.name()
    bench.start()
    if not isinstance(bench.loaded.driver, Pausable):
        _refused(bench, "pause", lambda: bench.node.pause(name))
        _refused(bench, "resume", lambda: bench.node.resume(name))
        return
    steps = (("pause", bench.node.pause, State.PAUSED), ("resume", bench.node.resume, State.RUNNING))
    for what, act, wanted in steps:
        with _claimed(what):
            outcome = act(name)
            again = act(name)
        require(outcome.changed, f"{what} says that it changed nothing")
        require(not again.changed, f"a second {what} says that it changed something")
        require(bench.info().state is wanted, f"is {bench.info().state} after {what}")


@check(
    Level.CAPABILITY,
    Tier.LIVE,
    why="The console is the last way into a guest without a network. It has to lead somewhere when it is needed.",
)
def capability_console(bench: Bench) -> None:
    """Claimed: it is a socket that takes a connection, or a command. Else: Unsupported."""
    name = bench.name()
    bench.start()
    if not isinstance(bench.loaded.driver, HasConsole):
        _refused(bench, "console", lambda: bench.node.console(name))
        return
    try:
        console = bench.node.console(name)
    except HvError as error:
        raise Failed(f"console is claimed, and the subject's instance has none: {error}") from error
    except Exception as error:
        raise Failed(f"console is claimed, and raises {type(error).__name__}: {error}") from error
    require(bool(console.socket) != bool(console.argv), "its console has neither a socket nor a command, or both")
    if console.socket:
        _connects(console.socket)


def _connects(path: str) -> None:
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)  # the path may be too long for an address
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(5.0)
            tried.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    except OSError as error:
        raise Failed(f"its console {path!r} takes no connection: {error}") from error
    finally:
        os.close(directory)


@check(
    Level.CAPABILITY,
    Tier.LIVE,
    why="adopt decides after a crash whether a start is finished or undone. True for a guest that is dead leaves a record "
    "of nothing; false for one that runs kills it.",
)
def capability_adopt(bench: Bench) -> None:
    """Claimed: an interrupted start that had succeeded is finished, and one whose process is dead is not."""
    if not isinstance(bench.loaded.driver, Adopts):
        raise Skipped("it does not claim to adopt: interrupted starts are undone")
    bench.start()
    bench.save(phase=Phase.STARTING)
    found = bench.another_node().recover()
    require(
        [one.what for one in found] == ["finished"], f"a start that had succeeded is not finished by recovery: {found}"
    )
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after its start was finished by recovery")
    kill_and_wait(bench.process(), subject=bench.name(), deadline_s=5)
    bench.save(phase=Phase.STARTING)
    found = bench.another_node().recover()
    require(
        [one.what for one in found] == ["undone"], f"a start whose process is dead is not undone by recovery: {found}"
    )


@check(
    Level.CAPABILITY,
    Tier.LIVE,
    why="Recovery releases again what was released before the crash: it cannot know how far the last one came.",
)
def capability_releases(bench: Bench) -> None:
    """Claimed: every kind that the ledger holds is known, and releasing it a second time does nothing."""
    kinds = bench.loaded.hooks.kinds
    own = [name for name in kinds.names if name not in CORE_KINDS.names]
    if not own:
        raise Skipped("it acquires no kinds of things of its own")
    bench.start()
    record, job = bench.record(), bench.job()
    bench.stop()
    for entry in record.ledger:
        kind = kinds.named(entry.kind)
        if kind is None:
            raise Failed(f"no plugin of it can release {entry.kind}")
        if entry.kind not in own:
            continue
        try:
            kind.release(entry, job)
        except Exception as error:
            raise Failed(f"a second release of {entry.kind} raises {type(error).__name__}: {error}") from error


@check(
    Level.CAPABILITY,
    Tier.LIVE,
    why="Whoever runs a program inside relies on its exit code: a backup script that failed and was not told is no backup.",
)
def capability_exec(bench: Bench) -> None:
    """Claimed: it is a command to execute. Else: Unsupported."""
    name = bench.name()
    bench.start()
    if not isinstance(bench.loaded.driver, Executes):
        _refused(bench, "exec", lambda: bench.node.execution(name, ["true"]))
        return
    with _claimed("exec"):
        found = bench.node.execution(name, ["true"])
    require(bool(found.argv), "exec is claimed, and its command is empty")


@check(
    Level.CAPABILITY,
    Tier.LIVE,
    why="What went wrong inside is in what it wrote. A log that is claimed and is not there is looked for in vain.",
)
def capability_log(bench: Bench) -> None:
    """Claimed: it is a file of the instance. Else: Unsupported."""
    name = bench.name()
    bench.start()
    if not isinstance(bench.loaded.driver, HasLog):
        _refused(bench, "log", lambda: bench.node.log(name))
        return
    with _claimed("log"):
        found = bench.node.log(name)
    require(Path(found.path).is_file(), f"its log {found.path!r} is no file")
