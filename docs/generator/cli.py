"""The page of the command line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from generator.words import table
from hvcore.cli.app import COMMANDS, hv

__all__ = ["cli_page"]


def cli_page() -> str:
    """Every subcommand of ``hv`` with its arguments, options and examples."""
    root = click.Context(hv, info_name="hv", **hv.context_settings)
    parts = ["# The command hv", *_command(hv, root)]
    for heading, section in COMMANDS.items():
        parts.append(f"## {heading}")
        for name in section:
            command = hv.get_command(root, name)
            assert command is not None, name
            parts += [f"### hv {name}", *_command(command, click.Context(command, info_name=name, parent=root))]
    return "\n\n".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    yield inspect.cleandoc((command.help or "").replace("\b", ""))
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    yield table(("option", "meaning"), ((f"`{names}`", words) for names, words in records))
    example = (command.epilog or "").replace("\b\n", "").strip()
    if example:
        yield f"```text\n{example}\n```"
