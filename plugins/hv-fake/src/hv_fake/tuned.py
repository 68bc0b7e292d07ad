"""The abilities of the fake driver that measure and change a running instance: all in its record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import hvcore.plugin as hv

__all__ = ["Tuned"]

_MOST_MIB: Final = 1 << 20


class Tuned:
    """What `hv_fake.plugin.FakeDriver` can measure and change."""

    def guest_abi(self, spec: Any, host: hv.Host) -> hv.Abi:
        """Size, processors, greeting and disks."""
        facts = [
            ("machine", "memory", f"{spec.memory_mib} MiB", hv.AbiClass.WIRE, "memory_mib"),
            ("machine", "processors", str(spec.vcpus), hv.AbiClass.SEEN, "vcpus"),
            ("machine", "greeting", spec.motd, hv.AbiClass.BOOT, "motd"),
            *(("disk", disk.name, "present", hv.AbiClass.WIRE, "disks") for disk in spec.disks),
        ]
        return hv.Abi.of(
            hv.AbiEntry(kind=kind, what=what, key=key, value=value, params=(param,))
            for what, key, value, kind, param in facts
        )

    def upgrade(self, spec: Any, host: hv.Host, program: str, *, live: hv.Live | None) -> hv.Upgrade:
        """Nothing changes with a program that exists, and one whose name ends with ``.old`` has no greeting."""
        if not os.path.exists(program):
            raise hv.InputError(f"{program!r}: does not exist; name a program")
        return hv.Upgrade(refusals=("has no greeting",) if program.endswith(".old") else ())

    def usage(self, lives: Sequence[hv.Live], deadline: hv.Deadline) -> Sequence[hv.Usage]:
        """The same memory that `observe` shows, and no processor time: the guest does nothing."""
        return [hv.Usage(memory_mib=live.record.instance.memory_mib, cpu_seconds=0.0) for live in lives]

    def balloon(self, live: hv.Live, job: hv.Job, memory_mib: int) -> hv.Reached:
        """Record the size; the guest obeys at once."""
        most = live.record.instance.memory_mib
        if memory_mib > most:
            raise hv.InputError(f"{job.name}: balloon: at most its memory of {most} MiB, got {memory_mib}; give less")
        before = live.record.spec.get("balloon_mib") or most
        job.remember(spec={**live.record.spec, "balloon_mib": memory_mib})
        return hv.Reached(before=before, after=memory_mib)

    def sizes(self, spec: Any) -> dict[str, range]:
        """Any memory, and up to 64 processors."""
        return {"memory_mib": range(1, _MOST_MIB + 1), "vcpus": range(1, 65)}

    def resize_memory(self, live: hv.Live, job: hv.Job, memory_mib: int) -> hv.Reached:
        """Record the size; the guest obeys at once."""
        if memory_mib > _MOST_MIB:
            raise hv.InputError(f"{job.name}: memory: at most {_MOST_MIB} MiB, got {memory_mib}; give less")
        job.remember(spec={**live.record.spec, "memory_mib": memory_mib})
        return hv.Reached(before=live.record.spec["memory_mib"], after=memory_mib)

    def resize_vcpus(self, live: hv.Live, job: hv.Job, vcpus: int) -> hv.Reached:
        """Record the number; the guest obeys at once."""
        job.remember(spec={**live.record.spec, "vcpus": vcpus})
        return hv.Reached(before=live.record.spec["vcpus"], after=vcpus)

    def pin(self, live: hv.Live, job: hv.Job, pins: hv.Pins) -> bool:
        """Record the lists; there are no threads."""
        wrong = [number for number in pins.vcpus if number >= live.record.spec["vcpus"]]
        if wrong:
            raise hv.InputError(
                f"{job.name}: vcpus: has no vCPU {wrong[0]}; give a number below {live.record.spec['vcpus']}"
            )
        asked = {"mask": pins.mask, "emulator": pins.emulator, "iothreads": pins.iothreads}
        lists = {**{f"vcpu{number}": mask for number, mask in pins.vcpus.items()}, **asked}
        before = live.record.spec.get("pins", {})
        after = {**before, **{key: value for key, value in lists.items() if value is not None}}
        job.remember(spec={**live.record.spec, "pins": after})
        return bool(before != after)
