"""Which CPUs of the node each thread of QEMU may use, from the values of the Cpu device. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hvcore.plugin import InputError, Pins, cpu_sets, dataclass

__all__ = ["CpuPlaces", "places", "with_pins"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPlaces:
    """Lists of CPUs: of each vCPU, of I/O threads, and of all other threads. ``all`` is no pin."""

    vcpus: tuple[str, ...]
    emulator: str = "all"
    iothreads: str = "all"

    @property
    def pinned(self) -> bool:
        """Whether any thread is pinned."""
        return {*self.vcpus, self.emulator, self.iothreads} != {"all"}

    @property
    def used(self) -> frozenset[int]:
        """All CPUs that a thread is pinned to."""
        lists = (*self.vcpus, self.emulator, self.iothreads)
        return frozenset().union(*(found for text in lists for found in cpu_sets(text) if found is not None))

    def __str__(self) -> str:
        alike = {*self.vcpus, self.emulator, self.iothreads}
        if len(alike) == 1:
            return f"all threads {alike.pop()}"
        return f"vcpus {':'.join(self.vcpus)}, emulator {self.emulator}, iothreads {self.iothreads}"


def places(cpu: Mapping[str, Any], vcpus: int) -> CpuPlaces:
    """The places of a guest with that many vCPUs. ``cpu`` has the values of the device: mask, emulator, iothreads.

    One list in the mask is for every thread without its own list. vCPUs beyond the lists of the mask are not pinned.
    """
    lists = str(cpu.get("mask") or "all").split(":")
    rest = lists[0] if len(lists) == 1 else "all"
    each = (*lists, *["all"] * vcpus)[:vcpus] if len(lists) > 1 else (rest,) * vcpus
    return CpuPlaces(vcpus=each, emulator=cpu.get("emulator") or rest, iothreads=cpu.get("iothreads") or rest)


def with_pins(name: str, cpu: Mapping[str, Any], vcpus: int, pins: Pins) -> dict[str, str | None]:
    """The values of the device with the pins: mask, emulator, iothreads. Raises `InputError` for a vCPU that does not exist."""
    found = {"mask": cpu.get("mask") or "all", "emulator": cpu.get("emulator"), "iothreads": cpu.get("iothreads")}
    if pins.mask is not None:
        count = pins.mask.count(":") + 1
        if count not in (1, vcpus):
            what = f"has {count} lists, but the instance has {vcpus} vcpus"
            raise InputError(
                f"{name}: mask: {what}, got {pins.mask!r:.80}; give one list for all, or one for each vCPU"
            )
        found["mask"] = pins.mask
        if count == 1:  # for all threads
            found |= {"emulator": None, "iothreads": None}
    if pins.vcpus:
        missing = sorted(number for number in pins.vcpus if number >= vcpus)
        if missing:
            raise InputError(
                f"{name}: vcpus: has no vCPU {missing[0]}, only {vcpus}; give a number from 0 to {vcpus - 1}"
            )
        now = places(found, vcpus)
        each = [pins.vcpus.get(number, mask) for number, mask in enumerate(now.vcpus)]
        found = {"mask": ":".join(each), "emulator": now.emulator, "iothreads": now.iothreads}
    if pins.emulator is not None:
        found["emulator"] = pins.emulator
    if pins.iothreads is not None:
        found["iothreads"] = pins.iothreads
    return found
