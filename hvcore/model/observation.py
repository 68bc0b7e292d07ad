"""The state of an instance: as its driver observes it, and as the node answers with it. All that a list needs."""

from __future__ import annotations

import json
from dataclasses import asdict, field, fields
from enum import StrEnum
from typing import Any, Final, Self

from hvcore.frozen import dataclass
from hvcore.model.devices import Disk, Nic
from hvcore.model.state import EndedBy, State
from hvcore.plain import is_figure, plain

__all__ = ["ConsoleAddress", "ConsoleKind", "InstanceInfo", "Interface", "Observation", "fault_of"]


class ConsoleKind(StrEnum):
    """``serial``: text, `hv console` connects to it. ``command``: text of a program inside. ``vnc``, ``spice``: graphics.

    ``message``: there is no console, and the message says why.
    """

    SERIAL = "serial"
    COMMAND = "command"
    VNC = "vnc"
    SPICE = "spice"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAddress:
    """One way to reach an instance on this node: a TCP port at ``host``, or a Unix ``socket``.

    ``tls``: the connection is encrypted. ``password``: a client has to know one. ``message`` is for people.
    """

    kind: ConsoleKind
    host: str | None = None
    port: int | None = None
    socket: str | None = None
    tls: bool = False
    password: bool = False
    message: str | None = None

    @property
    def uri(self) -> str | None:
        """The address as viewers take it, such as ``vnc://127.0.0.1:5900``; None for a socket and for text."""
        if self.host is None or self.port is None or self.kind not in {ConsoleKind.VNC, ConsoleKind.SPICE}:
            return None
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.kind is ConsoleKind.SPICE and self.tls:
            return f"spice://{host}?tls-port={self.port}"
        return f"{self.kind}://{host}:{self.port}"

    def to_json(self) -> dict[str, Any]:
        """The address as plain JSON types, with its ``uri``."""
        facts = {"host": self.host, "port": self.port, "socket": self.socket, "uri": self.uri}
        return {
            "kind": str(self.kind),
            **facts,
            "tls": self.tls,
            "password": self.password,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A started instance as its driver sees it: the state, the reason for it, and live figures (None: not known).

    ``memory_mib`` and ``resident_mib`` in MiB, ``cpu_seconds`` of host cpu since start, ``uptime_s``
    since the process began. ``ended_by`` is for an instance that has ended: who or what ended it, None if the driver does
    not find that out. ``consoles`` are the ways to reach it, text before graphics. ``details`` has further facts of the
    driver, as plain JSON types.
    """

    state: State
    reason: str | None = None
    pid: int | None = None
    memory_mib: int | None = None
    resident_mib: int | None = None
    vcpus: int | None = None
    cpu_seconds: float | None = None
    uptime_s: float | None = None
    ended_by: EndedBy | None = None
    consoles: tuple[ConsoleAddress, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


_FIGURES: Final = ("pid", "memory_mib", "resident_mib", "vcpus", "cpu_seconds", "uptime_s")
_KINDS: Final = (
    ("reason", (str, type(None)), "a text"),
    ("ended_by", (EndedBy, type(None)), "an hvcore.plugin.EndedBy"),
)
_LARGEST: Final = 2**63


def fault_of(found: Observation) -> str | None:
    """What no program can use in an observation: a field of another type, NaN, or details that JSON cannot have. Or None."""
    if not isinstance(found.state, State):
        return f"state is {found.state!r:.80}, not an hvcore.plugin.State"
    for name, kinds, what in _KINDS:
        value = getattr(found, name)
        if not isinstance(value, kinds):
            return f"{name} is {value!r:.80}, not {what} or None"
    for name in _FIGURES:
        value = getattr(found, name)
        if value is not None and not is_figure(value):
            return f"{name} is {value!r:.80}, not a number of at least 0 or None"
    if found.consoles and not all(isinstance(one, ConsoleAddress) for one in found.consoles):
        return f"consoles are {found.consoles!r:.80}, not a tuple of hvcore.plugin.ConsoleAddress"
    if not isinstance(found.details, dict):
        return f"details are {found.details!r:.80}, not a dict"
    return (
        None if all(map(_is_plain, found.details)) and all(map(_is_plain, found.details.values())) else _no_json(found)
    )


def _no_json(found: Observation) -> str | None:
    try:
        json.dumps(found.details, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"details cannot be written as JSON ({error})"
    return None


def _is_plain(value: object) -> bool:
    """Whether JSON can have it, seen without writing it: a text, or a whole number of 63 bits."""
    return type(value) is str or (type(value) is int and -_LARGEST < value < _LARGEST)


_OBSERVED: Final = tuple(field.name for field in fields(Observation))
_FIRST: Final = ("name", "driver", "state", "reason", "ended_by", "pid", "uuid")  # the order of the keys, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """The interface of the node that belongs to a NIC, as it is now.

    ``nic`` is the position of the NIC, ``name`` the tap, veth or macvtap. ``port_of`` is the bridge that it is a port of now, or
    None; of Open vSwitch the one that the start connected it to. ``seen`` has the IP addresses that the node has resolved to
    the NIC's MAC address.
    """

    nic: int
    name: str
    port_of: str | None = None
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInfo(Observation):
    """One instance as the node sees it now. ``to_json`` has stable keys.

    ``source`` is its instance file, None if there was none. ``started_at`` and ``ended_at`` are seconds since 1970; the
    end is None while it runs, and if it is not known. ``nics`` have the MAC addresses that are in use, ``interfaces`` what
    belongs to them on the node. ``autostart``: whether its definition says so; None without one, and if that was not read.
    Of a defined instance that is stopped, the figures are those of its definition. ``devices`` has the names
    of devices for attach and detach, each with its field: ``disk1``, ``disks[0]``.
    """

    name: str
    driver: str
    uuid: str | None = None
    source: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    autostart: bool | None = None
    devices: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, observation: Observation, *, name: str, driver: str, **known: Any) -> Self:
        """The observation, with the name of its instance and what else is known of it."""
        seen = {name: getattr(observation, name) for name in _OBSERVED}
        return cls(name=name, driver=driver, **known, **seen)

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        facts = {**dict.fromkeys(_FIRST), **asdict(self), "state": str(self.state)}
        facts["consoles"] = [one.to_json() for one in self.consoles]
        facts["ended_by"] = None if self.ended_by is None else str(self.ended_by)
        return {**facts, **{key: plain(facts[key]) for key in ("disks", "nics", "interfaces")}}
