"""``hv modify``: settings of a device of a running instance."""

from __future__ import annotations

from typing import Final

import click

import hvcore
from hvcore.cli.instances.attaching import device_names, save_option
from hvcore.cli.options import command, deadline_option, json_option, name_argument
from hvcore.cli.session import open_node
from hvcore.cli.several import operated, show_result

__all__ = ["modify"]

_ANSWER: Final = "Seconds to wait for QEMU and for programs of the node."


def _keys(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The keys of the device, each with its ``=``; a shell completes no value."""
    name, device = ctx.params.get("name"), ctx.params.get("device")
    try:
        found = open_node(ctx).modifiable(name, device) if name and device else ()
    except (hvcore.HvError, OSError):
        return []
    return [f"{key}=" for key in found if f"{key}=".startswith(incomplete)]


def _values(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            what = f"must be KEY=VALUE, such as bandwidth_to_guest=80M, got {text!r:.80}"
            raise click.BadParameter(what, ctx=ctx, param=param)
        if key in values:
            raise click.BadParameter(f"has {key} twice; give each key once", ctx=ctx, param=param)
        values[key] = value
    return values


@command(
    "hv modify web1 nic0 connected=false",
    "hv modify web1 nic0 bandwidth_to_guest=80M bandwidth_from_guest=20M",
    "hv modify web1 nic0 link=br1 vlan=20 --save",
    "hv modify web1 nic0 bandwidth_to_guest=",
)
@name_argument
@click.argument("device", shell_complete=device_names)
@click.argument("values", metavar="KEY=VALUE...", nargs=-1, required=True, callback=_values, shell_complete=_keys)
@save_option
@deadline_option(30.0, _ANSWER)
@json_option
def modify(name: str, device: str, values: dict[str, str], *, save: bool, deadline_s: float, as_json: bool) -> None:
    """Change settings of a device of an instance that runs. 'hv info' shows the names of its devices.

    KEY is a key of the device in an instance file. Without a VALUE, the key gets its default. If the change fails, the
    device is as before. A key that cannot change while the instance runs is refused. A reboot keeps the change. A stop and
    a start give the instance what its file or definition describes, unless --save changes the definition too.
    """
    done = operated(
        name,
        f"changing {device} of {name}",
        lambda node: node.modify(name, device, values, save=save, deadline_s=deadline_s),
        lambda outcome: f"{device} {'changed' if outcome.changed else 'is so already'}",
    )
    show_result(done, as_json=as_json)
