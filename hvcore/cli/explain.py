"""``hv explain``: why each argument of a command is there, and what makes two commands differ."""

from __future__ import annotations

import os
from dataclasses import replace

import click

import hvcore
from hvcore.cli.options import files_argument, json_option
from hvcore.cli.output import emit_json, remark, say
from hvcore.cli.session import read_instance, warn, working
from hvcore.cli.table import Column, show_table

__all__ = ["explain"]

_QEMU = "kvm_path"
_KINDS = {"added": "green", "removed": "red", "changed": "yellow", "moved": "cyan"}


@click.command(
    epilog="""\b
Example:
  hv explain web1.toml
  hv explain --diff web1.toml web2.toml
  hv explain --diff web1.toml --qemu /usr/bin/qemu-system-x86_64 --qemu /opt/qemu/bin/qemu-system-x86_64"""
)
@files_argument
@click.option("--diff", is_flag=True, help="Show what differs: between two files, or between two --qemu for one file.")
@click.option(
    "--qemu", "binaries", metavar="PATH", multiple=True, help="Take this QEMU binary, whatever the file says."
)
@json_option
def explain(files: tuple[str, ...], *, diff: bool, binaries: tuple[str, ...], as_json: bool) -> None:
    """Show what a start would do, and why.

    Each argument of the command with the plugin that put it there, the parameters it follows from with the layer
    that set each, the reason, and in brackets what the program can do that decided its form. FILE - is stdin.
    """
    _refuse_misuse(files, binaries, diff=diff)
    given = {file: _read(file) for file in dict.fromkeys(files)}  # each once: stdin has no second time
    if not diff:
        found = _plan(_with(given[files[0]], *binaries))
        warn(found.name, found.warnings)
        if as_json:
            emit_json(found.to_json())
        else:
            say(found.explain())
        return
    # One file and two binaries, or two files and at most one binary for both.
    names, chosen = (files * 2, binaries) if len(files) == 1 else (files, (binaries or (None,)) * 2)
    sides = [_with(given[file], binary) for file, binary in zip(names, chosen, strict=True)]
    first, second = (_plan(instance) for instance in sides)
    changes = hvcore.differences(first, second)
    _tell_refusals(*(_refusals(instance) for instance in sides))
    if as_json:
        emit_json([change.to_json() for change in changes])
    elif not changes:
        remark("no difference: the commands are the same")
    else:
        columns = [Column("CHANGE", styles=_KINDS), Column("BEFORE"), Column("AFTER"), Column("WHY")]
        show_table(columns, [[change.kind, *change.parts(), "; ".join(change.why)] for change in changes])


def _refuse_misuse(files: tuple[str, ...], binaries: tuple[str, ...], *, diff: bool) -> None:
    wanted = {(1, 2), (2, 0), (2, 1)} if diff else {(1, 0), (1, 1)}
    if files.count("-") > 1:
        raise click.UsageError("stdin can be read once only; give the other as a file", click.get_current_context())
    if (len(files), len(binaries)) not in wanted:
        what = "two FILEs, or one and --qemu twice" if diff else "one FILE and at most one --qemu; --diff takes two"
        raise click.UsageError(f"give {what}", click.get_current_context())


def _tell_refusals(before: list[str], after: list[str]) -> None:
    """A command that is shown need not start: what this node lacks for one of the two and not for the other."""
    for side, own, other in (("before", before, after), ("after", after, before)):
        for problem in own:
            if problem not in other:
                remark(f"{side}: would be refused: {problem}")


def _refusals(instance: hvcore.Instance) -> list[str]:
    with working(f"verifying {instance.name}") as node:
        try:
            node.driver(instance.driver).verify(instance)
        except hvcore.VerifyError as error:
            return [str(problem) for problem in error.problems]
    return []


def _read(file: str) -> hvcore.Instance:
    with working(f"reading {file}") as node:
        return read_instance(node, file)


def _plan(instance: hvcore.Instance) -> hvcore.Plan:
    with working(f"planning {instance.name}") as node:
        return node.driver(instance.driver).plan(instance)


def _with(instance: hvcore.Instance, binary: str | None = None) -> hvcore.Instance:
    if binary is None:
        return instance
    return replace(instance, params={**instance.params, _QEMU: os.path.abspath(binary)})
