"""The spec: everything that the processes of an instance can see. Pure."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv
from hv_chroot.families.isolation import has_users
from hv_chroot.families.network import Interface, interfaces_of
from hv_chroot.families.root import DEFAULT_OVERLAY_MIB, Bind
from hvcore.plugin import dataclass

__all__ = ["ENVIRONMENT", "ChrootSpec", "decide", "limits_of", "spec_of", "uids_of"]

ENVIRONMENT: Final = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    # The variable of systemd's container interface, by which init scripts know what they must not try.
    ("container", "hvcore"),
)

_MIB: Final = 1024 * 1024
_MAX_HOSTNAME: Final = 64  # linux/utsname.h, __NEW_UTS_LEN


@dataclass(frozen=True, slots=True, kw_only=True)
class ChrootSpec:
    """One instance: its root, its start and stop scripts, its isolation from the node, its limits.

    The root is ``disk``, an image file or a block device, or else ``directory``. With ``overlay`` ``none`` changes are
    written to it; with ``memory`` to ``overlay_mib`` of memory; with ``directory`` to ``overlay_directory``.
    ``script_deadline_s`` limits one run of a script. ``users``: root inside is an ordinary uid of the node.
    """

    name: str
    disk: str | None
    directory: str | None = None
    read_only: bool = False
    overlay: str = "none"
    overlay_directory: str | None = None
    overlay_mib: int = DEFAULT_OVERLAY_MIB
    binds: tuple[Bind, ...] = ()
    node_resolv_conf: bool = False
    suid: bool = False
    devices: bool = False
    init_script: str
    stop_script: str
    script_deadline_s: float
    environment: tuple[tuple[str, str], ...] = ENVIRONMENT
    hostname: str
    share_network: bool
    interfaces: tuple[Interface, ...] = ()
    gateways: tuple[str, ...] = ()
    mtu: int | None = None
    namespaces: bool = True
    users: bool = False
    seccomp: bool = True
    capabilities: tuple[str, ...] = ()
    memory_limit_mib: int | None = None
    cpu_limit_percent: int | None = None
    process_limit: int | None = None

    @property
    def source(self) -> str:
        """The disk or directory of the root, for messages."""
        return f"disk {self.disk!r}" if self.disk is not None else f"directory {self.directory!r}"

    @property
    def source_is_written(self) -> bool:
        """Whether the instance writes to that disk or directory, so that no other instance may use it."""
        return not self.read_only and self.overlay == "none"


def decide(instance: hv.Instance, params: hv.Params) -> ChrootSpec:
    """The spec of a checked instance with its complete parameters."""
    disk = instance.disks[0] if instance.disks else None
    namespaces = params["isolation"] == "namespaces"
    own = tuple((name, value) for name, _, value in (pair.partition("=") for pair in params["environment"]))
    return ChrootSpec(
        name=instance.name,
        disk=None if disk is None else disk.path,
        directory=params["root_directory"],
        read_only=disk is not None and disk.read_only,
        overlay=params["overlay"],
        overlay_directory=params["overlay_directory"],
        overlay_mib=params["overlay_size"] or DEFAULT_OVERLAY_MIB,
        binds=tuple(Bind.of(text) for text in params["binds"]),
        node_resolv_conf=params["resolv_conf"] == "node",
        suid=_allowed(params["allow_suid"], namespaces=namespaces),
        devices=_allowed(params["allow_devices"], namespaces=namespaces),
        init_script=params["init_script"],
        stop_script=params["stop_script"] or params["init_script"],
        script_deadline_s=params["script_deadline"],
        environment=tuple({**dict(ENVIRONMENT), **dict(own)}.items()),
        hostname=params["hostname"] or _hostname(instance.name),
        share_network=params["network"] == "host",
        interfaces=interfaces_of(instance, params),
        gateways=params["network_gateways"],
        mtu=params["network_mtu"],
        namespaces=namespaces,
        users=has_users(params),
        seccomp=params["seccomp"] == "default",
        capabilities=params["capabilities"],
        memory_limit_mib=params["memory_limit"],
        cpu_limit_percent=params["cpu_limit"],
        process_limit=params["process_limit"],
    )


def limits_of(spec: ChrootSpec) -> hv.GroupLimits:
    """The limits of all its processes together."""
    memory_mib, cpu_percent, processes = spec.memory_limit_mib, spec.cpu_limit_percent, spec.process_limit
    return hv.GroupLimits(
        memory_bytes=None if memory_mib is None else memory_mib * _MIB,
        cpus=None if cpu_percent is None else cpu_percent / 100,
        processes=None if processes is None else processes + hv.GroupLimits.own_processes,
    )


def spec_of(record: hv.Record) -> ChrootSpec:
    """The spec that a record holds. Raises `RecordError`."""
    return hv.decode(ChrootSpec, record.spec)


def uids_of(record: hv.Record) -> range | None:
    """The node's uids that a started instance maps its users to; None without a user namespace."""
    first = record.bindings.get("uids")
    return None if first is None else range(first, first + hv.UID_RANGE_SIZE)


def _allowed(param: bool | None, *, namespaces: bool) -> bool:  # noqa: FBT001 - a parameter's value
    """Without namespaces root inside is root on the node, and its root file system works as a node's does."""
    return not namespaces if param is None else param


def _hostname(name: str) -> str:
    # A name has up to 200 characters, but each of its labels at most 63.
    return name if len(name) <= _MAX_HOSTNAME else name.partition(".")[0]
