"""What subcommands begin with: the node that ``--run-dir`` means, its progress, the instance file that is given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

import hvcore
from hvcore.cli.output import remark
from hvcore.cli.progress import progress

__all__ = ["check_run_dir", "known", "near_names", "near_word", "open_node", "read_instance", "warn", "working"]

_TOO_MANY_BYTES: Final = 1024 * 1024 + 1


def check_run_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty ``--run-dir`` or ``--config-dir``: a variable that is unset, and no wish for the current directory."""
    if value == "":
        raise click.BadParameter("is empty; give a directory", ctx=ctx, param=param)
    return value


def open_node(ctx: click.Context | None = None, **options: Any) -> hvcore.Node:
    """The node whose state is where the command line says."""
    root = (ctx or click.get_current_context()).find_root().params
    return hvcore.Node(root.get("run_dir"), config_dir=root.get("config_dir"), **options)


@contextmanager
def working(what: str) -> Iterator[hvcore.Node]:
    """The node, for work that may take a while: ``what`` and what the node says meanwhile are shown on a terminal."""
    with progress(what) as tell:
        yield open_node(progress=tell)


def warn(name: str, warnings: Iterable[hvcore.Problem]) -> None:
    """Tell the warnings about an instance on stderr, a line each."""
    for warning in warnings:
        remark(f"{name}: warning: {warning}")


def near_names(node: hvcore.Node, name: str) -> str | None:
    """``did you mean 'web10'?`` when an instance of about that name exists, else None."""
    return near_word(name, [info.name for info in node.instances()])


def near_word(word: str, known: Iterable[str]) -> str | None:
    """``did you mean 'start'?`` for the known word that is most like it, None when none is."""
    import difflib  # noqa: PLC0415 - 1.5 ms, after an error only

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


@contextmanager
def known(node: hvcore.Node, name: str) -> Iterator[None]:
    """Adds the nearest name to a `NotFoundError` about the instance."""
    try:
        yield
    except hvcore.NotFoundError as error:
        hint = near_names(node, name)
        if hint:
            error.add_note(f"{name}: {hint}")
        raise


def read_instance(node: hvcore.Node, file: str) -> hvcore.Instance:
    """The instance in the file, fully checked: every problem at once, those of the driver's parameters included.

    Raises `InstanceFileError` when the file is not readable as TOML, and `ParamsError` about the file.
    """
    stdin = file == "-"
    data = hvcore.parse_instance_file(_read_stdin(), "stdin") if stdin else hvcore.read_instance_file(file)
    try:
        return node.check(data)
    except hvcore.ParamsError as error:
        raise hvcore.ParamsError("stdin" if stdin else repr(file), error.problems) from None


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise hvcore.InstanceFileError("stdin: is closed; give it an instance file")
    try:
        return sys.stdin.buffer.read(_TOO_MANY_BYTES)
    except OSError as error:
        raise hvcore.InstanceFileError(f"stdin: cannot be read, got {error.strerror}; give an instance file") from error
