"""``hv abi``: what a guest sees of its machine, and how two machines differ for it."""

from __future__ import annotations

import os

import click

import hvcore
from hvcore.cli.guesses import looks_like_file
from hvcore.cli.options import command, json_option
from hvcore.cli.output import Column, emit_json, remark, show_table
from hvcore.cli.session import known, read_instance, working

__all__ = ["abi"]

_KINDS = {"wire": "red", "seen": "yellow", "boot": "cyan"}
_COLUMNS = (Column("CLASS", styles=_KINDS), Column("WHAT", wraps=False), Column("KEY", wraps=False))
_DIFFERS = 1


@command("hv abi web1", "hv abi web1.toml --json", "hv abi --diff web1 web1.toml")
@click.argument("targets", metavar="NAME|FILE...", nargs=-1, required=True)
@click.option("--diff", is_flag=True, help="Show the differences between two. Exit with 1 if there are any.")
@json_option
def abi(targets: tuple[str, ...], *, diff: bool, as_json: bool) -> None:
    """Show what a guest sees of its machine.

    NAME is an instance on this node, else a definition; FILE is an instance file. CLASS is what a difference does to a
    guest that is migrated, restored or started again: with 'wire' QEMU cannot load its state, with 'seen' QEMU loads it
    and the guest sees something else, 'boot' matters at its next boot, 'name' only to you. Disks and QEMU are those of this
    node.
    """
    if len(targets) != 1 + diff:
        raise click.UsageError("give two with --diff, else one", click.get_current_context())
    found = [_abi_of(target) for target in targets]
    if diff:
        _show_changes(hvcore.abi_changes(*found), as_json=as_json)
        return
    (one,) = found
    if as_json:
        emit_json(one.to_json())
        return
    rows = [[str(entry.kind), entry.what, entry.key, entry.value, _keys(entry.params)] for entry in one.entries]
    show_table((*_COLUMNS, Column("VALUE"), Column("FROM")), rows)
    if one.changed:
        remark(f"{targets[0]}: not the same as at its start in: {', '.join(one.changed)}")


def _abi_of(target: str) -> hvcore.Abi:
    with working(f"examining {target}") as node:
        is_path = target == "-" or looks_like_file(target) or os.sep in target
        if not is_path:
            try:
                return node.abi(target)
            except hvcore.NotFoundError:
                if target not in node.definitions:
                    with known(node, target):
                        raise
        return node.abi(read_instance(node, target))


def _show_changes(changes: tuple[hvcore.AbiChange, ...], *, as_json: bool) -> None:
    if as_json:
        emit_json([change.to_json() for change in changes])
    elif not changes:
        remark("no difference: a guest sees the same machine")
    else:
        rows = [[str(one.kind), one.what, one.key, one.before, one.after, _keys(one.params)] for one in changes]
        show_table((*_COLUMNS, Column("BEFORE"), Column("AFTER"), Column("FROM")), rows)
    if changes:
        click.get_current_context().exit(_DIFFERS)


def _keys(params: tuple[str, ...]) -> str | None:
    return ", ".join(params) or None
