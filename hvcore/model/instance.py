"""The instance that a host application wants to run, with its disks and NICs."""

from __future__ import annotations

import functools
import itertools
import uuid
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final

from hvcore.errors import ParamsError, Problem
from hvcore.frozen import dataclass
from hvcore.model.devices import Disk, Nic
from hvcore.model.names import name_problem
from hvcore.params.words import shortened
from hvcore.plain import ReadOnlyDict, plain_fields

__all__ = ["Disk", "Instance", "Nic", "read_instance"]

# An instance without a uuid gets one that follows from its name, the same on every node.
_NAMESPACE: Final = "5a9c1a5e-9f07-4c5f-8f0e-2d8f3f6f5b11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The definition of one instance. Build it with keywords; ``params`` are the driver's own.

    ``profile`` names values of the node for parameters that ``params`` does not set. An empty ``uuid`` is derived from the
    name. Raises `ParamsError` with every problem if a field is wrong.
    """

    name: str
    driver: str
    memory_mib: int = 128
    vcpus: int = 1
    uuid: str = ""
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    profile: str | None = None
    tags: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from hvcore.model.instance_keys import clean_instance  # noqa: PLC0415 - 11 ms, not for 'hv list' of an empty node

        wrong_name = name_problem(self.name)
        clean, problems = clean_instance(self)
        problems = [wrong_name, *problems] if wrong_name else problems
        if not isinstance(self.params, Mapping):
            problems.append(Problem(path="params", what="must be a mapping", got=shortened(self.params)))
        if problems:
            raise ParamsError(f"instance {shortened(self.name)}", problems)
        for key, value in clean.items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "params", ReadOnlyDict(self.params))
        if not self.uuid:
            object.__setattr__(self, "uuid", str(_derived(_NAMESPACE, self.name)))

    def to_json(self) -> dict[str, Any]:
        """The instance as plain JSON types, as an instance file has them: `Node.check` takes them back.

        Its secret parameters are among them.
        """
        return plain_fields(self)

    def mac(self, index: int) -> str:
        """The MAC address of NIC ``index``: the one given, else one in QEMU's 52:54:00 range from the uuid."""
        given = self.nics[index].mac
        if given is not None:
            return given
        return _derived_mac(self.uuid, index)

    def with_macs(self) -> Instance:
        """The instance with the MAC address of each NIC written down: it then stays when NICs come and go."""
        nics = tuple(replace(nic, mac=self.mac(index)) for index, nic in enumerate(self.nics))
        return replace(self, nics=nics) if nics != self.nics else self

    def free_mac(self) -> str:
        """The first MAC address derived from the uuid that no NIC has."""
        taken = {self.mac(index).lower() for index in range(len(self.nics))}
        return next(mac for index in itertools.count() if (mac := _derived_mac(self.uuid, index)) not in taken)


@functools.lru_cache(maxsize=4096)  # a list shows the MAC addresses of every instance
def _derived_mac(instance: str, index: int) -> str:
    return "52:54:00:" + _derived(instance, f"nic{index}").bytes[:3].hex(":")


@functools.lru_cache(maxsize=4096)
def _derived(namespace: str, name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.UUID(namespace), name)


def read_instance(data: object) -> tuple[Instance | None, tuple[Problem, ...]]:
    """The `Instance` in plain data (dicts, lists, strings, integers), None if it has problems; and every problem.

    Unknown keys are problems. The driver checks the contents of ``params``.
    """
    from hvcore.model.instance_keys import read_values  # noqa: PLC0415 - as above

    if not isinstance(data, Mapping):
        return None, (Problem(path="instance", what="must be a table of keys and values", got=shortened(data)),)
    values, problems = read_values(data)
    return (None, tuple(problems)) if problems else (Instance(**values), ())
