"""The part of `Node` that changes what a running instance may use: memory, processors, CPUs of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from hvcore.deadline import Deadline
from hvcore.operations.context import CallOptions, Context

if TYPE_CHECKING:
    from hvcore.model.answers import Outcome
    from hvcore.model.tuned import Resized

__all__ = ["TunedNode"]


class TunedNode:
    """What `Node` can change of a running instance. Operations are imported when they are called, as in `Node`."""

    _context: Context

    def balloon(
        self, name: str, memory_mib: int, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]
    ) -> Resized:
        """Let the guest use that much of its memory: the node gets the rest back. Also after a reboot.

        Returns with the size that the guest has reached by the deadline: `Resized.reached`. Raises `InputError`,
        `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` for an instance without a balloon.
        """
        from hvcore.operations.resize import balloon  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "balloon", options)
        return balloon(context, name, memory_mib, deadline=Deadline(deadline_s))

    def resize_memory(
        self, name: str, memory_mib: int, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]
    ) -> Resized:
        """Give the running instance that much memory, up to the maximum of its start. Also after a reboot.

        Returns and raises as `balloon` does.
        """
        from hvcore.operations.resize import resize_memory  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "memory", options)
        return resize_memory(context, name, memory_mib, deadline=Deadline(deadline_s))

    def resize_vcpus(
        self, name: str, vcpus: int, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]
    ) -> Resized:
        """Give the running instance that many vCPUs, up to the maximum of its start. Also after a reboot.

        Returns and raises as `balloon` does.
        """
        from hvcore.operations.resize import resize_vcpus  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "vcpus", options)
        return resize_vcpus(context, name, vcpus, deadline=Deadline(deadline_s))

    def pin(
        self,
        name: str,
        mask: str | None = None,
        *,
        vcpus: Mapping[int, str] | None = None,
        emulator: str | None = None,
        iothreads: str | None = None,
        deadline_s: float = 10.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Pin the instance's threads to CPUs of the node, now and after every reboot.

        ``mask`` is a list such as ``0-3,5`` for all threads, or one for each vCPU, separated by ``:``. ``vcpus`` has lists for
        single vCPUs. ``emulator`` is for the other threads, ``iothreads`` for I/O threads. ``all`` removes a pin. Raises
        `InputError`, `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` for CPUs that it may not use.
        """
        from hvcore.model.tuned import Pins  # noqa: PLC0415 - as the next
        from hvcore.operations.pin import pin  # noqa: PLC0415 - 32 ms

        pins = Pins(mask=mask, vcpus=vcpus or {}, emulator=emulator, iothreads=iothreads)
        return pin(self._context.for_call(name, "pin", options), name, pins, deadline=Deadline(deadline_s))
