"""``hv check``, ``verify``, ``plan`` and ``explain``: what an instance file means. Nothing is changed."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace

import click

import hvcore
from hvcore.cli.options import command, file_argument, files_argument, json_option, targets_argument
from hvcore.cli.output import Column, emit_json, on_one_line, remark, show, show_table
from hvcore.cli.session import open_node, read_instance, warn, working
from hvcore.cli.several import Result, for_each

__all__ = ["check", "explain", "plan", "verify"]

_QEMU = "kvm_path"
_CHANGES = {"added": "green", "removed": "red", "changed": "yellow", "moved": "cyan"}


@command("hv check web1.toml", "hv check *.toml", "generate-instance | hv check - --json")
@files_argument
@json_option
def check(files: tuple[str, ...], *, as_json: bool) -> None:
    """Check instance files.

    Lists every error in each file, then warnings about settings that work but are seldom wanted. Reads only the file and
    this node's configuration (--config-dir). To find out whether this node can run the instance, use 'hv verify'. Use
    '-' to read standard input.
    """
    for_each(files, _checked, as_json=as_json)


def _checked(file: str) -> Result:
    node = open_node()
    instance = read_instance(node, file)
    driver = node.driver(instance.driver)
    params, warnings = driver.check(instance), driver.warnings(instance)
    warn(instance.name, warnings)
    facts = {
        "name": instance.name,
        "driver": instance.driver,
        "params": params.redacted(),
        "layers": {key: params.layer(key) for key in params},
        "warnings": [warning.to_json() for warning in warnings],
    }
    count = len(params.given)
    return Result(facts, f"{instance.name}: ok ({instance.driver}, {count} parameter{'' if count == 1 else 's'} set)")


@command("hv verify web1.toml", "hv verify web1.toml web2.toml", "hv verify kvm")
@targets_argument
@json_option
def verify(targets: tuple[str, ...], *, as_json: bool) -> None:
    """Check whether this node can run instances or drivers.

    With FILE: checks that its disks and kernels exist and that the installed programs support what it asks for. With
    DRIVER: checks that the driver loads and that this node has the programs it needs. Shows how to install what is
    missing. Each FILE is checked as if no other one were started.
    """
    for_each(targets, _verified, as_json=as_json)


def _verified(target: str) -> Result:
    if _is_driver(target):
        with working(f"examining driver {target}") as node:
            return _verified_driver(node.driver(target))
    with working(f"verifying {target}") as node:
        instance = read_instance(node, target)
        node.driver(instance.driver).verify(instance)
    facts = {"name": instance.name, "driver": instance.driver, "verified": True}
    return Result(facts, f"{instance.name}: this node can run it ({instance.driver})")


def _verified_driver(handle: hvcore.DriverHandle) -> Result:
    findings = handle.examine()
    problems = [
        hvcore.Problem(path=found.subject, what=found.what, todo=found.todo)
        for found in findings
        if found.severity is hvcore.Severity.PROBLEM
    ]
    if problems:
        raise hvcore.VerifyError(f"driver {handle.name}", problems)
    can = ["start", "stop", *handle.capabilities]
    facts = {"driver": handle.name, "can": can, "findings": [found.to_json() for found in findings]}
    head = f"driver {handle.name}: this node can run it; it can {', '.join(can)}"
    return Result(facts, "\n".join([head, *map("  {}".format, findings)]))


def _is_driver(target: str) -> bool:
    # A file is preferred to a driver with the same name.
    looks_like_file = target == "-" or os.sep in target or target.endswith(".toml")
    if looks_like_file or "\0" in target or os.path.lexists(target):
        return False
    if any(entry.name == target for entry in hvcore.catalogue()):
        return True
    names = ", ".join(sorted({entry.name for entry in hvcore.catalogue()})) or "none"
    raise hvcore.InputError(f"{target!r}: is neither a file nor an installed driver; installed drivers: {names}")


@command("hv plan web1.toml")
@file_argument
@json_option
def plan(file: str, *, as_json: bool) -> None:
    """Show what a start would do.

    Lists the steps and the command, without running anything. To see why each argument is there, use 'hv explain'.
    Values that exist only during a start are shown as {name}; secrets are hidden. Use '-' to read standard input.
    """
    found = _plan(_read(file))
    warn(found.name, found.warnings)
    lines = [f"{found.name} ({found.driver})", ""]
    lines += [f"  {number}. {step.kind}: {on_one_line(step.what)}" for number, step in enumerate(found.steps, 1)]
    if found.arguments:
        first, *rest = (" ".join(map(_quoted, argument.tokens)) for argument in found.arguments)
        lines += ["", " \\\n    ".join([f"  {first}", *rest])]
    show(found.to_json(), "\n".join(lines), as_json=as_json)


def _quoted(token: str) -> str:
    # {name} is a placeholder, which needs no quotes.
    return token if token.startswith("{") and token.endswith("}") else shlex.quote(token)


@command(
    "hv explain web1.toml",
    "hv explain --diff web1.toml web2.toml",
    "hv explain --diff web1.toml --qemu /usr/bin/qemu-system-x86_64 --qemu /opt/qemu/bin/qemu-system-x86_64",
)
@files_argument
@click.option(
    "--diff",
    is_flag=True,
    help="Show the differences between two files, or, with --qemu twice, between two QEMU binaries for one file.",
)
@click.option(
    "--qemu", "binaries", metavar="PATH", multiple=True, help="Use this QEMU binary instead of the one in the file."
)
@json_option
def explain(files: tuple[str, ...], *, diff: bool, binaries: tuple[str, ...], as_json: bool) -> None:
    """Show the command of a start, and the reason for each argument.

    For each argument of the command line, shows which plugin added it, which parameters it comes from, where those were
    set (instance, profile, node or default), and why. In brackets: the QEMU feature that decided its form. Use '-' to
    read standard input.
    """
    _refuse_misuse(files, binaries, diff=diff)
    given = {file: _read(file) for file in dict.fromkeys(files)}  # each once: stdin cannot be read again
    if not diff:
        found = _plan(_with(given[files[0]], *binaries))
        warn(found.name, found.warnings)
        show(found.to_json(), found.explain(), as_json=as_json)
        return
    # One file and two binaries, or two files and at most one binary for both.
    names, chosen = (files * 2, binaries) if len(files) == 1 else (files, (binaries or (None,)) * 2)
    sides = [_with(given[file], binary) for file, binary in zip(names, chosen, strict=True)]
    first, second = (_plan(instance) for instance in sides)
    changes = hvcore.differences(first, second)
    _show_refusals(*(_refusals(instance) for instance in sides))
    if as_json:
        emit_json([change.to_json() for change in changes])
    elif not changes:
        remark("no difference: the commands are identical")
    else:
        columns = [Column("CHANGE", styles=_CHANGES), Column("BEFORE"), Column("AFTER"), Column("WHY")]
        show_table(columns, [[change.kind, *change.parts(), "; ".join(change.why)] for change in changes])


def _refuse_misuse(files: tuple[str, ...], binaries: tuple[str, ...], *, diff: bool) -> None:
    legal = {(1, 2), (2, 0), (2, 1)} if diff else {(1, 0), (1, 1)}
    if files.count("-") > 1:
        raise click.UsageError(
            "standard input can be read once only; give the other one as a file", click.get_current_context()
        )
    if (len(files), len(binaries)) not in legal:
        what = "two FILEs, or one and --qemu twice" if diff else "one FILE and at most one --qemu; --diff takes two"
        raise click.UsageError(f"give {what}", click.get_current_context())


def _show_refusals(before: list[str], after: list[str]) -> None:
    """Print why this node would refuse one of the two instances, except for problems that both have."""
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
