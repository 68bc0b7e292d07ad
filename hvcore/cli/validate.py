"""``hv check``, ``verify`` and ``plan``: everything about an instance file, and nothing done yet."""

from __future__ import annotations

import os
import shlex

import click

import hvcore
from hvcore.cli.options import file_argument, json_option, target_argument
from hvcore.cli.output import emit_json, say
from hvcore.cli.session import open_node, read_instance, warn, working

__all__ = ["check", "plan", "verify"]


@click.command(
    epilog="""\b
Example:
  hv check web1.toml
  generate-instance | hv check - --json"""
)
@file_argument
@json_option
def check(file: str, *, as_json: bool) -> None:
    """Check an instance file.

    Every problem is told at once, then what works and is rarely wanted, as warnings. Of this node only its own values
    and profiles are looked at (--config-dir), so where those are the same the answer is; 'hv verify' asks whether
    this node can run it. FILE - is stdin.
    """
    node = open_node()
    instance = read_instance(node, file)
    driver = node.driver(instance.driver)
    params, warnings = driver.check(instance), driver.warnings(instance)
    warn(instance.name, warnings)
    if as_json:
        told = [warning.to_json() for warning in warnings]
        facts = {"params": params.redacted(), "layers": {key: params.layer(key) for key in params}, "warnings": told}
        emit_json({"name": instance.name, "driver": instance.driver, **facts})
    else:
        count = len(params.given)
        say(f"{instance.name}: ok ({instance.driver}, {count} parameter{'' if count == 1 else 's'} set)")


@click.command(
    epilog="""\b
Example:
  hv verify web1.toml
  hv verify kvm"""
)
@target_argument
@json_option
def verify(target: str, *, as_json: bool) -> None:
    """Check an instance file against this node, or try a driver.

    With a FILE: do its files exist, can this node's programs do what it asks for? With the name of a DRIVER: can
    it be loaded with its extensions, and does this node have what it needs? What is missing is told with the command
    that installs it.
    """
    if _is_driver(target):
        with working(f"examining driver {target}") as node:
            _verify_driver(node.driver(target), as_json=as_json)
        return
    with working(f"verifying {target}") as node:
        instance = read_instance(node, target)
        node.driver(instance.driver).verify(instance)
    if as_json:
        emit_json({"name": instance.name, "driver": instance.driver, "verified": True})
    else:
        say(f"{instance.name}: this node can run it ({instance.driver})")


def _verify_driver(handle: hvcore.DriverHandle, *, as_json: bool) -> None:
    findings = handle.examine()
    problems = [
        hvcore.Problem(path=found.subject, what=found.what, todo=found.todo)
        for found in findings
        if found.severity is hvcore.Severity.PROBLEM
    ]
    if problems:
        raise hvcore.VerifyError(f"driver {handle.name}", problems)
    can = ["start", "stop", *handle.capabilities]
    if as_json:
        emit_json({"driver": handle.name, "can": can, "findings": [found.to_json() for found in findings]})
        return
    say(
        "\n".join(
            [f"driver {handle.name}: this node can run it; it can {', '.join(can)}", *map("  {}".format, findings)]
        )
    )


def _is_driver(target: str) -> bool:
    # A file wins: ./kvm is always a file, and a driver's name that is also a file here is rarely meant.
    looks_like_file = target == "-" or os.sep in target or target.endswith(".toml")
    if looks_like_file or "\0" in target or os.path.lexists(target):
        return False
    if any(entry.name == target for entry in hvcore.catalogue()):
        return True
    names = ", ".join(sorted({entry.name for entry in hvcore.catalogue()})) or "none"
    raise click.UsageError(f"{target!r}: is neither a file nor an installed driver; installed: {names}")


@click.command(
    epilog="""\b
Example:
  hv plan web1.toml"""
)
@file_argument
@json_option
def plan(file: str, *, as_json: bool) -> None:
    """Show what a start would do.

    The steps and the command, before anything is done. 'hv explain' tells why each argument is there. Values that
    exist only during a start are shown as {name}, secrets not at all. FILE - is stdin.
    """
    found = _plan(file)
    warn(found.name, found.warnings)
    if as_json:
        emit_json(found.to_json())
        return
    lines = [f"{found.name} ({found.driver})", ""]
    lines += [f"  {number}. {step.kind}: {step.what}" for number, step in enumerate(found.steps, 1)]
    if found.arguments:
        first, *rest = (" ".join(map(_quoted, argument.tokens)) for argument in found.arguments)
        lines += ["", " \\\n    ".join([f"  {first}", *rest])]
    say("\n".join(lines))


def _plan(file: str) -> hvcore.Plan:
    with working(f"planning {file}") as node:
        instance = read_instance(node, file)
        return node.driver(instance.driver).plan(instance)


def _quoted(token: str) -> str:
    # {name} stands for a value that is not known yet; quoting it would only be noise.
    return token if token.startswith("{") and token.endswith("}") else shlex.quote(token)
