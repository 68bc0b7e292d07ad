"""The manual page hv(1), for ``man hv``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

import hvcore
from hvcore.cli.app import COMMANDS, hv

__all__ = ["escaped", "man_page"]


def man_page() -> str:
    """The command ``hv`` and all its subcommands, from the help that they print, in the language of man(7)."""
    root = click.Context(hv, info_name="hv", **hv.context_settings)
    summary = hv.get_short_help_str(120).rstrip(".")
    lines = [
        f'.TH HV 1 "" "hvcore {hvcore.__version__}" "hvcore"',
        ".SH NAME",
        f"hv \\- {escaped(summary[0].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        *_usage(hv, root),
        ".SH DESCRIPTION",
        *_paragraphs(hv.help or ""),
        "Each instance is described by a file in TOML, and runs with a driver that is loaded by name.",
        ".SH OPTIONS",
        *_options(hv, root),
    ]
    for heading, section in COMMANDS.items():
        lines.append(f'.SH "{escaped(heading.upper())}"')
        for name in section:
            command = hv.get_command(root, name)
            assert command is not None, name
            lines += _subcommand(command, click.Context(command, info_name=name, parent=root))
    lines += [".SH EXAMPLES", *_paragraphs((hv.epilog or "").replace("Example:\n", ""))]
    lines += [".SH SEE ALSO", ".BR qemu\\-system\\-x86_64 (1),", ".BR bwrap (1)"]
    return "\n".join(lines)


def _subcommand(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f'.SS "{escaped(context.command_path)}"'
    yield from _usage(command, context)
    yield ".PP"
    yield from _paragraphs(command.help or "")
    yield from _options(command, context)
    if command.epilog:
        yield ".PP"
        yield from _paragraphs(command.epilog)


def _usage(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".B {escaped(context.command_path)}"
    pieces = command.collect_usage_pieces(context)
    if pieces:
        yield escaped(" ".join(pieces))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for option in command.get_params(context):
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            names, words = record
            yield ".TP"
            yield f".B {escaped(names)}"
            yield escaped(" ".join(words.split()))


def _paragraphs(text: str) -> Iterator[str]:
    r"""Paragraphs as click reads them: one that begins with ``\b`` keeps its lines."""
    between = ""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text).strip()):
        if between:
            yield between
        between = ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *(escaped(line) for line in paragraph[1:].strip("\n").split("\n")), ".fi")
        else:
            yield escaped(" ".join(paragraph.split()))


def escaped(text: str) -> str:
    """A line of text without a meaning for roff: backslashes, hyphens that people copy, and the first character."""
    safe = (
        text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("^", "\\(ha").replace("~", "\\(ti")
    )
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe
