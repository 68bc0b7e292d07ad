"""What every subcommand begins with: the node that ``--run-dir`` means, and somebody to tell about progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

import hvcore
from hvcore.cli.output import remark
from hvcore.cli.progress import progress

__all__ = ["check_run_dir", "known", "near_names", "open_node", "warn", "working"]


def check_run_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty ``--run-dir`` or ``--config-dir``: a variable that is unset, and no wish for the current directory."""
    if value == "":
        raise click.BadParameter("is empty; give a directory", ctx=ctx, param=param)
    return value


def open_node(ctx: click.Context | None = None) -> hvcore.Node:
    """The node whose state is where the command line says."""
    root = (ctx or click.get_current_context()).find_root()
    return hvcore.Node(root.params.get("run_dir"), config_dir=root.params.get("config_dir"))


@contextmanager
def working(what: str) -> Iterator[hvcore.Node]:
    """The node, for work that may take a while: ``what`` and what the node says meanwhile are shown on a terminal."""
    root = click.get_current_context().find_root()
    with progress(what) as tell:
        yield hvcore.Node(root.params.get("run_dir"), config_dir=root.params.get("config_dir"), progress=tell)


def warn(name: str, warnings: Iterable[hvcore.Problem]) -> None:
    """Tell the warnings about an instance on stderr, a line each."""
    for warning in warnings:
        remark(f"{name}: warning: {warning}")


def near_names(node: hvcore.Node, name: str) -> str | None:
    """``did you mean 'web10'?`` when an instance of about that name exists, else None."""
    import difflib

    near = difflib.get_close_matches(name, [info.name for info in node.instances()], n=1)
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
