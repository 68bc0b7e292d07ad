"""``hv drivers``, ``hv params`` and ``hv schema-diff``: the installed drivers and their parameters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

import hvcore
from hvcore.cli.guesses import near_word
from hvcore.cli.options import command, deadline_option, driver_argument, json_option
from hvcore.cli.output import Column, emit_json, remark, results_only, say, show_table
from hvcore.cli.session import open_node

__all__ = ["drivers", "params", "schema_diff"]

_VERDICTS = {"ok": "green", "broken": "bold red", "duplicate": "red", "too-old": "red", "too-new": "red"}
_BUMPS = {"major": "bold red", "minor": "yellow", "patch": "green"}
_LARGEST_SCHEMA_BYTES: Final = 16 * 1024 * 1024


@command("hv drivers", "hv drivers --load")
@click.option("--load", is_flag=True, help="Import each driver, and show what it can do or why it does not work.")
@deadline_option(30.0, "With --load: give up importing a driver after S seconds.")
@json_option
def drivers(*, load: bool, deadline_s: float, as_json: bool) -> None:
    """List the installed drivers.

    Reads package metadata only, so a broken driver does not stop the others from being listed. With --load and
    HVCORE_STRICT=1, exits with 1 if any driver cannot be used.
    """
    entries = hvcore.catalogue()
    found = [_loaded(entry, deadline_s) if load else {**entry.to_json(), "can": None} for entry in entries]
    if as_json:
        emit_json(found)
    elif not found:
        remark("no driver is installed; install one, such as hv-kvm")
    else:
        _show_drivers(found, load=load)
    if load and hvcore.strict() and any(row["verdict"] != str(hvcore.Verdict.OK) for row in found):
        click.get_current_context().exit(1)


def _show_drivers(found: list[dict[str, Any]], *, load: bool) -> None:
    columns = [*map(Column, ("NAME", "PACKAGE", "VERSION", "HVCORE")), Column("VERDICT", styles=_VERDICTS)]
    rows = [[row[key] for key in ("name", "distribution", "version", "requires", "verdict")] for row in found]
    if load:
        columns.append(Column("CAN"))
        rows = [[*cells, ", ".join(row["can"])] for cells, row in zip(rows, found, strict=True)]
    show_table(columns, rows)
    reasons: dict[str, None] = {}  # too long for a column, can have several lines, and rows of one name can share one
    for row in found:
        if row["reason"]:
            subject = "" if row["reason"].startswith(("driver", "plugin")) else f"{row['name']}: "
            reasons[f"\n{subject}{row['reason']}"] = None
    for reason in reasons:
        say(reason)


def _loaded(entry: hvcore.CatalogueEntry, deadline_s: float) -> dict[str, Any]:
    facts = entry.to_json()
    if entry.verdict is not hvcore.Verdict.OK:
        return {**facts, "can": []}
    try:
        handle = open_node(load_s=deadline_s).driver(entry.name)
    except hvcore.HvError as error:
        return {**facts, "verdict": str(hvcore.Verdict.BROKEN), "reason": str(error), "can": []}
    return {**facts, "can": ["start", "stop", *handle.capabilities]}


@results_only()
def _keys(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    with suppress(hvcore.HvError, OSError):
        handle = open_node(ctx).driver(ctx.params["driver"])
        rows = (*handle.parameters(), *handle.instance_keys())
        return [CompletionItem(row.key, help=row.help) for row in rows if row.key.startswith(incomplete)]
    return []


@command("hv params kvm", "hv params kvm disk_cache disks.cache", "hv params kvm --schema > kvm.schema.json")
@driver_argument
@click.argument("keys", metavar="[KEY]...", nargs=-1, shell_complete=_keys)
@click.option("--profile", metavar="NAME", help="Show the values that instances with this profile get.")
@click.option("--schema", is_flag=True, help="Print JSON Schema of the parameters, for forms and other programs.")
@click.option("--instance-schema", is_flag=True, help="Print JSON Schema of a whole instance file.")
@json_option
def params(
    driver: str, keys: tuple[str, ...], *, profile: str | None, schema: bool, instance_schema: bool, as_json: bool
) -> None:
    """Show the parameters of a driver.

    Lists what an instance file can set under [params], including the parameters of the driver's extensions. A default
    that this node or the profile sets is marked (node) or (profile NAME).

    With KEY, shows everything about that parameter, or about a key of the instance file such as vcpus, disks.cache or
    nics.mode.
    """
    node = open_node()
    handle = node.driver(driver)
    if schema or instance_schema:
        emit_json(node.json_schema(driver) if instance_schema else handle.json_schema())
        return
    found: Sequence[hvcore.ParamRow] = handle.parameters(profile=profile)
    if keys:
        found = _chosen(keys, {row.key: row for row in (*handle.instance_keys(), *found)})
    rows = [row.to_json() for row in found]
    if as_json:
        emit_json(rows)
    elif keys:
        say("\n\n".join(row.text() for row in found))
    elif not rows:
        remark(f"driver {driver} has no parameters")
    else:
        columns = map(Column, ("PARAMETER", "VALUE", "DEFAULT", "APPLIES", "MEANING"))
        show_table([*columns], [_parameter_cells(row) for row in rows])


def _chosen(keys: Iterable[str], known: Mapping[str, hvcore.ParamRow]) -> list[hvcore.ParamRow]:
    for key in keys:
        if key not in known:
            near = [repr(name) for name in known if key and key in name][:5]
            hint = f"did you mean {', '.join(near)}?" if near else near_word(key, known) or "leave KEY out for a list"
            raise click.BadParameter(f"{key!r}: no such parameter or key of an instance file; {hint}", param_hint="KEY")
    return [known[key] for key in dict.fromkeys(keys)]


def _parameter_cells(row: dict[str, Any]) -> list[str]:
    unit = f", in {row['unit']}" if row["unit"] else ""
    value = f"{row['expects']}{unit}{' (secret)' if row['secret'] else ''}"
    meaning = str(row["schema"]["description"])
    if row["deprecated"] is not None:
        meaning += f" Deprecated, will be removed in release {row['removed_in']}; {row['deprecated']}."
    return [row["key"], value, _default(row), row["changes"], meaning]


def _default(row: dict[str, Any]) -> str:
    value, layer = row["value"], row["layer"]
    if row["required"] and value is None:
        return "required"
    if value is None:
        shown = "unset"
    elif isinstance(value, list | tuple):
        shown = ", ".join(map(str, value)) or "none"
    else:
        shown = str(value).lower() if isinstance(value, bool) else str(value)
    return shown if layer == "default" else f"{shown} ({layer})"


@results_only()
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
        reason = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
        what = f"{value!r}: {reason}; make one with hv params DRIVER --schema"
    raise click.BadParameter(what, ctx=ctx, param=param)


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.read(_LARGEST_SCHEMA_BYTES)
    with open(name, encoding="utf-8") as file:
        return file.read(_LARGEST_SCHEMA_BYTES)


@command(
    "hv schema-diff kvm-0.1.json kvm",
    "hv schema-diff kvm-0.1.json kvm --expect minor || echo not in a minor release",
    "hv params kvm --schema > kvm-0.2.json",
    name="schema-diff",
)
@click.argument("old", callback=_schema)
@click.argument("new", callback=_schema)
@click.option(
    "--expect",
    type=click.Choice([str(bump) for bump in hvcore.Bump]),
    help="Exit with 1 if the changes require more than this.",
)
@json_option
def schema_diff(old: dict[str, Any], new: dict[str, Any], *, expect: str | None, as_json: bool) -> None:
    """Compare the parameters of two releases of a driver.

    OLD and NEW are files written by 'hv params DRIVER --schema' (or --json), '-' for standard input, or names of
    installed drivers.

    Shows which part of the version number each change requires: major if an existing instance file could be refused or
    change its meaning, minor if it keeps working, patch if only texts changed.
    """
    changes = hvcore.compare_schemas(old, new)
    needed = hvcore.largest(changes)
    if as_json:
        emit_json({"bump": str(needed), "changes": [change.to_json() for change in changes]})
    elif not changes:
        say("no change")
    else:
        columns = [Column("BUMP", styles=_BUMPS), Column("PARAMETER"), Column("CHANGE"), Column("WHAT")]
        show_table(columns, [(str(change.bump), change.key, change.kind, change.what) for change in changes])
        say(f"\nthese changes require a {needed} release")
    if expect is not None and needed.size > hvcore.Bump(expect).size:
        click.get_current_context().exit(1)
