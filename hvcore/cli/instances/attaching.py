"""``hv attach``, ``detach``, ``insert``, ``eject``, ``resize`` and ``apply``."""

from __future__ import annotations

import os
from typing import Any, Final

import click

import hvcore
from hvcore.cli.exit_status import reported
from hvcore.cli.options import bytes_in, command, deadline_option, json_option, name_argument
from hvcore.cli.output import emit_json, remark, say
from hvcore.cli.session import known, open_node, read_instance, report_states, working
from hvcore.cli.several import operated, show_result

__all__ = ["apply", "attach", "detach", "device_names", "eject", "insert", "resize", "save_option"]

_OF_DISK: Final = (
    "path",
    "format",
    "read_only",
    "base",
    "base_format",
    "temporary",
    "cache",
    "aio",
    "discard",
    "boot_index",
)
_OF_NIC: Final = ("mode", "link", "mac", "ip", "vlan", "mtu", "forward", "egress", "boot_index")
_OF_BIND: Final = ("path", "at", "writable")
_TYPE_OF: Final = {"disk": "disk_type", "nic": "nic_type"}
_ANSWER: Final = "Seconds to wait for the guest and for QEMU."


def _size_bytes(ctx: click.Context, param: click.Parameter, value: str) -> int:
    size = bytes_in(value)
    if size is None:
        what = f"must be a size such as 20G, 512M or a number of bytes, got {value!r:.80}"
        raise click.BadParameter(what, ctx=ctx, param=param)
    return size


def device_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The names of the instance's devices that begin so, for a shell."""
    name = ctx.params.get("name")
    try:
        return [one for one in open_node(ctx).info(name).devices if one.startswith(incomplete)] if name else []
    except (hvcore.HvError, OSError):
        return []


save_option: Final = click.option("--save", is_flag=True, help="Change the definition of the instance too.")
"""For commands whose change can be kept in the definition."""


@command(
    "hv attach web1 disk --path /srv/data.img",
    "hv attach web1 disk --path /dev/vg0/data --type scsi-hd --cache none",
    "hv attach web1 disk --path /srv/web1-data.qcow2 --format qcow2 --base /srv/images/data.qcow2",
    "hv attach web1 nic --mode bridged --link br0",
    "hv attach web1 usb --device tablet",
    "hv attach web2 bind --path /srv/www --at /var/www",
)
@name_argument
@click.argument("kind", type=click.Choice(["disk", "nic", "usb", "bind"]))
@click.option(
    "--path",
    metavar="FILE",
    help="Disk: the image file or block device, or a URI that the driver understands. Bind: the file or directory of this node.",
)
@click.option("--at", metavar="PATH", help="Bind: where the chroot sees it.")
@click.option(
    "--writable", is_flag=True, default=None, help="Bind: the chroot can write to it. Default: it can only read."
)
@click.option("--format", metavar="FORMAT", help="Disk: raw or qcow2. Default: raw.")
@click.option("--read-only", is_flag=True, default=None, help="Disk: the guest can only read it.")
@click.option(
    "--base",
    metavar="FILE",
    multiple=True,
    help="Disk: the image that it begins as. Can be given several times, the next first.",
)
@click.option("--base-format", metavar="FORMAT", help="Disk: the format of the last base. Default: qcow2.")
@click.option("--temporary", is_flag=True, default=None, help="Disk: what the guest writes is lost when it stops.")
@click.option("--cache", metavar="CACHE", help="Disk: like disk_cache in an instance file.")
@click.option("--aio", metavar="AIO", help="Disk: like disk_aio in an instance file.")
@click.option("--discard", metavar="DISCARD", help="Disk: like disk_discard in an instance file.")
@click.option("--mode", metavar="MODE", help="NIC: user, bridged, routed, openvswitch, macvtap or ext. Default: user.")
@click.option("--link", metavar="LINK", help="NIC: the bridge, table or interface that it is connected to.")
@click.option("--mac", metavar="MAC", help="NIC: its MAC address. Default: one that no NIC of the instance has.")
@click.option(
    "--ip", metavar="ADDRESS", multiple=True, help="NIC: an address of the guest. Can be given several times."
)
@click.option("--vlan", metavar="VLAN", help="NIC: the VLAN of its port.")
@click.option("--mtu", metavar="BYTES", type=int, help="NIC: its MTU.")
@click.option(
    "--forward", metavar="FORWARD", multiple=True, help="NIC: a forwarded port such as 2222:22, in mode user."
)
@click.option("--egress", metavar="EGRESS", help="NIC: all, internet or none, in mode user.")
@click.option("--device", "item", metavar="DEVICE", help="USB: one device of usb_devices, such as keyboard.")
@click.option("--boot-index", metavar="N", type=int, help="Its position in the boot order, from 1.")
@click.option(
    "--type", "model", metavar="TYPE", help="Its kind or model, as disk_type or nic_type in an instance file."
)
@save_option
@deadline_option(30.0, _ANSWER)
@json_option
def attach(
    name: str, kind: str, *, model: str | None, save: bool, deadline_s: float, as_json: bool, **given: Any
) -> None:
    """Attach a disk, a network interface or a USB device to a guest that runs, or a bind to a chroot.

    Prints the name of the new device, for 'hv detach'. A reboot keeps the device. A stop and a start give the instance what
    its file or definition describes, unless --save changes the definition too. Does nothing if the instance has that disk
    or bind already.
    """
    device = _device(kind, {key: value for key, value in given.items() if value not in (None, ())})
    if model is not None and kind not in _TYPE_OF:
        raise click.UsageError(f"--type is no option of a {kind}; see 'hv attach --help'", click.get_current_context())
    params = {} if model is None else {_TYPE_OF[kind]: model}

    def text(outcome: hvcore.Outcome) -> str:
        done = f"{outcome.device} attached ({outcome.seconds:.2f} s)"
        return done if outcome.changed else f"already has it as {outcome.device}"

    def act(node: hvcore.Node) -> hvcore.Outcome:
        return node.attach(name, device, params=params, save=save, deadline_s=deadline_s)

    show_result(operated(name, f"attaching a {kind} to {name}", act, text), as_json=as_json)


