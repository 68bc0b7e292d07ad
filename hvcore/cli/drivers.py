"""``hv drivers`` and ``hv params``: what is installed, and what its drivers can be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

import hvcore
from hvcore.cli.options import deadline_option, driver_argument, json_option
from hvcore.cli.output import emit_json, remark, say
from hvcore.cli.session import open_node
from hvcore.cli.table import Column, show_table
from hvcore.cli.time_limit import patience

__all__ = ["drivers", "params"]

_VERDICTS = {"ok": "green", "broken": "bold red", "duplicate": "red", "too-old": "red", "too-new": "red"}


@click.command(
    epilog="""\b
Example:
  hv drivers
  hv drivers --load"""
)
@click.option("--load", is_flag=True, help="Import each one too, and show what it can do or why it does not work.")
@deadline_option(30.0, "with --load each driver has to be imported within")
@json_option
def drivers(*, load: bool, deadline_s: float, as_json: bool) -> None:
    """List the installed drivers.

    They are found by their packages' metadata and not imported, so one that is broken hides no other. With --load and
    HVCORE_STRICT=1 the exit code is 1 when there is one that cannot be used.
    """
    with patience(deadline_s) as begin:
        found = [_tried(entry, begin) if load else _untried(entry) for entry in hvcore.catalogue()]
    if as_json:
        emit_json(found)
    elif not found:
        remark("no driver is installed; pip install hv-kvm, for example")
    else:
        _show_drivers(found, load=load)
    if load and hvcore.strict() and any(row["verdict"] != str(hvcore.Verdict.OK) for row in found):
        click.get_current_context().exit(1)


def _show_drivers(found: list[dict[str, Any]], *, load: bool) -> None:
    columns = [
        Column("NAME"),
        Column("PACKAGE"),
        Column("VERSION"),
        Column("NEEDS"),
        Column("VERDICT", styles=_VERDICTS),
    ]
    keys = ["name", "distribution", "version", "requires", "verdict"]
    if load:
        columns.append(Column("CAN"))
        keys.append("can")
    show_table(columns, [[", ".join(row[key]) if key == "can" else row[key] for key in keys] for row in found])
    for row in found:
        if row["reason"]:  # too long for a column, and of several lines where several things are wrong
            told = (
                row["reason"] if row["reason"].startswith(("driver", "plugin")) else f"{row['name']}: {row['reason']}"
            )
            say(f"\n{told}")


def _untried(entry: hvcore.CatalogueEntry) -> dict[str, Any]:
    return {**entry.to_json(), "can": None}


def _tried(entry: hvcore.CatalogueEntry, begin: Callable[[], None]) -> dict[str, Any]:
    facts = entry.to_json()
    if entry.verdict is not hvcore.Verdict.OK:
        return {**facts, "can": []}
    begin()
    try:
        handle = open_node().driver(entry.name)
    except hvcore.HvError as error:
        return {**facts, "verdict": str(hvcore.Verdict.BROKEN), "reason": str(error), "can": []}
    return {**facts, "can": ["start", "stop", *handle.capabilities]}


@click.command(
    epilog="""\b
Example:
  hv params kvm
  hv params kvm --schema > kvm.schema.json"""
)
@driver_argument
@click.option("--profile", metavar="NAME", help="Show what instances with this profile get.")
@click.option("--schema", is_flag=True, help="Print JSON Schema instead, for forms and other programs.")
@json_option
def params(driver: str, *, profile: str | None, schema: bool, as_json: bool) -> None:
    """Show the parameters of a driver.

    They are what an instance file may have under [params], those of the driver's extensions included. A default that
    this node or the profile sets is shown with that layer.
    """
    handle = open_node().driver(driver)
    if schema:
        emit_json(handle.json_schema())
        return
    rows = [row.to_json() for row in handle.parameters(profile=profile)]
    if as_json:
        emit_json(rows)
        return
    if not rows:
        remark(f"driver {driver} has no parameters")
        return
    columns = [Column("PARAMETER"), Column("VALUE"), Column("DEFAULT"), Column("CHANGES"), Column("MEANING")]
    show_table(columns, [[row["key"], _value(row), _default(row), row["changes"], _meaning(row)] for row in rows])


def _meaning(row: dict[str, Any]) -> str:
    if row["deprecated"] is None:
        return str(row["help"])
    return f"{row['help']} Deprecated, goes in release {row['removed_in']}; {row['deprecated']}."


def _value(row: dict[str, Any]) -> str:
    unit = f", in {row['unit']}" if row["unit"] else ""
    return f"{row['expects']}{unit}{' (secret)' if row['secret'] else ''}"


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
