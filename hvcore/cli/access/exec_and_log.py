"""``hv exec`` and ``hv log``: run a program inside an instance, and print the output of an instance."""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Final, TextIO

import click

import hvcore
from hvcore.cli.options import command, name_argument
from hvcore.cli.output import is_terminal, pass_stdout_on, printable, printing, results
from hvcore.cli.session import known, open_node

__all__ = ["execute", "log", "print_piece", "show_log"]

_COLOUR: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@command(
    "hv exec web1 ps -ef",
    "hv exec web1 sh                       # a shell, on this terminal",
    "tar c site | hv exec web1 tar x -C /srv",
    name="exec",
    context_settings={"allow_interspersed_args": False},
)
@name_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str, command: tuple[str, ...]) -> None:
    """Run a program inside a running instance.

    Everything after NAME belongs to the program, its options too. Allocates a terminal if standard input is one;
    otherwise passes standard input, output and error through. Exits with the program's exit code, 128+N if signal N
    killed it, or 125 if it could not be run. With driver fake, the program runs on this node, unconfined. With driver kvm,
    the guest agent runs it: without a terminal, with all of standard input at once, and output at its end.
    """
    node = open_node()
    arguments = command[1:] if command[0] == "--" else command
    with known(node, name):
        found = node.execution(name, arguments, terminal=is_terminal(sys.stdin))
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and the program would inherit that
        signal.signal(signum, signal.SIG_DFL)
    pass_stdout_on()
    try:
        os.execvp(found.argv[0], found.argv)  # noqa: S606 - without a shell on purpose
    except OSError as error:
        what = f"{name}: {found.argv[0]!r} cannot be run on this node, got {error.strerror}"
        raise hvcore.OperationError(f"{what}; install it") from error


@command("hv log web1 --lines 20", "hv log web1 --follow | grep error")
@name_argument
@click.option("-f", "--follow", is_flag=True, help="Keep printing new output until the instance stops or you press ^C.")
@click.option("-n", "--lines", metavar="N", type=click.IntRange(min=0), help="Print only the last N lines.")
def log(name: str, *, follow: bool, lines: int | None) -> None:
    """Print the output of an instance, or of the program that runs it.

    The output is kept until 'hv stop' or 'hv cleanup', so you can read it after a crash. On a terminal, control
    characters are shown escaped.
    """
    node = open_node()
    with known(node, name):
        found = node.log(name)
    show_log(found, follow=follow, lines=lines)


def show_log(found: hvcore.Log, *, follow: bool, lines: int | None, colours: bool = True) -> None:
    """Print the log. Without ``colours``, a terminal does not get the escape sequences that change the screen."""
    stdout = results()
    for piece in hvcore.log_pieces(found.path, lines=lines, follow=follow):
        print_piece(stdout, piece, colours=colours)


def print_piece(stdout: TextIO | None, piece: bytes, *, colours: bool = True) -> None:
    """Print a part of a log as it is; on a terminal with control characters escaped. Raises OSError naming stdout."""
    if stdout is None:
        return
    with printing():
        if is_terminal(stdout):
            stdout.write(_printable_lines(piece if colours else _COLOUR.sub(b"", piece)))
        else:
            stdout.buffer.write(piece)
        stdout.flush()


def _printable_lines(piece: bytes) -> str:
    text = piece.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return "\t".join(map(printable, text.split("\t")))