def _device(kind: str, given: dict[str, Any]) -> hvcore.Disk | hvcore.Nic | hvcore.ListedDevice:
    keys = {"disk": _OF_DISK, "nic": _OF_NIC, "usb": ("item",), "bind": _OF_BIND}[kind]
    other = next((key for key in given if key not in keys), None)
    context = click.get_current_context()
    if other is not None:
        option = "device" if other == "item" else other.replace("_", "-")
        raise click.UsageError(f"--{option} is no option of a {kind}; see 'hv attach --help'", context)
    if kind == "nic":
        return hvcore.Nic(**given)
    if kind == "usb" and "item" not in given:
        raise click.UsageError("a USB device needs --device; 'hv params kvm' lists what usb_devices can have", context)
    if kind == "usb":
        return hvcore.ListedDevice(param="usb_devices", item=given["item"])
    if kind == "bind":
        return _bind(given)
    if "path" not in given:
        raise click.UsageError("a disk needs --path; give the image file or block device", context)
    bases = tuple(_absolute(base) for base in given.get("base", ()))
    return hvcore.Disk(**{**given, "path": _absolute(given["path"]), "base": bases})


def _bind(given: dict[str, Any]) -> hvcore.ListedDevice:
    if not {"path", "at"} <= given.keys():
        raise click.UsageError("a bind needs --path and --at; give two paths", click.get_current_context())
    source = os.path.abspath(os.path.expanduser(given["path"]))
    item = f"{source}:{given['at']}{':rw' if given.get('writable') else ''}"
    return hvcore.ListedDevice(param="binds", item=item)


def _absolute(path: str) -> str:
    """The path from the current directory; a URI stays as it is."""
    return path if ":" in path.partition("/")[0] else os.path.abspath(os.path.expanduser(path))


@command("hv detach web1 disk1", "hv detach web1 nic1 --deadline 60")
@name_argument
@click.argument("device", shell_complete=device_names)
@save_option
@deadline_option(30.0, _ANSWER)
@json_option
def detach(name: str, device: str, *, save: bool, deadline_s: float, as_json: bool) -> None:
    """Take a device from an instance that runs. 'hv info' shows the names of its devices.

    Waits until the guest has let the device go, then frees what it held: another instance can use the disk at once. If the
    guest does not let it go in time, it keeps the device; another 'hv detach' continues.
    """
    done = operated(
        name,
        f"detaching {device} from {name}",
        lambda node: node.detach(name, device, save=save, deadline_s=deadline_s),
        lambda outcome: f"{outcome.device} detached ({outcome.seconds:.2f} s)",
    )
    show_result(done, as_json=as_json)


