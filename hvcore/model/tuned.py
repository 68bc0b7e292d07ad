"""Changes of a running instance's memory, processors and CPUs of the node: what is asked for, and what was reached. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from hvcore.errors import InputError
from hvcore.frozen import dataclass
from hvcore.model.answers import Outcome
from hvcore.model.state import Op
from hvcore.params.host_types import cpu_mask
from hvcore.params.param import Reject

__all__ = ["Pins", "Reached", "Resized", "checked_pins"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a driver has reached: the size ``before`` the change and ``after`` it, in the unit that was asked for.

    A guest may not obey, or not in time: then ``after`` is not what was asked for, and ``note`` may say why.
    """

    before: int
    after: int
    note: str | None = None


_UNITS: Final = {Op.BALLOON: "MiB", Op.MEMORY: "MiB", Op.VCPUS: "vcpus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized(Outcome):
    """The outcome of a change of size: what was asked for, and the size before and after it.

    ``after`` differs from ``asked`` if the guest did not obey within the deadline. It may still do so later.
    """

    asked: int
    before: int
    after: int

    @property
    def reached(self) -> bool:
        """Whether the instance has what was asked for."""
        return self.asked == self.after

    def __str__(self) -> str:
        unit = _UNITS.get(self.op, "")
        if not self.reached:
            return f"{self.name}: asked for {self.asked} {unit}, has {self.after} {unit} after {self.seconds:.2f} s"
        if not self.changed:
            return f"{self.name}: already has {self.after} {unit}"
        return f"{self.name}: {self.after} {unit} ({self.seconds:.2f} s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """CPUs of the node for the threads of an instance, as lists such as ``0-3,5``, or ``all``. None: as it is.

    ``mask`` is one list for all threads, or a list for each vCPU, separated by ``:``. ``vcpus`` are lists for single vCPUs,
    by their number. ``emulator`` is for the threads that are neither vCPUs nor I/O threads, ``iothreads`` for I/O threads.
    """

    mask: str | None = None
    vcpus: Mapping[int, str] = field(default_factory=dict)
    emulator: str | None = None
    iothreads: str | None = None


def checked_pins(name: str, pins: Pins) -> Pins:
    """The pins with clean lists. Raises `InputError` for a wrong one, and if nothing is asked for."""
    one = cpu_mask()
    given: dict[str, Any] = {"mask": pins.mask, "emulator": pins.emulator, "iothreads": pins.iothreads}
    given = {
        key: _clean(name, key, value, cpu_mask(multi=True) if key == "mask" else one) for key, value in given.items()
    }
    vcpus = {number: _clean(name, f"vcpus[{number}]", value, one) or "all" for number, value in pins.vcpus.items()}
    for number in vcpus:
        if type(number) is not int or number < 0:
            raise InputError(f"{name}: vcpus: must be numbers of vCPUs from 0, got {number!r:.40}; give such a number")
    if not vcpus and not any(value is not None for value in given.values()):
        raise InputError(f"{name}: no CPUs, got nothing to pin; give a list of CPUs such as '0-3'")
    return Pins(vcpus=vcpus, **given)


def _clean(name: str, key: str, value: object, kind: Any) -> str | None:
    if value is None:
        return None
    try:
        clean: str = kind.parse(value)
    except Reject as error:
        what = f"{name}: {key}: {error.what}, got {value!r:.80}"
        raise InputError(f"{what}; {error.todo or f'give {kind.expects}'}") from error
    return clean
