"""The part of `Node` for consoles and displays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from hvcore.deadline import Deadline, checked_seconds
from hvcore.operations.context import CallOptions, Context

if TYPE_CHECKING:
    from hvcore.model.answers import Outcome
    from hvcore.model.consoles import ConsoleAddress

__all__ = ["DisplayingNode"]


class DisplayingNode:
    """What `Node` can do with consoles and displays. Operations are imported when they are called, as in `Node`."""

    _context: Context

    def consoles(self, name: str) -> tuple[ConsoleAddress, ...]:
        """The ways to reach an instance: serial console, VNC, SPICE. A single ``message`` says why it has no console.

        Text comes before graphics. Raises `NotFoundError`.
        """
        from hvcore.operations.screen import consoles  # noqa: PLC0415 - 32 ms, as the next

        return consoles(self._context, name)

    def screenshot(self, name: str, *, deadline_s: float = 10.0, **options: Unpack[CallOptions]) -> bytes:
        """The picture on the instance's display, as a PNG file. Works without a VNC or SPICE server too.

        Raises `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` without a graphics card.
        """
        from hvcore.operations.screen import screenshot  # noqa: PLC0415 - as above

        context = self._context.for_call(name, "screenshot", options)
        return screenshot(context, name, deadline=Deadline(deadline_s))

    def vnc_password(
        self,
        name: str,
        password: str,
        *,
        valid_s: float | None = None,
        deadline_s: float = 10.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Set the password of the VNC display, for new connections; after ``valid_s`` seconds it lets no client in.

        It is in no record, log or command line. A reboot or a start takes the one in ``vnc_password_file`` again. Raises
        `InputError`, `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` if the display was started
        without a password.
        """
        from hvcore.operations.screen import vnc_password  # noqa: PLC0415 - as above

        seconds = None if valid_s is None else checked_seconds(valid_s, "valid_s")
        context = self._context.for_call(name, "vnc-password", options)
        return vnc_password(context, name, password, valid_s=seconds, deadline=Deadline(deadline_s))
