"""What subcommands begin with: the node, the progress that it shows, and the instance file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import click

import hvcore
from hvcore.cli.exit_status import Signalled
from hvcore.cli.guesses import instead_of, looks_like_file, near_names
from hvcore.cli.output import remark
from hvcore.cli.progress import progress

__all__ = [
    "check_run_dir",
    "define_file",
    "file_of",
    "known",
    "no_instance",
    "open_node",
    "read_instance",
    "report_states",
    "warn",
    "warn_of_run_dir",
    "working",
]

_TOO_MANY_BYTES: Final = 1024 * 1024 + 1
_MISSING: Final = "hvcore.missing_run_dir"


def check_run_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty ``--run-dir`` or ``--config-dir``: an unset variable does not mean the current directory."""
    if value == "":
        raise click.BadParameter("is empty; give a directory", ctx=ctx, param=param)
    return value


def open_node(ctx: click.Context | None = None, **options: Any) -> hvcore.Node:
    """The node for the ``--run-dir`` and ``--config-dir`` of the command line."""
    root = (ctx or click.get_current_context()).find_root()
    given = root.params.get("run_dir")
    node = hvcore.Node(given, config_dir=root.params.get("config_dir"), **options)
    if given is not None and not os.path.exists(node.run_dir):  # an operation may make it
        root.meta[_MISSING] = f"run directory {given!r}: does not exist, so it has no instances; check --run-dir"
    return node


def warn_of_run_dir(node: hvcore.Node) -> None:
    """Print on stderr that the run directory is read-only, if it is, or that the one of ``--run-dir`` does not exist.

    What is shown is true, but it cannot be changed, or the option has a spelling mistake.
    """
    if (missing := _missing_run_dir()) is not None:
        remark(f"warning: {missing}")
    with suppress(OSError):  # it does not exist
        if os.statvfs(node.run_dir).f_flag & os.ST_RDONLY:
            what = "is read-only, so no instance can start, and a stop leaves the record"
            remark(f"warning: run directory {str(node.run_dir)!r}: {what}; mount it for writing")


def _missing_run_dir() -> str | None:
    """That the run directory of the command line did not exist; None if it did. The default one is made when needed."""
    found = click.get_current_context().find_root().meta.get(_MISSING)
    return None if found is None else str(found)


@contextmanager
def working(what: str, hint: str = "") -> Iterator[hvcore.Node]:
    """The node, for slow work: on a terminal, ``what`` and then the node's progress are shown, later ``hint`` too."""
    with progress(what, hint) as show:
        yield open_node(progress=show)


@contextmanager
def report_states(*names: str) -> Iterator[list[str]]:
    """After ^C or a signal in the block, print the state of each named instance. The block can add names to the list."""
    about = list(names)
    try:
        yield about
    except (KeyboardInterrupt, Signalled):
        for name in about:
            remark(f"interrupted; {_state_in_words(open_node(), name)}")
        raise


def _state_in_words(node: hvcore.Node, name: str) -> str:
    try:
        state = node.info(name).state
    except hvcore.NotFoundError:
        return f"{name} is not running, and nothing of it is left"
    except hvcore.HvError as error:
        return str(error)
    if state in (hvcore.State.STARTING, hvcore.State.STOPPING):
        return f"{name} is {state}; 'hv recover' finishes or undoes that"
    still = "still " if state in (hvcore.State.RUNNING, hvcore.State.PAUSED) else ""
    return f"{name} is {still}{state}, see 'hv info {name}'"


def warn(name: str, warnings: Iterable[hvcore.Problem]) -> None:
    """Print the warnings about an instance on stderr, a line each."""
    for warning in warnings:
        remark(f"{name}: warning: {warning}")


def no_instance(node: hvcore.Node, name: str) -> hvcore.NotFoundError:
    """The error about a name that this node does not have, with a note that says what was probably meant."""
    error = hvcore.NotFoundError(name)
    _add_guess(error, node, name)
    return error


