"""``hv view``, ``hv screenshot`` and ``hv vnc-password``: the display of an instance."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from pathlib import Path

import click

import hvcore
from hvcore.cli.options import command, json_option, name_argument, seconds_option
from hvcore.cli.output import is_terminal, pass_stdout_on, remark, results, say, show
from hvcore.cli.session import known, open_node, working
from hvcore.cli.several import operated, show_result
from hvcore.cli.whole_file import write_whole

__all__ = ["screenshot", "view", "vnc_password"]

_DISPLAYS = (hvcore.ConsoleKind.VNC, hvcore.ConsoleKind.SPICE)
_MOST_BYTES = 1024


@command("hv view web1", "hv view web1 --print", "hv view web1 --json | jq -r '.[].uri'")
@name_argument
@click.option("--print", "only_print", is_flag=True, help="Print how to reach the display, and start no viewer.")
@json_option
def view(name: str, *, only_print: bool, as_json: bool) -> None:
    """Show the display of an instance.

    Starts remote-viewer, or vncviewer for a Unix socket, if there is one and a graphical session. Otherwise it prints how to
    reach the display. For text, use 'hv console'.
    """
    node = open_node()
    with known(node, name):
        found = node.consoles(name)
    displays = [one for one in found if one.kind in _DISPLAYS]
    if as_json:
        show([one.to_json() for one in displays], "", as_json=True)
        return
    if not displays:
        todo = f"set vnc_bind_address, then stop and start it; 'hv screenshot {name}' may show a picture, 'hv console {name}' text"
        raise hvcore.OperationError(f"{name}: has neither a VNC nor a SPICE display; {todo}")
    one = displays[0]
    viewer = None if only_print else _viewer(one)
    if viewer is None:
        for line in _how(one):
            say(line)
        return
    remark(f"starting {viewer[0]} for {name}")
    pass_stdout_on()
    try:
        os.execvp(viewer[0], viewer)  # noqa: S606 - without a shell on purpose
    except OSError as error:
        raise hvcore.OperationError(f"{name}: {viewer[0]!r} cannot be run, got {error.strerror}; install it") from error


def _viewer(one: hvcore.ConsoleAddress) -> list[str] | None:
    """The command of a viewer that is installed here, on the desktop of this user; None without one."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    command = ["remote-viewer", "--", one.uri] if one.uri is not None else ["vncviewer", str(one.socket)]
    return command if shutil.which(command[0]) is not None else None


def _how(one: hvcore.ConsoleAddress) -> list[str]:
    needs = " and ".join(filter(None, ["TLS" if one.tls else "", "a password" if one.password else ""]))
    more = [f"{one.kind} needs {needs}"] if needs else []
    if one.uri is not None:
        return [one.uri, *more]
    return [
        f"{one.kind} on the Unix socket {one.socket}",
        *more,
        f"from another machine: ssh -L 5901:{one.socket} {os.uname().nodename}, then a viewer at vnc://localhost:5901",
    ]


@command("hv screenshot web1 web1.png", "hv screenshot web1 - > web1.png")
@name_argument
@click.argument("file")
def screenshot(name: str, file: str) -> None:
    """Save a picture of an instance's display as a PNG file.

    Works without VNC and SPICE too, if the guest has a graphics card (parameter vga). FILE - is standard output.
    """
    if file == "-" and is_terminal(results()):
        raise click.UsageError(
            "a picture is not text; give a FILE, or redirect the output", click.get_current_context()
        )
    with working(f"taking a picture of {name}") as node, known(node, name):
        picture = node.screenshot(name)
    if file == "-":
        stdout = results()
        if stdout is not None:
            stdout.buffer.write(picture)
            stdout.flush()
        return
    try:
        write_whole(Path(file), picture)
    except OSError as error:
        raise hvcore.NodeError(f"{file!r}: cannot be written, got {error.strerror}; choose another file") from error
    remark(f"{name}: {len(picture)} bytes in {file}")


@command(
    "hv vnc-password web1",
    "hv vnc-password web1 --expire 1h < /root/password",
    name="vnc-password",
)
@name_argument
@seconds_option("--expire", "valid_s", "Let no new client in after S seconds.")
@json_option
def vnc_password(name: str, *, valid_s: float | None, as_json: bool) -> None:
    """Set the VNC password of a running instance.

    Asks for it on a terminal, otherwise takes the first line of standard input. Open connections go on. The password is
    not saved: a start and a reboot take the one in vnc_password_file again, which the instance needs for this command.
    """
    password = _password(name)
    done = operated(
        name,
        f"setting the VNC password of {name}",
        lambda node: node.vnc_password(name, password, valid_s=valid_s),
        lambda _: f"VNC password set{'' if valid_s is None else f', valid for {valid_s:g} s'}",
    )
    show_result(done, as_json=as_json)


def _password(name: str) -> str:
    if is_terminal(sys.stdin):
        try:
            return getpass.getpass(f"VNC password of {name}: ")
        except EOFError:
            raise click.Abort from None
    if sys.stdin is None:
        raise hvcore.InputError("stdin: is closed; pipe the password to it")
    line: bytes = sys.stdin.buffer.readline(_MOST_BYTES)
    return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
