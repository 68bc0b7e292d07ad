"""``hv upgrade-check``: what another QEMU would change for the instances of this node."""

from __future__ import annotations

import os
from collections import Counter

import click

import hvcore
from hvcore.cli.options import command, json_option
from hvcore.cli.output import Column, emit_json, remark, show_table
from hvcore.cli.session import working

__all__ = ["upgrade_check"]

_STYLES = {"same": "green", "differs": "yellow", "refused": "red", "unknown": "red"}
_COLUMNS = (Column("NAME", wraps=False), Column("STATE", wraps=False), Column("VERDICT", styles=_STYLES), Column("WHY"))
_NOT_SAME = 1
_SHOWN = 4


@command("hv upgrade-check --qemu /opt/qemu/bin/qemu-system-x86_64", "hv upgrade-check --qemu /opt/qemu web1 --json")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--qemu", "binary", metavar="PATH", required=True, help="The other QEMU.")
@json_option
def upgrade_check(names: tuple[str, ...], *, binary: str, as_json: bool) -> None:
    """Check what another QEMU would change for kvm instances.

    Without NAME, checks each instance that runs or is defined. Compares what the guest would see, then lets the QEMU of the
    instance save a throw-away guest with the same machine and the other QEMU load it. No instance is touched. The exit code
    is 1 unless every verdict is 'same'.
    """
    with working("reading definitions") as node:
        found = list(node.upgrade_checks(os.path.abspath(binary), *names))
    if as_json:
        emit_json([one.to_json() for one in found])
    elif not found:
        remark("no kvm instance runs or is defined")
    else:
        rows = [[one.name, "running" if one.running else "defined", str(one.verdict), _why(one)] for one in found]
        show_table(_COLUMNS, rows)
        counts = Counter(str(one.verdict) for one in found)
        remark(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    if any(one.verdict is not hvcore.UpgradeVerdict.SAME for one in found):
        click.get_current_context().exit(_NOT_SAME)


def _why(one: hvcore.UpgradeCheck) -> str:
    changes = [
        f"{change.what}: {change.key} {change.before or 'none'} -> {change.after or 'none'}" for change in one.changes
    ]
    more = [] if len(changes) <= _SHOWN else [f"and {len(changes) - _SHOWN} more (--json)"]
    return "; ".join([*one.reasons, *changes[:_SHOWN], *more, *one.notes])
