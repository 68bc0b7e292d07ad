"""``hv watch`` and ``hv act``: the events of instances, and what follows an end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

import hvcore
from hvcore.cli.exit_status import Signalled
from hvcore.cli.options import command, json_option, optional_names_argument, seconds_in
from hvcore.cli.output import emit_json, on_one_line, remark, say
from hvcore.cli.session import open_node, warn_of_run_dir, working
from hvcore.cli.whole_file import write_whole

__all__ = ["act", "watch"]

_ACT_AGAIN_S: Final = 30.0  # for an instance whose last restart was too short ago


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds since 1970, from a date and time, or from a time before now such as ``10m``."""
    if value is None:
        return None
    ago = seconds_in(value)
    if ago is not None:
        return datetime.now(UTC).timestamp() - ago
    with suppress(ValueError, OverflowError, OSError):
        found = datetime.fromisoformat(value).timestamp()  # without an offset, in the time of this node
        if found >= 0:
            return found
    what = f"must be a time such as 10m, 2h or 2026-11-30T10:00:00, got {value!r:.80}"
    raise click.BadParameter(what, ctx=ctx, param=param)


@command(
    "hv watch",
    "hv watch web1 web2 --since 1h",
    "hv watch --json | jq -r 'select(.event == \"stopped\") | .name'",
    "hv watch --json --bookmark /var/lib/audit/bookmark >> /var/log/instances.json",
)
@optional_names_argument
@click.option(
    "--since",
    metavar="TIME",
    callback=_time,
    help="First print events from this time on: 10m (ago), or a date and time. Default: only new events.",
)
@click.option(
    "--bookmark",
    "bookmark_file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Continue after the last event of an earlier watch with this FILE, which is made and kept up to date.",
)
@click.option("--act", "acts", is_flag=True, help="Also do what the files of ended instances ask for, as 'hv act'.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def watch(names: tuple[str, ...], *, since: float | None, bookmark_file: str | None, acts: bool, as_json: bool) -> None:
    """Print what happens to instances, an event on each line, until ^C.

    Starts, ends with their reason, pauses, devices that come and go, disk errors, panics, and all other events of a guest's
    QEMU. Without NAME, of all instances. Needs no daemon: earlier events are in the files of each
    instance until it is stopped. An instance that was stopped meanwhile only has its end.
    """
    if since is not None and bookmark_file is not None:
        raise click.UsageError(
            "--since cannot be used with --bookmark; leave one of them out", click.get_current_context()
        )
    node = open_node()
    warn_of_run_dir(node)
    place = _read_bookmark(bookmark_file) if bookmark_file is not None else since
    with suppress(KeyboardInterrupt, Signalled), node.watch(names or None, since=place) as watching:
        try:
            _print_all(node, names or None, watching, bookmark_file, acts=acts, as_json=as_json)
        finally:
            _write_bookmark(watching, bookmark_file)


def _print_all(
    node: hvcore.Node,
    names: Sequence[str] | None,
    watching: hvcore.Watch,
    bookmark_file: str | None,
    *,
    acts: bool,
    as_json: bool,
) -> None:
    while True:
        event = watching.take(0.0)
        if event is None:
            _write_bookmark(watching, bookmark_file)  # when there is time for it
            if acts:
                for one in node.act(names):
                    remark(_acted(one))
            event = watching.take(_ACT_AGAIN_S if acts else None)
        if event is not None:
            say(json.dumps(event.to_json()) if as_json else _line(event))


def _acted(one: hvcore.Acted) -> str:
    return f"{one.name}: {one.what}, {one.detail}"


@command("hv act", "hv act web1 web2")
@optional_names_argument
@json_option
def act(names: tuple[str, ...], *, as_json: bool) -> None:
    """Do what the files of ended instances ask for: on_crash and on_shutdown.

    For a timer; 'hv watch --act' does the same as soon as an instance ends. At most 3 restarts of an instance within 10
    minutes. An instance that ended with the node is left to 'hv start --autostart'. Exits with 1 if something failed.
    """
    with working("looking for ended instances") as node:
        warn_of_run_dir(node)
        found = node.act(names or None)
    if as_json:
        emit_json([one.to_json() for one in found])
    elif found:
        say("\n".join(map(_acted, found)))
    if any(one.what == "failed" for one in found):
        click.get_current_context().exit(1)


def _line(event: hvcore.Event) -> str:
    when = datetime.fromtimestamp(event.at).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S}  {event.name:<15} {event.event:<14} {on_one_line(event.details)}".rstrip()


def _read_bookmark(path: str) -> Any:
    """The bookmark in the file; None without the file. Raises `InputError`."""
    try:
        return hvcore.Bookmark.from_json(json.loads(Path(path).read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, hvcore.InputError) as error:
        what = f"--bookmark: {path!r} is not a bookmark: {error}"
        raise hvcore.InputError(f"{what}; give another file, or remove it to watch from now on") from error


def _write_bookmark(watching: hvcore.Watch, path: str | None) -> None:
    """Replace the file, so that a crash leaves the old or the new bookmark."""
    if path is None:
        return
    try:
        write_whole(Path(path), json.dumps(watching.bookmark.to_json()).encode())
    except OSError as error:
        remark(f"hv: --bookmark: {path!r} cannot be written, got {error.strerror}; events may be printed again")
