"""Arguments and options that several subcommands share, and their completion in a shell."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

import hvcore
from hvcore.cli.guesses import looks_like_file
from hvcore.cli.output import results_only
from hvcore.cli.session import open_node

__all__ = [
    "any_names_argument",
    "bytes_in",
    "command",
    "deadline_option",
    "defined_argument",
    "defined_names_argument",
    "driver_argument",
    "driver_completion",
    "file_argument",
    "files_argument",
    "in_mib",
    "json_option",
    "name_argument",
    "names_argument",
    "only_files_argument",
    "optional_files_argument",
    "optional_names_argument",
    "seconds_in",
    "seconds_option",
    "targets_argument",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_LONGEST_S: Final = 7 * 86_400.0
_UNITS_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_MIB: Final = 1 << 20
_UNITS_BYTES: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE: Final = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)
_TIME: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e-?[0-9]{1,2})?|\.[0-9]+) ?(ms|s|m|h|)")


def command(*examples: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Like `click.command`. The examples are command lines, shown below the options.

    Only results reach stdout: what plugins print goes to stderr.
    """
    epilog = "\n".join(["\b", "Example:", *(f"  {line}" for line in examples)])

    def made(run: Callable[..., Any]) -> click.Command:
        @wraps(run)
        def with_results_only(*args: Any, **named: Any) -> Any:
            with results_only():
                return run(*args, **named)

        decorate: Callable[[Callable[..., Any]], click.Command] = click.command(epilog=epilog, **settings)
        return decorate(with_results_only)

    return made


def _instance_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if ctx.resilient_parsing:
        return value
    return _checked_name(ctx, param, value)


def _instance_names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return values if ctx.resilient_parsing else tuple(_checked_name(ctx, param, value) for value in values)


def _checked_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if looks_like_file(value) and "\0" not in value:
        return value  # the node says what was probably meant
    try:
        hvcore.Instance(name=value, driver="none")
    except hvcore.ParamsError as error:
        wrong = "; ".join(str(problem).removeprefix(f"{problem.path}: ") for problem in error.problems)
        raise click.BadParameter(wrong, ctx=ctx, param=param) from None
    return value


def _optional_seconds(ctx: click.Context, param: click.Parameter, value: object) -> float | None:
    return None if value is None else _seconds(ctx, param, value)


def seconds_in(text: str) -> float | None:
    """The seconds in ``5``, ``0.5``, ``5s``, ``2m``, ``1h`` or ``500ms``; None for anything else."""
    found = _TIME.fullmatch(text.strip())
    return None if found is None else float(found[1]) * _UNITS_S[found[2]]


def bytes_in(text: str, *, unit_bytes: int = 1) -> int | None:
    """The bytes in ``20G``, ``512M`` or a number of units; None for anything else."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None else int(found[1]) * _UNITS_BYTES.get(found[2].upper(), unit_bytes)


def in_mib(example: str) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """The callback of an option for a size: in MiB, or with a unit. ``example`` is for the error message."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
        size = None if value is None else bytes_in(value, unit_bytes=_MIB)
        if value is not None and (size is None or size % _MIB):
            raise click.BadParameter(f"must be a size such as {example}, got {value!r:.80}", ctx=ctx, param=param)
        return None if size is None else size // _MIB

    return read


def _seconds(ctx: click.Context, param: click.Parameter, value: object) -> float:
    """Seconds from ``5``, ``0.5``, ``5s``, ``2m``, ``1h`` or ``500ms``, above 0 and up to a week."""
    seconds = seconds_in(str(value))
    if seconds is None:
        what = f"must be a time such as 5, 5s, 2m or 1h, above 0, got {value!r:.80}"
        raise click.BadParameter(what, ctx=ctx, param=param)
    if not 0.0 < seconds <= _LONGEST_S:
        what = f"must be above 0 and up to {_LONGEST_S:.0f} seconds, got {value!r:.80}"
        raise click.BadParameter(what, ctx=ctx, param=param)
    return seconds