@command("hv insert web1 cdrom1 /srv/iso/drivers.iso")
@name_argument
@click.argument("device", shell_complete=device_names)
@click.argument("image", metavar="FILE", type=click.Path())
@save_option
@deadline_option(30.0, _ANSWER)
@json_option
def insert(name: str, device: str, image: str, *, save: bool, deadline_s: float, as_json: bool) -> None:
    """Put an image into a CD-ROM or floppy drive of an instance that runs.

    It replaces the image in the drive. Refused while the guest keeps the drive locked, because it uses the medium.
    """
    done = operated(
        name,
        f"changing {device} of {name}",
        lambda node: node.insert(name, device, _absolute(image), save=save, deadline_s=deadline_s),
        lambda outcome: f"{device} has it{'' if outcome.changed else ' already'}",
    )
    show_result(done, as_json=as_json)


@command("hv eject web1 cdrom1")
@name_argument
@click.argument("device", shell_complete=device_names)
@save_option
@deadline_option(30.0, _ANSWER)
@json_option
def eject(name: str, device: str, *, save: bool, deadline_s: float, as_json: bool) -> None:
    """Empty a CD-ROM or floppy drive of an instance that runs.

    Refused while the guest keeps the drive locked, because it uses the medium. With --save, the next start gives the
    instance no image, and so no drive.
    """
    done = operated(
        name,
        f"emptying {device} of {name}",
        lambda node: node.eject(name, device, save=save, deadline_s=deadline_s),
        lambda outcome: f"{device} is empty{'' if outcome.changed else ' already'}",
    )
    show_result(done, as_json=as_json)


@command("hv resize web1 disk0 20G", "hv resize web1 disk0 20480M --json")
@name_argument
@click.argument("device", shell_complete=device_names)
@click.argument("size", callback=_size_bytes)
@click.option("--shrink", is_flag=True, help="Allow a smaller size. What is at the end of the disk is lost.")
@deadline_option(30.0, _ANSWER)
@json_option
def resize(name: str, device: str, *, size: int, shrink: bool, deadline_s: float, as_json: bool) -> None:
    """Change the size of a disk of an instance that runs: of its image too.

    SIZE is a number of bytes, or a number with K, M, G or T (1024 of the one before). The guest sees the new size at once;
    its partitions and file systems are not changed. A block device has to be grown on the node first.
    """
    done = operated(
        name,
        f"resizing {device} of {name}",
        lambda node: node.resize_disk(name, device, size, shrink=shrink, deadline_s=deadline_s),
        lambda outcome: f"{device} has {size} bytes{'' if outcome.changed else ' already'}",
    )
    show_result(done, as_json=as_json)


@command("hv apply web1", "hv apply web1 new.toml")
@name_argument
@click.argument("file", required=False)
@deadline_option(30.0, "Seconds for each change.")
@json_option
def apply(name: str, file: str | None, *, deadline_s: float, as_json: bool) -> None:
    """Make those changes of the definition happen that a running instance can have.

    These are the changes that 'hv changes' shows with effect now. Devices are detached, changed and attached; then media,
    memory and processors change. Without FILE, the definition counts, or else the file that the instance was started from.
    A change that fails does not stop the others, and the exit code says so; 'hv apply' again continues.
    """
    with report_states(name), working(f"changing {name}") as node, known(node, name):
        defined = None if file is None else read_instance(node, file)
        done = node.apply(name, defined, deadline_s=deadline_s)
        left = node.changes(name, defined)
    for one in done:
        _show_applied(one, as_json=as_json)
    if as_json:
        emit_json([one.to_json() for one in done])
    if not done:
        remark(f"{name}: no change can be made while it runs")
    left = tuple(one for one in left if one.effect is not hvcore.Effect.NOW)
    if left:
        words = "1 change waits" if len(left) == 1 else f"{len(left)} changes wait"
        remark(f"{name}: {words} for a reboot or a start; see 'hv changes {name}'")
    failed = next((one for one in done if not one.done), None)
    if failed is not None:
        error = failed.error
        click.get_current_context().exit(1 if error is None else int(error.to_json()["exit_code"]))


def _show_applied(applied: hvcore.Applied, *, as_json: bool) -> None:
    """The result of one change: an error and notes on stderr."""
    if applied.error is not None:
        reported(applied.error)
    if applied.outcome is None:
        return
    if not as_json:
        about = f"{applied.op} of {applied.device}" if applied.device else f"{applied.op}"
        say(f"{applied.name}: {about} done" if applied.done else str(applied.outcome))
    for note in applied.outcome.notes:
        remark(f"{applied.name}: {note}")
