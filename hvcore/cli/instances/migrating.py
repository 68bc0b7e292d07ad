"""``hv migrate`` and ``hv migrate-node``: moving an instance to another node."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import FrameType
from typing import Any, Final

import click

import hvcore
from hvcore.cli.exit_status import reported
from hvcore.cli.options import bytes_in, command, name_argument, seconds_in
from hvcore.cli.output import Column, remark, say, show_table
from hvcore.cli.progress import progress
from hvcore.cli.session import known, open_node

__all__ = ["migrate", "migrate_node"]

_MIB: Final = 1 << 20
_INTERRUPTED: Final = 128 + signal.SIGINT
_COLUMNS: Final = (
    Column("JOB", wraps=False),
    Column("SIDE"),
    Column("STATE"),
    Column("PEER"),
    Column("BOOT"),
    Column("WHY"),
)


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    found = None if value is None else bytes_in(value.removesuffix("/s"))
    if value is not None and found is None:
        what = f"must be bytes per second such as 100M or 1G, 0 for no limit, got {value!r:.80}"
        raise click.BadParameter(what, ctx=ctx, param=param)
    return found


def _milliseconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    seconds = None if value is None else seconds_in(value)
    if value is not None and (seconds is None or not 0.001 <= seconds <= 2000):
        what = f"must be a time such as 300ms or 2s, from 1ms to 2000s, got {value!r:.80}"
        raise click.BadParameter(what, ctx=ctx, param=param)
    return None if seconds is None else round(seconds * 1000)


@command(
    "hv migrate web1 --to ssh://root@node2",
    "hv migrate web1 --to ssh://node2/run/hvcore --bandwidth 1G --downtime 200ms",
    "hv migrate web1 --to local:/run/other --paused",
    "hv migrate web1 --bandwidth 100M    # of a migration in progress",
    "hv migrate web1 --status",
    "hv migrate web1 --resume",
)
@name_argument
@click.option(
    "--to", metavar="NODE", help="ssh://[USER@]HOST[:PORT][/RUN_DIR], or local:RUN_DIR for another run directory."
)
@click.option(
    "--paused", "mode", flag_value="paused", help="Pause the instance before it is sent, until it runs there."
)
@click.option("--postcopy", "mode", flag_value="postcopy", help="Let it run there before all of its memory is there.")
@click.option("--cold", "mode", flag_value="cold", help="Stop it here, and start it there.")
@click.option("--copy-disks", is_flag=True, help="The target has its own disks: copy the contents.")
@click.option("--bandwidth", metavar="RATE", callback=_rate, help="At most that many bytes per second, such as 100M.")
@click.option(
    "--downtime", metavar="TIME", callback=_milliseconds, help="How long the instance may pause, such as 300ms."
)
@click.option("--listen", metavar="ADDRESS", default="", help="Address of the target for the transfer.")
@click.option("--port", type=click.IntRange(0, 65535), help="Its port; 0 is any free one.")
@click.option("--no-tls", is_flag=True, help="Send without encryption.")
@click.option("--status", "task", flag_value="status", help="Show what this node knows of the instance's migrations.")
@click.option("--cancel", "task", flag_value="cancel", help="End an open migration: the instance stays, if it can.")
@click.option("--resume", "task", flag_value="resume", help="Bring an open migration to its end.")
@click.option(
    "--forget", "task", flag_value="forget", help="Forget all migrations, if you know where the instance runs."
)
@click.option("--fenced", metavar="BOOT", type=click.IntRange(1), help="The other node is off since its boot BOOT.")
@click.option("--accept-loss", is_flag=True, help="With --fenced: what the target wrote to its own disks may be lost.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as lines of JSON.")
def migrate(name: str, *, to: str | None, task: str | None, fenced: int | None, as_json: bool, **given: Any) -> None:
    """Move a running instance to another node.

    Its disks have to be shared, or --copy-disks copies them. The instance runs on until its memory is there. If anything
    fails, it stays here. ^C ends the migration, unless the instance runs on the target already. Exits with 1 if it stays.

    hv runs on the other node by ssh, which has to work without a question. Nothing listens there when no migration is on.
    """
    settings = _settings(given)
    tunes = settings.tuning != hvcore.Tuning() and to is None
    if (task, fenced, to) == (None, None, None) and not tunes:
        raise click.UsageError("give --to NODE, or one of --status, --cancel, --resume, --forget, --fenced BOOT")
    node = open_node()
    with known(node, name):
        if task == "status":
            _show_status(node, name, as_json=as_json)
        elif task == "forget":
            aside = node.migrations.forget(name)
            _say(
                {"name": name, "forgotten": aside},
                f"{name}: its journal is now {aside}" if aside else _none(name),
                as_json,
            )
        elif fenced is not None:
            entry = node.migrations.peer_fenced(name, fenced, accept_loss=given["accept_loss"])
            _say(entry.to_json(), f"{name}: {entry.state}, {entry.ended}", as_json)
        elif task is None and tunes:
            node.migrations.tune(name, settings.tuning)
            _say({"name": name, "tuning": settings.tuning.to_json()}, f"{name}: the speed is changed", as_json)
        else:
            _move(node, name, to, task, settings, as_json=as_json)


def _none(name: str) -> str:
    return f"{name}: this node knows no migration of it"


def _settings(given: dict[str, Any]) -> hvcore.MigrationSettings:
    return hvcore.MigrationSettings(
        mode=given["mode"],
        storage="mirror" if given["copy_disks"] else "shared",
        listen=given["listen"],
        port=given["port"],
        tls=not given["no_tls"],
        tuning=hvcore.Tuning(bandwidth_bps=given["bandwidth"], downtime_ms=given["downtime"]),
    )


def _say(document: dict[str, Any], text: str, as_json: bool) -> None:  # noqa: FBT001 - as the option
    say(json.dumps(document) if as_json else text)


def _show_status(node: hvcore.Node, name: str, *, as_json: bool) -> None:
    entries = node.migrations.of(name)
    if as_json:
        for entry in entries:
            say(json.dumps(entry.to_json()))
    elif entries:
        rows = [[one.job, one.side, one.state, one.peer, one.peer_boot or None, one.ended] for one in entries]
        show_table(_COLUMNS, rows)
    else:
        say(_none(name))


def _move(
    node: hvcore.Node, name: str, to: str | None, task: str | None, settings: hvcore.MigrationSettings, *, as_json: bool
) -> None:
    with (
        _interruptible() as cancel,
        nullcontext(_silent) if as_json else progress(f"{name}: asking both nodes") as show,
    ):

        def report(now: hvcore.MigrationProgress) -> None:
            if as_json:
                say(json.dumps({"progress": now.to_json()}))
            show(_in_words(now))

        if task is None:
            outcome: hvcore.MigrationOutcome | None = node.migrations.migrate(
                name, to or "", settings, wait=cancel.wait, progress=report
            )
        else:
            abort = task == "cancel"
            outcome = node.migrations.resume(name, to, abort=abort, wait=cancel.wait, progress=report)
    if outcome is None:
        _say(
            {"name": name, "moved": None},
            f"{name}: no migration of it is open here; give --to NODE to ask there",
            as_json,
        )
        return
    _say(outcome.to_json(), str(outcome), as_json)
    for note in () if as_json else outcome.notes:
        remark(f"{name}: {note}")
    if cancel.asked:
        click.get_current_context().exit(_INTERRUPTED)
    if outcome.moved is (task == "cancel"):
        click.get_current_context().exit(1)


def _silent(_text: str) -> None: ...


def _in_words(now: hvcore.MigrationProgress) -> str:
    """The phase, what is left, the rate, and the time and the pause that are expected."""
    found = now.transfer
    if not found.total_bytes or not found.remaining_bytes:
        return f"{now.name}: {now.step}"
    parts = [f"{found.remaining_bytes // _MIB} of {found.total_bytes // _MIB} MiB left"]
    if found.rate_bps:
        parts += [f"{found.rate_bps / _MIB:.0f} MiB/s", f"{found.remaining_bytes / found.rate_bps:.0f} s"]
    if found.expected_downtime_ms is not None:
        parts.append(f"pause {found.expected_downtime_ms} ms")
    return f"{now.name}: {found.state}, {', '.join(parts)}"


class _Cancel:
    """Whether ^C was pressed. The first one ends the migration in order, so it interrupts nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wait(self, seconds: float) -> bool:
        """Wait that many seconds, or until ^C."""
        return bool(select.select([self._read], [], [], seconds)[0]) or self.asked

    def ask(self, _signum: int, _frame: FrameType | None) -> None:
        """Note the ^C. A second one interrupts."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(self._write, b"x")

    def close(self) -> None:
        """Close its pipe."""
        os.close(self._read)
        os.close(self._write)


@contextmanager
def _interruptible() -> Iterator[_Cancel]:
    cancel = _Cancel()
    before: Callable[[int, FrameType | None], Any] | int | None = signal.signal(signal.SIGINT, cancel.ask)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)
        cancel.close()


@command("hv migrate-node < requests")
def migrate_node() -> None:
    """Answer the requests of a migration, for hv on another node.

    Reads a request from each line of standard input, and prints the answer or the error as one line of JSON. Ends with its
    input. See the documentation for host applications.
    """
    node = open_node()
    for line in sys.stdin:
        try:
            answer = node.migrations.answer(
                _with_address(hvcore.MigrationRequest.from_json(json.loads(line)))
            ).to_json()
        except ValueError as error:
            answer = {"error": "InputError", "message": f"request: is not JSON: {error}"}
        except hvcore.HvError as error:
            answer = reported(error)
        say(json.dumps(answer))


def _with_address(request: hvcore.MigrationRequest) -> hvcore.MigrationRequest:
    """The request, with the address of this node that ssh has reached, if it names none."""
    reached = os.environ.get("SSH_CONNECTION", "").split()
    if request.wish is None or request.wish.host or len(reached) != 4:
        return request
    return replace(request, wish=replace(request.wish, host=reached[2]))
