"""``hv ssh`` and ``hv cp``: log in to a guest, and copy files, by the programs ssh and scp of this node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

import hvcore
from hvcore.cli.access.ssh_place import SshPlace, no_way_in, ssh_place, wait_for_ssh
from hvcore.cli.options import command, name_argument, seconds_option
from hvcore.cli.output import pass_stdout_on
from hvcore.cli.session import known, open_node

__all__ = ["copy", "ssh"]

_USER: Final = "seed_user"
_user_option: Final = click.option(
    "-l",
    "--user",
    metavar="NAME",
    help="The user in the guest. Default: seed_user of its definition, otherwise as ssh has it.",
)
_wait_option: Final = seconds_option("--wait", "wait_s", "Wait until ssh of the guest answers, at most S seconds.")


@command(
    "hv ssh web1",
    "hv ssh web1 uname -a",
    "hv ssh --user root web1 -- systemctl --failed",
    context_settings={"allow_interspersed_args": False},
)
@_user_option
@_wait_option
@name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, command: tuple[str, ...], *, user: str | None, wait_s: float | None) -> None:
    """Log in to a guest by ssh, or run a command there.

    Connects to the forwarded port or to an address of the guest. Options of hv stand before NAME. The first key of a guest's
    host is accepted, and kept under its name in ~/.local/state/hvcore/known_hosts. Exits with the status of the command.
    """
    place, login = _reached(name, user, wait_s)
    words = command[1:] if command[:1] == ("--",) else command
    target = place.host if login is None else f"{login}@{place.host}"
    _run(name, ["ssh", "-p", str(place.port), *_options(name), "--", target, *words])


@command("hv cp notes.txt web1:/tmp/", "hv cp -r web1:/etc/nginx .", name="cp")
@click.option("-r", "--recursive", is_flag=True, help="Copy directories with all that they contain.")
@_user_option
@_wait_option
@click.argument("source")
@click.argument("target")
def copy(source: str, target: str, *, recursive: bool, user: str | None, wait_s: float | None) -> None:
    """Copy a file to a guest, or from it.

    A path in the guest is NAME:PATH. Everything else is as with 'hv ssh'.
    """
    names = [_name_in(one) for one in (source, target)]
    found = [name for name in names if name is not None]
    if len(found) != 1:
        what = "one of SOURCE and TARGET must be NAME:PATH, in the guest"
        raise click.UsageError(what, click.get_current_context())
    name = found[0]
    place, login = _reached(name, user, wait_s)
    host = f"[{place.host}]" if ":" in place.host else place.host
    there = host if login is None else f"{login}@{host}"
    paths = [
        f"{there}:{one.partition(':')[2]}" if of_guest is not None else os.path.join(".", one)
        for one, of_guest in zip((source, target), names, strict=True)
    ]
    _run(name, ["scp", "-P", str(place.port), *(["-r"] if recursive else []), *_options(name), "--", *paths])


def _name_in(argument: str) -> str | None:
    """The instance in ``NAME:PATH``; None for a path of this node, which has a slash before any colon, or no colon."""
    head, colon, _ = argument.partition(":")
    return head if colon and head and "/" not in head else None


def _reached(name: str, user: str | None, wait_s: float | None) -> tuple[SshPlace, str | None]:
    """Where to connect, and as whom. Raises `OperationError` if nothing leads to the guest."""
    node = open_node()
    with known(node, name):
        info = node.info(name)
        if info.state is not hvcore.State.RUNNING:
            raise hvcore.OperationError(f"{name}: is {info.state}, so ssh does not answer; see 'hv info {name}'")
        if wait_s is not None:
            wait_for_ssh(node, name, wait_s)
    place = ssh_place(info)
    if place is None:
        raise hvcore.OperationError(f"{name}: nothing leads to its ssh port; {no_way_in()}")
    return place, user or _user_of(node, name)


def _user_of(node: hvcore.Node, name: str) -> str | None:
    """The user that the definition of the instance makes."""
    if name not in node.definitions:
        return None
    params: dict[str, Any] = dict(node.definitions.instance(name).params)
    return params.get(_USER)


def _options(name: str) -> list[str]:
    """A host key belongs to the guest and not to a port, which another guest may have next time."""
    own = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    hosts = Path(own) / "hvcore" / "known_hosts"
    try:
        hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        what = f"{str(hosts.parent)!r}: cannot be made, got {error.strerror}"
        raise hvcore.OperationError(f"{what}; set XDG_STATE_HOME to a directory of yours") from error
    settings = {"HostKeyAlias": f"hv-{name}", "StrictHostKeyChecking": "accept-new", "UserKnownHostsFile": f'"{hosts}"'}
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _run(name: str, argv: list[str]) -> None:
    pass_stdout_on()
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - without a shell on purpose
    except OSError as error:
        what = f"{name}: {argv[0]!r} cannot be run on this node, got {error.strerror}"
        raise hvcore.OperationError(f"{what}; install openssh-client") from error
