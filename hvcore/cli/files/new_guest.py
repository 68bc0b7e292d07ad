"""``hv new``: a definition for a guest that begins as a cloud image, with a user and ssh keys."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

import hvcore
from hvcore.cli.options import command, in_mib, json_option, name_argument
from hvcore.cli.output import remark
from hvcore.cli.session import open_node
from hvcore.cli.several import Result, result_of, show_result

__all__ = ["ImageGuest", "guest_from_image", "new"]

_QCOW2: Final = b"QFI\xfb"
_SSH_PORT: Final = 22
_WAY_IN: Final = f"127.0.0.1:0:{_SSH_PORT}"
"""The forwarded port of a guest that is given none for ssh: hvcore chooses a free one at each start."""
_KEYS: Final = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")


@command(
    "hv new web1 --image debian-12-genericcloud-amd64.qcow2 && hv start web1 --wait 5m && hv ssh web1",
    "hv new web1 --image debian.qcow2 --memory 4G --cpus 4 --disk 20G --forward 8080:80",
    "hv new try1 --image debian.qcow2 --temporary",
)
@name_argument
@click.option("--image", metavar="FILE", required=True, help="The image that the guest's disk begins as: qcow2 or raw.")
@click.option(
    "--memory",
    "memory_mib",
    metavar="SIZE",
    callback=in_mib("2048 (MiB) or 20G"),
    default="2048",
    help="Memory, in MiB or as 2G. Default: 2048.",
)
@click.option("--cpus", metavar="N", type=click.IntRange(min=1), default=2, help="Virtual CPUs. Default: 2.")
@click.option(
    "--disk",
    "disk_mib",
    metavar="SIZE",
    callback=in_mib("2048 (MiB) or 20G"),
    help="Size of the disk. Default: that of the image.",
)
@click.option(
    "--disk-file",
    metavar="FILE",
    help="The file with what the guest writes. Default: NAME.qcow2 in /var/lib/hvcore/disks, of users other than root in "
    "~/.local/share/hvcore/disks.",
)
@click.option("--temporary", is_flag=True, help="Everything that the guest writes is lost when it stops.")
@click.option("--user", metavar="NAME", help="The user that cloud-init makes. Default: your user name.")
@click.option(
    "--ssh-key",
    "key_files",
    metavar="FILE",
    multiple=True,
    help="A file with public ssh keys of that user. Can be given several times. Default: your key in ~/.ssh.",
)
@click.option(
    "--no-seed", is_flag=True, help="Give the guest no seed: its image has no cloud-init, or has a user already."
)
@click.option(
    "--forward",
    "forwards",
    metavar="PORT:PORT",
    multiple=True,
    help="A port of the node and one of the guest, such as 8080:80. Can be given several times. A port for ssh is always there.",
)
@click.option(
    "--network",
    metavar="MODE[:LINK]",
    default="user",
    help="The mode of the guest's network interface, and its link: user, bridged:br0, or none. Default: user.",
)
@click.option("--profile", metavar="NAME", help="The profile of this node that the guest uses.")
@json_option
def new(name: str, *, no_seed: bool, user: str | None, key_files: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Define a guest that begins as a disk image.

    Writes a definition, and shows its file: edit it for everything else. The image is only read, so guests share it. A seed
    for cloud-init gives the guest a user with your ssh key. 'hv start NAME' starts the guest, 'hv ssh NAME' logs in.
    """
    seed: dict[str, Any] = {}
    if not no_seed:
        keys = _ssh_keys(key_files)
        seed = {"seed": "nocloud", "seed_user": user or getpass.getuser(), "seed_ssh_keys": list(keys)}
    show_result(_new(name, seed=seed, **given), as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGuest:
    """What a guest gets: ``image`` is its disk or under it, ``disk_file`` what the guest writes to, None for a temporary disk."""

    name: str
    image: str
    image_format: str
    disk_file: str | None
    seed: Mapping[str, Any]
    memory_mib: int
    cpus: int
    disk_mib: int | None
    forwards: tuple[str, ...]
    network: str
    profile: str | None


def _new(name: str, *, image: str, disk_file: str | None, temporary: bool, **given: Any) -> Result:
    node = open_node()
    path = _absolute(image)
    kind = _format_of(path)
    own = None if temporary else _absolute(disk_file) if disk_file is not None else str(_disks() / f"{name}.qcow2")
    if own is not None and os.path.lexists(own):
        what = f"{name}: {own!r} exists already, and the guest would begin with what is in it"
        raise hvcore.InputError(f"{what}; remove it, or name another with --disk-file")
    wanted = ImageGuest(name=name, image=path, image_format=kind, disk_file=own, **given)
    outcome = node.definitions.define(guest_from_image(wanted))
    if own is not None:
        os.makedirs(os.path.dirname(own), mode=0o700, exist_ok=True)
    remark(f"{name}: 'hv start {name} --wait 5m' starts it, 'hv ssh {name}' logs in")
    return result_of(outcome, f"{name}: defined in {outcome.file}")


def guest_from_image(wanted: ImageGuest) -> dict[str, Any]:
    """The contents of the instance file. Pure."""
    return {
        "name": wanted.name,
        "driver": "kvm",
        "memory_mib": wanted.memory_mib,
        "vcpus": wanted.cpus,
        **({"profile": wanted.profile} if wanted.profile else {}),
        "disks": [_disk(wanted)],
        "nics": _nics(wanted),
        "params": {"use_guest_agent": True, **wanted.seed},
    }


def _disk(wanted: ImageGuest) -> dict[str, Any]:
    disk: dict[str, Any] = {"path": wanted.image, "format": wanted.image_format, "temporary": True}
    if wanted.disk_file is not None:
        disk = {"path": wanted.disk_file, "format": "qcow2", "base": wanted.image, "base_format": wanted.image_format}
    return disk | ({} if wanted.disk_mib is None else {"size": f"{wanted.disk_mib}M"})


def _nics(wanted: ImageGuest) -> list[dict[str, Any]]:
    mode, _, link = wanted.network.partition(":")
    if mode == "none":
        return []
    forwards = list(wanted.forwards)
    if mode == "user" and not any(one.removesuffix("/tcp").endswith(f":{_SSH_PORT}") for one in forwards):
        forwards.append(_WAY_IN)
    nic = {"mode": mode, "link": link, "forward": forwards}
    return [{key: value for key, value in nic.items() if value}]


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _format_of(image: str) -> str:
    """The format of an image that an operator names; a definition then has it, and nothing guesses it again."""
    try:
        with open(image, "rb") as file:
            return "qcow2" if file.read(len(_QCOW2)) == _QCOW2 else "raw"
    except OSError as error:
        what = f"--image {image!r}: cannot be read, got {error.strerror}"
        raise hvcore.InputError(f"{what}; give the file of a disk image") from error


def _disks() -> Path:
    """The directory for disks of this user."""
    if os.geteuid() == 0:
        return Path("/var/lib/hvcore/disks")
    own = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(own) / "hvcore" / "disks"


def _ssh_keys(files: tuple[str, ...]) -> tuple[str, ...]:
    """The public keys in these files, or in the first of the user's own. Raises `InputError` if no file has one."""
    here = Path("~/.ssh").expanduser()
    found = [Path(file).expanduser() for file in files] or [here / name for name in _KEYS if (here / name).exists()][:1]
    if not found:
        what = f"no public ssh key in {str(here)!r}, and the guest could not be logged in to"
        raise hvcore.InputError(f"{what}; make one with ssh-keygen, or give --ssh-key FILE or --no-seed")
    lines: list[str] = []
    for file in found:
        try:
            lines += [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise hvcore.InputError(f"--ssh-key {str(file)!r}: cannot be read, got {why}; give a public key") from error
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
