"""What the node tells about an instance: its state and its figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from hvcore.model.state import State

__all__ = ["InstanceInfo", "Observation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a driver sees of a started instance: the state, why, and live figures (None: not known).

    ``memory_mib`` and ``resident_mib`` in MiB, ``cpu_seconds`` of host cpu since start, ``uptime_s``
    since the process began. ``details`` holds what else the driver can say, as plain JSON types.
    """

    state: State
    reason: str | None = None
    pid: int | None = None
    memory_mib: int | None = None
    resident_mib: int | None = None
    vcpus: int | None = None
    cpu_seconds: float | None = None
    uptime_s: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


_FIRST: Final = ("name", "driver", "state", "reason", "pid", "uuid")  # the order of the keys, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInfo(Observation):
    """One instance as the node sees it now: whose observation it is. ``to_json`` has stable keys."""

    name: str
    driver: str
    uuid: str | None = None

    @classmethod
    def of(cls, observation: Observation, *, name: str, driver: str, uuid: str | None) -> Self:
        """That observation, of the instance that is named."""
        return cls(
            name=name,
            driver=driver,
            uuid=uuid,
            state=observation.state,
            reason=observation.reason,
            pid=observation.pid,
            memory_mib=observation.memory_mib,
            resident_mib=observation.resident_mib,
            vcpus=observation.vcpus,
            cpu_seconds=observation.cpu_seconds,
            uptime_s=observation.uptime_s,
            details=observation.details,
        )

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        return {**dict.fromkeys(_FIRST), **asdict(self), "state": str(self.state)}
