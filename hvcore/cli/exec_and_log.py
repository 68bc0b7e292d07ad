"""``hv exec`` and ``hv log``: running a program in an instance, and reading what it has written."""

from __future__ import annotations

import os
import signal
import sys

import click

import hvcore
from hvcore.cli.options import command, name_argument
from hvcore.cli.output import is_terminal, printable, printing
from hvcore.cli.session import known, open_node

__all__ = ["execute", "log"]


@command(
    "hv exec web1 -- ps -ef",
    "hv exec web1 -- sh                       # on a terminal, if this is one",
    "tar c site | hv exec web1 -- tar x -C /srv",
    name="exec",
    context_settings={"ignore_unknown_options": True},
)
@name_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str, command: tuple[str, ...]) -> None:
    """Run a program inside a running instance.

    It gets a terminal when stdin is one, else stdin, stdout and stderr as they are. Ends as the program does, with
    128 + n for signal n, and with 125 when the program could not be run.
    """
    node = open_node()
    with known(node, name):
        found = node.execution(name, command, terminal=is_terminal(sys.stdin))
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a command would go on doing so
        signal.signal(signum, signal.SIG_DFL)
    try:
        os.execvp(found.argv[0], found.argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        what = f"{name}: {found.argv[0]!r} cannot be run on this node, got {error.strerror}"
        raise hvcore.OperationError(f"{what}; install it") from error


@command("hv log web1 --lines 20", "hv log web1 --follow | grep error")
@name_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with what it writes, until it is stopped or ^C.")
@click.option("-n", "--lines", metavar="N", type=click.IntRange(min=0), help="Only the last N lines.")
def log(name: str, *, follow: bool, lines: int | None) -> None:
    """Print what an instance, or the program that runs it, has written.

    It is kept until the instance is stopped, and can be read after it has ended by itself. On a terminal, control
    characters are shown escaped.
    """
    node = open_node()
    with known(node, name):
        found = node.log(name)
    on_terminal = is_terminal(sys.stdout)
    for piece in hvcore.log_pieces(found.path, lines=lines, follow=follow):
        with printing():
            if on_terminal:
                sys.stdout.write(_shown(piece))
                sys.stdout.flush()
            else:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()


def _shown(piece: bytes) -> str:
    text = piece.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return "\t".join(map(printable, text.split("\t")))
