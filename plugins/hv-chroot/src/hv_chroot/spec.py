"""The spec: everything that the processes of an instance can see, decided once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import hvcore

__all__ = ["CAPABILITIES", "ENVIRONMENT", "ChrootSpec", "decide"]

# What daemons need to change users, own their files and listen on low ports, and nothing that reaches the node.
CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

ENVIRONMENT: Final = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    # What systemd's container interface calls it; init scripts look there for what they must not try.
    ("container", "hvcore"),
)

_MAX_HOSTNAME: Final = 64  # linux/utsname.h, __NEW_UTS_LEN


@dataclass(frozen=True, slots=True, kw_only=True)
class ChrootSpec:
    """One instance: its disk, the script that starts and stops it, and what it shares with the node.

    ``disk`` is the path of an image file or a block device; ``script_deadline_s`` is for one run of the script.
    """

    name: str
    disk: str
    read_only: bool
    init_script: str
    script_deadline_s: float
    hostname: str
    share_network: bool
    capabilities: tuple[str, ...] = CAPABILITIES
    environment: tuple[tuple[str, str], ...] = ENVIRONMENT


def decide(instance: hvcore.Instance, params: hvcore.Params) -> ChrootSpec:
    """The spec of a checked instance with its complete parameters."""
    disk = instance.disks[0]
    return ChrootSpec(
        name=instance.name,
        disk=disk.path,
        read_only=disk.read_only,
        init_script=params["init_script"],
        script_deadline_s=params["script_deadline"],
        hostname=params["hostname"] or _hostname(instance.name),
        share_network=params["network"] == "host",
    )


def _hostname(name: str) -> str:
    # Each label has at most 63 characters, the whole name up to 200.
    return name if len(name) <= _MAX_HOSTNAME else name.partition(".")[0]