@results_only()
def _instances(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    with suppress(hvcore.HvError, OSError):
        return _items(((info.name, str(info.state)) for info in open_node(ctx).instances()), incomplete)
    return []


@results_only()
def _all_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Instances that are on this node, then those that are defined only."""
    found = _instances(ctx, param, incomplete)
    there = {item.value for item in found}
    return [*found, *(item for item in _defined(ctx, param, incomplete) if item.value not in there)]


@results_only()
def _defined(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    with suppress(hvcore.HvError, OSError):
        return _items(((name, "defined") for name in open_node(ctx).definitions.names()), incomplete)
    return []


def _names_or_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _defined(ctx, param, incomplete) + _files(ctx, param, incomplete)


def driver_completion(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The installed drivers whose names begin with ``incomplete``."""
    return _items(((entry.name, entry.distribution) for entry in hvcore.catalogue()), incomplete)


def _files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    head, tail = os.path.split(incomplete)
    try:
        found = sorted((entry.name, entry.is_dir()) for entry in os.scandir(head or ".") if entry.name.startswith(tail))
    except OSError:
        return []
    files = [name for name, _ in found if name.endswith(".toml")]
    # With directories among them, the shell completes paths better than this does.
    if not files or any(is_dir for _, is_dir in found):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(os.path.join(head, name)) for name in files]


def _targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    drivers = driver_completion(ctx, param, incomplete) if incomplete else []
    return drivers or _names_or_files(ctx, param, incomplete)


def _items(found: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=note) for name, note in found if name.startswith(incomplete)]


def json_option(run: _F) -> _F:
    """The option ``--json``: stdout has one JSON document, for an error too."""
    option = click.option(
        "--json", "as_json", is_flag=True, help="Print the result, or the error, as one JSON document."
    )
    return option(run)


# The name of an instance or several, of a definition, of a driver; an instance file or a definition (``-``: standard input), or
# several; or any of these.
name_argument: Final = click.argument("name", callback=_instance_name, shell_complete=_instances)
names_argument: Final = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, callback=_instance_names, shell_complete=_instances
)
any_names_argument: Final = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, callback=_instance_names, shell_complete=_all_names
)
optional_names_argument: Final = click.argument(
    "names", metavar="[NAME]...", nargs=-1, callback=_instance_names, shell_complete=_instances
)
defined_argument: Final = click.argument("name", callback=_instance_name, shell_complete=_defined)
defined_names_argument: Final = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, callback=_instance_names, shell_complete=_defined
)
driver_argument: Final = click.argument("driver", shell_complete=driver_completion)
file_argument: Final = click.argument("file", metavar="FILE|NAME", shell_complete=_names_or_files)
files_argument: Final = click.argument(
    "files", metavar="FILE|NAME...", nargs=-1, required=True, shell_complete=_names_or_files
)
optional_files_argument: Final = click.argument(
    "files", metavar="[FILE|NAME]...", nargs=-1, shell_complete=_names_or_files
)
only_files_argument: Final = click.argument("files", metavar="FILE...", nargs=-1, required=True, shell_complete=_files)
targets_argument: Final = click.argument(
    "targets", metavar="FILE|NAME|DRIVER...", nargs=-1, required=True, shell_complete=_targets
)


def deadline_option(default_s: float, help_text: str) -> Callable[[_F], _F]:
    """The option ``--deadline S``: seconds, or a time such as 2m. The default is added to the help text."""
    return click.option(
        "--deadline",
        "deadline_s",
        metavar="S",
        type=click.UNPROCESSED,
        callback=_seconds,
        default=default_s,
        help=f"{help_text} Units ms, s, m and h can follow the number. Default: {default_s:g}.",
    )


def seconds_option(option: str, name: str, help_text: str) -> Callable[[_F], _F]:
    """An option that takes seconds, or a time such as 2m; None without it."""
    return click.option(
        option,
        name,
        metavar="S",
        type=click.UNPROCESSED,
        callback=_optional_seconds,
        help=f"{help_text} Units ms, s, m and h can follow the number.",
    )