@contextmanager
def known(node: hvcore.Node, name: str, *, definition: bool = False) -> Iterator[None]:
    """Adds what was probably meant to a `NotFoundError` about the instance.

    Raises it at once if ``--run-dir`` does not exist, so that a spelling mistake makes no directory. Not for an instance
    that runs without its state, which 'hv stop --force' ends, and not for a ``definition``, which needs no run directory.
    """
    if not definition and _missing_run_dir() is not None and all(info.name != name for info in node.instances()):
        raise no_instance(node, name)
    try:
        yield
    except hvcore.NotFoundError as error:
        _add_guess(error, node, name)
        raise


def _add_guess(error: hvcore.NotFoundError, node: hvcore.Node, name: str) -> None:
    if (missing := _missing_run_dir()) is not None:
        error.add_note(f"{name}: {missing}")
        return
    with suppress(hvcore.HvError):
        if name in node.definitions:
            error.add_note(f"{name}: is defined and stopped; 'hv start {name}' starts it")
            return
        hint = instead_of(name, [*(info.name for info in node.instances()), *node.definitions.names()])
        if hint:
            error.add_note(f"{name}: {hint}")


def file_of(node: hvcore.Node, target: str) -> str:
    """The file that is meant: a path, ``-``, or the name of a definition. A definition is preferred to a file of that name."""
    if target == "-" or looks_like_file(target) or os.sep in target or "\0" in target:
        return target
    with suppress(hvcore.HvError):
        if target in node.definitions:
            return str(node.definitions.path(target))
    return target


def read_instance(node: hvcore.Node, target: str) -> hvcore.Instance:
    """The instance in a file, in a definition or on standard input (``-``), checked with its driver.

    Prints a warning if the file sets a key that only a definition can have. Raises `InstanceFileError` when the file cannot
    be read as TOML, and `ParamsError` with every problem.
    """
    file = file_of(node, target)
    if file != target:
        return node.definitions.instance(target)
    stdin = file == "-"
    with _near_file(node, file):
        data = hvcore.parse_instance_file(_read_stdin(), "stdin") if stdin else hvcore.read_instance_file(file)
        instance = node.check(data, directory=os.getcwd() if stdin else os.path.dirname(os.path.abspath(file)))
        if data.get("autostart") and not stdin and not _is_definition(node, file):
            what = "warning: autostart: has no effect here, because the file is not a definition"
            remark(f"{instance.name}: {what}; 'hv define {file}' makes one")
        return instance


def define_file(node: hvcore.Node, file: str, **options: Any) -> hvcore.DefinitionOutcome:
    """Define the instance in the file (``-``: standard input). Raises `InputError`."""
    with _near_file(node, file):
        if file != "-":
            return node.definitions.define(file, **options)
        try:
            text = _read_stdin().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise hvcore.InstanceFileError(f"stdin: is not UTF-8 at byte {error.start}; correct the input") from error
        return node.definitions.define_text(text, subject="stdin", directory=os.getcwd(), **options)


@contextmanager
def _near_file(node: hvcore.Node, file: str) -> Iterator[None]:
    """Errors in the block name the file; one about a missing file says what was probably meant."""
    try:
        yield
    except hvcore.InstanceFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            what = f"{file!r}: no such file; {_instead_of(node, file)}"
            raise hvcore.InstanceFileError(what) from error.__cause__
        raise
    except hvcore.ParamsError as error:
        raise hvcore.ParamsError("stdin" if file == "-" else repr(file), error.problems) from None


def _is_definition(node: hvcore.Node, file: str) -> bool:
    return os.path.realpath(os.path.dirname(os.path.abspath(file))) == os.path.realpath(node.definitions.directory)


def _instead_of(node: hvcore.Node, file: str) -> str:
    if os.path.lexists(f"{file}.toml"):
        return f"did you mean {f'{file}.toml'!r}?"
    with suppress(hvcore.HvError):
        near = near_names(file, node.definitions.names())
        if near:
            return near
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
