"""``hv install-units``: the units of systemd that start instances at the node's boot and stop them when it shuts down."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import click

import hvcore
from hvcore.cli.options import command, json_option
from hvcore.cli.output import emit_json, remark, say
from hvcore.cli.whole_file import write_whole

__all__ = ["install_units", "units"]

_STOP_S: Final = 90

# Two units, so that a guest that does not start cannot keep the others from being stopped: a unit whose start has failed
# is not stopped by systemd.
_NODE: Final = """\
# Installed by 'hv install-units'. Change it by a drop-in: systemctl edit hvcore.service
[Unit]
Description=Instances of hvcore: recovery at boot, stop at shutdown
Documentation=man:hv(1)
# What starts before is stopped after: guests use the network and the disks until they have shut down.
After=local-fs.target remote-fs.target network.target network-online.target openvswitch-switch.service dbus.service
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-@HV@ recover
ExecStop=@HV@ stop --all --deadline @STOP_S@
TimeoutStopSec=@TIMEOUT_S@
# Guests belong to no unit: neither a restart nor an upgrade of hvcore ends them.
KillMode=process

[Install]
WantedBy=multi-user.target
"""
_AUTOSTART: Final = """\
# Installed by 'hv install-units'. Change it by a drop-in: systemctl edit hvcore-autostart.service
[Unit]
Description=Instances of hvcore with autostart = true
Documentation=man:hv(1)
Requires=hvcore.service
After=hvcore.service

[Service]
Type=oneshot
ExecStart=@HV@ start --autostart
TimeoutStartSec=infinity
KillMode=process

[Install]
WantedBy=multi-user.target
"""


_ACT: Final = """\
# Installed by 'hv install-units'. Change it by a drop-in: systemctl edit hvcore-act.service
[Unit]
Description=Instances of hvcore that have ended: actions of on_crash and on_shutdown
Documentation=man:hv(1)
After=hvcore.service hvcore-autostart.service

[Service]
Type=oneshot
ExecStart=@HV@ act
TimeoutStartSec=infinity
KillMode=process
"""
_ACT_TIMER: Final = """\
# Installed by 'hv install-units'. Change it by a drop-in: systemctl edit hvcore-act.timer
[Unit]
Description=Look for instances of hvcore that have ended
Documentation=man:hv(1)

[Timer]
OnActiveSec=10s
OnUnitInactiveSec=10s
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def units(hv: str) -> dict[str, str]:
    """The text of each unit by its name, for the command at that path."""
    values = {"@HV@": hv, "@STOP_S@": str(_STOP_S), "@TIMEOUT_S@": str(_STOP_S + 60)}
    found = {"hvcore.service": _NODE, "hvcore-autostart.service": _AUTOSTART}
    found |= {"hvcore-act.service": _ACT, "hvcore-act.timer": _ACT_TIMER}
    for key, value in values.items():
        found = {name: text.replace(key, value) for name, text in found.items()}
    return found


@command(
    "hv install-units --dry-run",
    "hv install-units && systemctl enable --now hvcore hvcore-autostart hvcore-act.timer",
    name="install-units",
)
@click.option("--root", metavar="DIR", default="/", help="Install below DIR, such as the root of an image. Default: /.")
@click.option(
    "--directory",
    metavar="DIR",
    default="/etc/systemd/system",
    help="The directory of the units, below --root. Default: /etc/systemd/system.",
)
@click.option("--hv", "program", metavar="PATH", help="The command that the units run. Default: this one.")
@click.option("--dry-run", is_flag=True, help="Print the units, and install nothing.")
@json_option
def install_units(*, root: str, directory: str, program: str | None, dry_run: bool, as_json: bool) -> None:
    """Install units of systemd for the node's boot and shutdown.

    hvcore.service finishes interrupted operations at boot, and stops all instances when the node shuts down.
    hvcore-autostart.service starts every defined instance that has autostart = true. hvcore-act.timer runs 'hv act' every ten
    seconds, for on_crash and on_shutdown. The Debian package has these units. Enabling them is up to you; the message says how.
    """
    found = units(_checked(program or _this_program()))
    place = Path(f"{root.rstrip('/')}/{directory.lstrip('/')}")
    if not dry_run:
        _write(place, found)
    if as_json:
        emit_json({"directory": str(place), "units": found, "installed": not dry_run})
    elif dry_run:
        say("\n".join(f"# {place / name}\n{text}" for name, text in found.items()).rstrip())
    else:
        say("\n".join(str(place / name) for name in found))
        if root == "/":
            enabled = " ".join(name for name, text in found.items() if "[Install]" in text)
            remark(f"now run: systemctl daemon-reload && systemctl enable --now {enabled}")


def _this_program() -> str:
    found = shutil.which(sys.argv[0]) or shutil.which("hv")
    return "/usr/bin/hv" if found is None else os.path.abspath(found)


def _checked(program: str) -> str:
    """The path, if a unit can have it. systemd splits the line at blanks, and replaces what ``%`` and ``$`` begin."""
    if not program.startswith("/") or any(not char.isprintable() or char in " \"'\\%$;" for char in program):
        what = f"--hv: must be an absolute path without blanks and special characters, got {program!r}"
        raise hvcore.InputError(f"{what}; give the path of hv")
    return program


def _write(place: Path, found: dict[str, str]) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            write_whole(place / name, text.encode(), mode=0o644)
    except OSError as error:
        what = f"units of systemd: cannot be written to {str(place)!r}, got {error.strerror}"
        raise hvcore.NodeError(f"{what}; use --root or --directory, or become root") from error
