"""``hv schema-diff``: what changed about a driver's parameters, and which version that asks for."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

import hvcore
from hvcore.cli.options import json_option
from hvcore.cli.output import emit_json, say
from hvcore.cli.session import open_node
from hvcore.cli.table import Column, show_table

__all__ = ["schema_diff"]

_MOST_BYTES = 16 * 1024 * 1024
_STYLES = {"major": "bold red", "minor": "yellow", "patch": "green"}


def _schema(ctx: click.Context, param: click.Parameter, value: str) -> dict[str, Any]:
    if ctx.resilient_parsing:
        return {}
    is_file = value == "-" or os.sep in value or value.endswith(".json") or os.path.lexists(value)
    if not is_file:
        return open_node(ctx).driver(value).json_schema()
    try:
        return hvcore.as_schema(json.loads(_text(value)))
    except OSError as error:
        what = f"{value!r}: cannot be read, got {error.strerror}; give a file or the name of a driver"
    except (ValueError, RecursionError) as error:
        words = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
        what = f"{value!r}: {words}; make one with hv params DRIVER --schema"
    raise click.BadParameter(what, ctx=ctx, param=param)


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.read(_MOST_BYTES)
    with open(name, encoding="utf-8") as file:
        return file.read(_MOST_BYTES)


@click.command(
    "schema-diff",
    epilog="""\b
Example:
  hv schema-diff kvm-0.1.json kvm
  hv schema-diff kvm-0.1.json kvm --expect minor || echo not in a minor release
  hv params kvm --schema > kvm-0.2.json""",
)
@click.argument("old", callback=_schema)
@click.argument("new", callback=_schema)
@click.option(
    "--expect",
    type=click.Choice([str(bump) for bump in hvcore.Bump]),
    help="Exit with 1 when the changes ask for more than this.",
)
@json_option
def schema_diff(old: dict[str, Any], new: dict[str, Any], *, expect: str | None, as_json: bool) -> None:
    """Compare the parameters of two releases of a driver.

    OLD and NEW are files that 'hv params DRIVER --schema' (or --json) wrote, - for stdin, or names of installed
    drivers. Each change is told with the part of the version that it asks to raise: major when an instance file that
    worked may be refused or mean something else, minor when it goes on as it was, patch for words.
    """
    changes = hvcore.compare_schemas(old, new)
    needed = hvcore.largest(changes)
    if as_json:
        emit_json({"bump": str(needed), "changes": [change.to_json() for change in changes]})
    elif not changes:
        say("no change")
    else:
        columns = [Column("BUMP", styles=_STYLES), Column("PARAMETER"), Column("CHANGE"), Column("WHAT")]
        show_table(columns, [(str(change.bump), change.key, change.kind, change.what) for change in changes])
        say(f"\nthese changes ask for a {needed} release")
    if expect is not None and needed.size > hvcore.Bump(expect).size:
        click.get_current_context().exit(1)
