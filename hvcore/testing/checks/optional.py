"""Abilities: those that the driver claims work, the others are refused with `UnsupportedError`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hvcore.errors import InputError
from hvcore.model.abi import abi_changes
from hvcore.model.record import Phase
from hvcore.model.state import State
from hvcore.plugins.protocols import Adopts, ChecksUpgrades, Executes, HasConsole, HasGuestAbi, HasLog, Pausable
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.testing.check import Bench, Failed, Level, Skipped, Tier, check, require
from hvcore.testing.claims import claimed, claims, refused

__all__: tuple[str, ...] = ()


@check(Level.CAPABILITY, Tier.LIVE)
def capability_pause(bench: Bench) -> None:
    """Claimed: pause leads to paused, resume to running, a second call changes nothing, no hook fails. If not: UnsupportedError.

    Why: A host application reads the abilities of a driver and relies on them. An ability that does nothing is worse
    than a missing one: a backup of a guest that was not paused is useless.
    """
    name = bench.name()
    bench.start()
    if not isinstance(bench.loaded.driver, Pausable):
        refused(bench, "pause", lambda: bench.node.pause(name))
        refused(bench, "resume", lambda: bench.node.resume(name))
        return
    steps = (("pause", bench.node.pause, State.PAUSED), ("resume", bench.node.resume, State.RUNNING))
    for what, act, wanted in steps:
        with claimed(what):
            outcome = act(name)
            again = act(name)
        require(outcome.changed, f"{what} says that it changed nothing")
        require(not outcome.notes, f"{what} works, but a hook of an extension fails: {'; '.join(outcome.notes)}")
        require(not again.changed, f"a second {what} says that it changed something")
        require(bench.info().state is wanted, f"is {bench.info().state} after {what}")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_abi(bench: Bench) -> None:
    """Claimed: what an instance sees of its machine is the same before its start and while it runs, each fact once.

    Why: An instance is migrated, restored or started by a new program only if the two lists agree. A list that depends on
    the moment, or on the node, refuses for no reason, or agrees to a change.
    """
    name, instance = bench.name(), bench.instance()
    if not isinstance(bench.loaded.driver, HasGuestAbi):
        refused(bench, "abi", lambda: bench.node.abi(instance))
        return
    with claimed("abi"):
        planned = bench.node.abi(instance)
    places = [entry.place for entry in planned.entries]
    require(bool(places), "its list is empty")
    require(len(places) == len(set(places)), "its list has one fact twice")
    bench.start()
    with claimed("abi"):
        running = bench.node.abi(name)
    changes = [f"{one.what}: {one.key}" for one in abi_changes(planned, running)]
    require(
        not changes, f"the list of the running instance differs from the one before its start: {', '.join(changes)}"
    )


@check(Level.CAPABILITY, Tier.LIVE)
def capability_upgrade_check(bench: Bench) -> None:
    """Claimed: a program that does not exist is refused with `InputError`, and the instance runs on.

    Why: The answer decides if a node is upgraded. An answer about a program that was not looked at is worse than none.
    """
    bench.start()
    absent = str(bench.directory / "absent")

    def ask() -> object:
        return list(bench.node.upgrade_checks(absent, bench.name(), driver=bench.subject.driver))

    if not isinstance(bench.loaded.driver, ChecksUpgrades):
        refused(bench, "upgrade-check", ask)
        return
    try:
        ask()
    except InputError:
        require(bench.info().state is State.RUNNING, f"is {bench.info().state} afterwards")
        return
    raise Failed("gives an answer about a program that does not exist")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_console(bench: Bench) -> None:
    """Claimed: the console is a socket that accepts a connection, or a command. Otherwise: UnsupportedError.

    Why: The console is the last way into a guest without a network. It has to work when it is needed.
    """
    name = bench.name()
    if not claims(bench, HasConsole, "console", lambda: bench.node.console(name)):
        return
    with claimed("console"):
        console = bench.node.console(name)
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
        raise Failed(f"its console {path!r} accepts no connection: {error}") from error
    finally:
        os.close(directory)


@check(Level.CAPABILITY, Tier.LIVE)
def capability_adopt(bench: Bench) -> None:
    """Claimed: recovery finishes an interrupted start that had succeeded, and undoes one whose process is dead.

    Why: After a crash, adopt decides whether a start is finished or undone. True for a dead guest leaves a record of
    nothing; false for a running one kills it.
    """
    if not isinstance(bench.loaded.driver, Adopts):
        raise Skipped("it does not claim adopt: interrupted starts are undone")
    bench.start()
    bench.save(phase=Phase.STARTING)
    found = bench.another_node().recover()
    require([one.what for one in found] == ["finished"], f"recovery does not finish a start that succeeded: {found}")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after recovery has finished its start")
    bench.kill(bench.process())
    bench.save(phase=Phase.STARTING)
    found = bench.another_node().recover()
    require([one.what for one in found] == ["undone"], f"recovery does not undo a start whose process is dead: {found}")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_releases(bench: Bench) -> None:
    """Claimed: every kind in the ledger is known, and a second release does nothing.

    Why: Recovery repeats releases that were done before the crash, because it cannot know which ones were.
    """
    kinds = bench.loaded.hooks.kinds
    own = [name for name in kinds.names if name not in CORE_KINDS.names]
    if not own:
        raise Skipped("it has no resource kinds")
    bench.start()
    record, job = bench.record(), bench.job()
    bench.stop()
    for entry in record.ledger:
        kind = kinds.named(entry.kind)
        if kind is None:
            raise Failed(f"none of its plugins can release {entry.kind}")
        if entry.kind not in own:
            continue
        try:
            kind.release(entry, job)
        except Exception as error:
            raise Failed(f"a second release of {entry.kind} raises {type(error).__name__}: {error}") from error


@check(Level.CAPABILITY, Tier.LIVE)
def capability_exec(bench: Bench) -> None:
    """Claimed: the result is a command to execute. Otherwise: UnsupportedError.

    Why: Callers rely on the exit code of a program that they run inside: a backup script must not
    fail without an error.
    """
    name = bench.name()
    if not claims(bench, Executes, "exec", lambda: bench.node.execution(name, ["true"])):
        return
    with claimed("exec"):
        found = bench.node.execution(name, ["true"])
    require(bool(found.argv), "exec is claimed, but its command is empty")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_log(bench: Bench) -> None:
    """Claimed: the log is a file of the instance. Otherwise: UnsupportedError.

    Why: The log explains what went wrong inside. A claimed log that does not exist wastes the reader's time.
    """
    name = bench.name()
    if not claims(bench, HasLog, "log", lambda: bench.node.log(name)):
        return
    with claimed("log"):
        found = bench.node.log(name)
    require(Path(found.path).is_file(), f"its log {found.path!r} does not exist")
