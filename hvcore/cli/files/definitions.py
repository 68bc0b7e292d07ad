"""``hv define``, ``edit``, ``undefine``, ``rename``, ``autostart`` and ``changes``: the instances that this node should have."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

import hvcore
from hvcore.cli.files.editing import edited
from hvcore.cli.options import (
    command,
    defined_argument,
    defined_names_argument,
    json_option,
    name_argument,
    only_files_argument,
)
from hvcore.cli.output import Column, emit_json, remark, show_table
from hvcore.cli.session import define_file, known, open_node, read_instance
from hvcore.cli.several import Result, for_each, result_of

__all__ = ["autostart", "changes", "define", "edit", "rename", "undefine"]

_EFFECTS = {"now": "green", "reboot": "yellow", "start": "yellow"}
_COLUMNS = (Column("FIELD", wraps=False), Column("RUNNING"), Column("DEFINED"), Column("EFFECT", styles=_EFFECTS))


@command("hv define web1.toml && hv start web1", "hv define --autostart web1.toml", "generate-instance | hv define -")
@only_files_argument
@click.option("--autostart", "at_boot", is_flag=True, help="Also set autostart = true.")
@click.option("--replace", is_flag=True, help="Replace a definition of the same name.")
@json_option
def define(files: tuple[str, ...], *, at_boot: bool, replace: bool, as_json: bool) -> None:
    """Define instances: copy instance files into this node's configuration.

    The instance can then be started by its name, also by the boot of the node, and 'hv list --all' shows it. The file is
    checked first. Comments are kept, and relative paths become absolute. Use '-' to read standard input.
    """

    def defined(file: str) -> Result:
        outcome = define_file(open_node(), file, replace=replace, autostart=True if at_boot else None)
        starts = ", autostart on" if outcome.autostart else ""
        return result_of(outcome, f"{outcome.name}: {'' if outcome.changed else 'already '}defined{starts}")

    for_each(files, defined, as_json=as_json)


@command("hv edit web1", "EDITOR=nano hv edit web1")
@defined_argument
def edit(name: str) -> None:
    """Edit a definition, and check it before it is saved.

    Uses VISUAL or EDITOR. If the new text has an error, you can edit it again. Otherwise it is kept aside, and the next
    'hv edit' offers it. A running instance keeps its settings; see 'hv changes'.
    """
    node = open_node()
    with known(node, name, definition=True):
        outcome = edited(node, name)
    remark(f"{name}: {'changed' if outcome.changed else 'no change'}")
    for note in outcome.notes:
        remark(f"{name}: {note}")


@command("hv undefine web1")
@defined_names_argument
@json_option
def undefine(names: tuple[str, ...], *, as_json: bool) -> None:
    """Remove definitions.

    A running instance goes on. Disks are never removed. Exits with 4 if there is no such definition.
    """
    _for_each(names, lambda node, name: node.definitions.remove(name), "no longer defined", as_json=as_json)


@command("hv rename web1 shop1")
@defined_argument
@click.argument("new")
@json_option
def rename(name: str, new: str, *, as_json: bool) -> None:
    """Give a stopped instance another name.

    The definition gets the uuid of before, and MAC addresses that follow from it stay. Profiles, disks and other files
    keep their names.
    """

    def renamed(name: str) -> Result:
        node = open_node()
        with known(node, name):
            outcome = node.definitions.rename(name, new)
        text = f"{name}: is now {new}" if outcome.changed else f"{name}: already has that name"
        return result_of(outcome, text)

    for_each([name], renamed, as_json=as_json)


@command("hv autostart web1", "hv autostart --off web1 web2")
@defined_names_argument
@click.option("--off", is_flag=True, help="Do not start the instance at the node's boot.")
@json_option
def autostart(names: tuple[str, ...], *, off: bool, as_json: bool) -> None:
    """Start defined instances at the node's boot.

    Sets key autostart of the definition. The boot needs the units of 'hv install-units', which the Debian package has.
    """
    word = "off" if off else "on"
    _for_each(
        names, lambda node, name: node.definitions.autostart(name, on=not off), f"autostart {word}", as_json=as_json
    )


def _for_each(
    names: tuple[str, ...],
    act: Callable[[hvcore.Node, str], hvcore.DefinitionOutcome],
    words: str,
    *,
    as_json: bool,
) -> None:
    def done(name: str) -> Result:
        node = open_node()
        with known(node, name, definition=True):
            outcome = act(node, name)
        return result_of(outcome, f"{name}: {'' if outcome.changed else 'already '}{words}")

    for_each(names, done, as_json=as_json)


@command("hv changes web1", "hv changes web1 new.toml")
@name_argument
@click.argument("file", required=False)
@json_option
def changes(name: str, file: str | None, *, as_json: bool) -> None:
    """Show what differs between a running instance and its definition.

    EFFECT is when a change takes effect: now (with 'hv apply'), at the next reboot, or at the next start. Without FILE, the
    definition counts, or else the file that the instance was started from. Secrets are not compared.
    """
    node = open_node()
    with known(node, name):
        found = node.changes(name, None if file is None else read_instance(node, file))
    if as_json:
        emit_json([one.to_json() for one in found])
    elif not found:
        remark(f"{name}: runs as defined")
    else:
        rows = [[one.field, _shown(one.running), _shown(one.defined), f"{one.effect}{_of(one.layer)}"] for one in found]
        show_table(_COLUMNS, rows)


def _shown(value: object) -> str | None:
    if isinstance(value, dict):
        value = {key: one for key, one in value.items() if one is not None}
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def _of(layer: str) -> str:
    return "" if layer in {"instance", "default"} else f" ({layer})"
