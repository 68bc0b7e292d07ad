"""What subcommands begin with: the node, the progress that it shows, and the instance file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import click

import hvcore
from hvcore.cli.output import remark
from hvcore.cli.progress import progress

__all__ = ["check_run_dir", "known", "near_names", "near_word", "open_node", "read_instance", "warn", "working"]

_TOO_MANY_BYTES: Final = 1024 * 1024 + 1


def check_run_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty ``--run-dir`` or ``--config-dir``: an unset variable does not mean the current directory."""
    if value == "":
        raise click.BadParameter("is empty; give a directory", ctx=ctx, param=param)
    return value


def open_node(ctx: click.Context | None = None, **options: Any) -> hvcore.Node:
    """The node for the ``--run-dir`` and ``--config-dir`` of the command line."""
    root = (ctx or click.get_current_context()).find_root().params
    return hvcore.Node(root.get("run_dir"), config_dir=root.get("config_dir"), **options)


@contextmanager
def working(what: str) -> Iterator[hvcore.Node]:
    """The node, for slow work: on a terminal, ``what`` and then the node's progress are shown."""
    with progress(what) as show:
        yield open_node(progress=show)


def warn(name: str, warnings: Iterable[hvcore.Problem]) -> None:
    """Print the warnings about an instance on stderr, a line each."""
    for warning in warnings:
        remark(f"{name}: warning: {warning}")


def near_names(node: hvcore.Node, name: str) -> str | None:
    """``did you mean 'web'?`` for the instance with the most similar name, or None.

    A name that differs in digits only is no suggestion: web1 and web2 are two instances, not a misspelling.
    """
    letters = _without_digits(name)
    return near_word(name, [info.name for info in node.instances() if _without_digits(info.name) != letters])


def _without_digits(name: str) -> str:
    return "".join(char for char in name if not char.isdigit())


def near_word(word: str, known: Iterable[str]) -> str | None:
    """``did you mean 'start'?`` for the most similar known word, or None."""
    import difflib  # noqa: PLC0415 - 1.5 ms, after an error only

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


@contextmanager
def known(node: hvcore.Node, name: str) -> Iterator[None]:
    """Adds the most similar name to a `NotFoundError` about the instance."""
    try:
        yield
    except hvcore.NotFoundError as error:
        hint = near_names(node, name)
        if hint:
            error.add_note(f"{name}: {hint}")
        raise


def read_instance(node: hvcore.Node, file: str) -> hvcore.Instance:
    """The instance in the file (``-``: standard input), checked with its driver.

    Raises `InstanceFileError` when the file cannot be read as TOML, and `ParamsError` with every problem.
    """
    stdin = file == "-"
    try:
        data = hvcore.parse_instance_file(_read_stdin(), "stdin") if stdin else hvcore.read_instance_file(file)
        return node.check(data)
    except hvcore.InstanceFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            what = f"{file!r}: no such file; {_instead_of(node, file)}"
            raise hvcore.InstanceFileError(what) from error.__cause__
        raise
    except hvcore.ParamsError as error:
        raise hvcore.ParamsError("stdin" if stdin else repr(file), error.problems) from None


def _instead_of(node: hvcore.Node, file: str) -> str:
    if os.path.lexists(f"{file}.toml"):
        return f"did you mean {f'{file}.toml'!r}?"
    with suppress(hvcore.HvError):
        for info in node.instances():
            if info.name == file:
                return f"give an instance file; instance {file} is {info.state}, see 'hv info {file}'"
    return "give an instance file"


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise hvcore.InstanceFileError("stdin: is closed; pipe an instance file to it")
    try:
        return sys.stdin.buffer.read(_TOO_MANY_BYTES)
    except OSError as error:
        raise hvcore.InstanceFileError(f"stdin: cannot be read, got {error.strerror}; give an instance file") from error
