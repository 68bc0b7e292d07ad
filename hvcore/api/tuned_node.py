"""Parts of `Node`: what a running instance may use, its buttons and keys, and what follows its end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from hvcore.deadline import Deadline
from hvcore.model.state import ENDED, State
from hvcore.operations.context import CallOptions, Context

if TYPE_CHECKING:
    from hvcore.model.answers import Outcome
    from hvcore.model.tuned import Resized
    from hvcore.operations.lifecycle.act import Acted

__all__ = ["Pressing", "TunedNode"]


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
        from hvcore.operations.tuning.resize import balloon  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "balloon", options)
        return balloon(context, name, memory_mib, deadline=Deadline(deadline_s))

    def resize_memory(
        self, name: str, memory_mib: int, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]
    ) -> Resized:
        """Give the running instance that much memory, up to the maximum of its start. Also after a reboot.

        Returns and raises as `balloon` does.
        """
        from hvcore.operations.tuning.resize import resize_memory  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "memory", options)
        return resize_memory(context, name, memory_mib, deadline=Deadline(deadline_s))

    def resize_vcpus(
        self, name: str, vcpus: int, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]
    ) -> Resized:
        """Give the running instance that many vCPUs, up to the maximum of its start. Also after a reboot.

        Returns and raises as `balloon` does.
        """
        from hvcore.operations.tuning.resize import resize_vcpus  # noqa: PLC0415 - 32 ms

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
        from hvcore.operations.tuning.pin import pin  # noqa: PLC0415 - 32 ms

        pins = Pins(mask=mask, vcpus=vcpus or {}, emulator=emulator, iothreads=iothreads)
        return pin(self._context.for_call(name, "pin", options), name, pins, deadline=Deadline(deadline_s))


class Pressing:
    """Reset, power button, keys and interrupts. Operations are imported when they are called, as in `Node`."""

    _context: Context

    def reset(self, name: str, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> Outcome:
        """Reset the machine at once, as its reset button: the guest loses what it has not written. See `Node.reboot`.

        Raises `NotFoundError`, `UnsupportedError`, `StateError`.
        """
        from hvcore.operations.access.press import reset  # noqa: PLC0415 - 32 ms, as in `Node`

        return reset(self._context.for_call(name, "reset", options), name, deadline=Deadline(deadline_s))

    def powerdown(
        self, name: str, *, wait: bool = False, deadline_s: float = 60.0, **options: Unpack[CallOptions]
    ) -> Outcome:
        """Press the power button, and return; with ``wait`` when the guest has shut down. See also `Node.stop`.

        An instance that has shut down keeps what it holds until `Node.stop` or `Node.cleanup`. Raises `NotFoundError`,
        `UnsupportedError`, `StateError`, and `DeadlineError` if the guest goes on for longer than ``deadline_s`` seconds.
        """
        from hvcore.operations.access.press import powerdown  # noqa: PLC0415 - 32 ms, as in `Node`
        from hvcore.operations.inspection.wait import wait as wait_for  # noqa: PLC0415 - the same

        deadline = Deadline(deadline_s)
        outcome = powerdown(self._context.for_call(name, "powerdown", options), name, deadline=deadline)
        if not wait or not outcome.changed:
            return outcome
        found = wait_for(self._context, name, (*ENDED, State.STOPPED), deadline)
        return replace(outcome, state=found.state, seconds=deadline.spent())

    def send_keys(
        self, name: str, *combinations: str, deadline_s: float = 10.0, **options: Unpack[CallOptions]
    ) -> Outcome:
        """Press combinations of keys on the guest's keyboard, one after the other: ``ctrl-alt-delete``, ``ret``.

        Raises `InputError` for a key that does not exist, before any is pressed, `NotFoundError`, `UnsupportedError`,
        `StateError`.
        """
        from hvcore.operations.access.press import send_keys  # noqa: PLC0415 - 32 ms, as in `Node`

        keys: Sequence[str] = combinations
        return send_keys(self._context.for_call(name, "send-key", options), name, keys, deadline=Deadline(deadline_s))

    def nmi(self, name: str, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> Outcome:
        """Send a non-maskable interrupt, on which many operating systems write a crash dump.

        Raises `NotFoundError`, `UnsupportedError`, `StateError`.
        """
        from hvcore.operations.access.press import nmi  # noqa: PLC0415 - 32 ms, as in `Node`

        return nmi(self._context.for_call(name, "nmi", options), name, deadline=Deadline(deadline_s))

    def act(self, names: Collection[str] | None = None, **options: Unpack[CallOptions]) -> list[Acted]:
        """Do what the files of these instances say about an end: ``on_crash`` and ``on_shutdown``; of all without ``names``.

        Only of instances that have ended on their own since the node was booted. At most 3 restarts of one within 10
        minutes. Never raises for one of them: the result says what failed.
        """
        from hvcore.operations.lifecycle.act import act  # noqa: PLC0415 - 32 ms, as in `Node`

        return act(self._context, names, options)
