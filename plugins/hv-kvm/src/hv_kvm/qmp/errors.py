"""What can go wrong on a QEMU monitor, each with the fields that its text is made from."""

from __future__ import annotations

from hvcore.plugin import BusyError, DeadlineError, OperationError

__all__ = [
    "QmpBusyError",
    "QmpClosedError",
    "QmpCommandError",
    "QmpConnectError",
    "QmpError",
    "QmpProtocolError",
    "QmpTimeoutError",
]


class QmpError(OperationError):
    """Base of everything that goes wrong on a monitor; ``subject`` names the monitor, usually by its socket path."""

    subject: str


class QmpConnectError(QmpError):
    """Nobody listens on the socket: QEMU ended, or never made it. Says nothing about a hung or busy QEMU."""

    def __init__(self, *, subject: str, reason: str) -> None:
        self.subject, self.reason = subject, reason
        super().__init__(f"{subject}: no monitor listens there: {reason}; ask whether the process still lives")


class QmpBusyError(QmpError, BusyError):
    """Another client holds the monitor, which serves one at a time; QEMU itself may be well or hung."""

    def __init__(self, *, subject: str, waited_s: float) -> None:
        self.subject, self.waited_s = subject, waited_s
        super().__init__(
            f"{subject}: the monitor is busy with another client, waited {waited_s:.1f} s; "
            "try again when that is done, or use the second monitor"
        )


class QmpTimeoutError(QmpError, DeadlineError):
    """No answer in time, and therefore **the outcome is unknown**.

    QEMU runs a command that it has received even when nobody waits any more: a hung QEMU (SIGSTOP, stuck storage)
    executes it when it wakes up. So ask for the state again, and never repeat a command that changes something
    without having asked. The connection stays usable: a late reply is recognised by its id and dropped.
    """

    def __init__(self, *, subject: str, command: str, waited_s: float) -> None:
        self.command = command
        DeadlineError.__init__(
            self,
            subject=subject,
            waiting_for=f"answer to {command}",
            waited_s=waited_s,
            todo="the outcome is unknown: ask for the state before anything is repeated",
        )


class QmpClosedError(QmpError):
    """The monitor closed: QEMU ended, or this connection was closed by an earlier error.

    A command that was under way may or may not have been executed; ask whether the process still lives.
    """

    def __init__(self, *, subject: str, during: str) -> None:
        self.subject, self.during = subject, during
        super().__init__(f"{subject}: the monitor closed during {during}; ask whether the process still lives")


class QmpCommandError(QmpError):
    """QEMU refused the command and did nothing; ``error_class`` is QAPI's (``GenericError``, ``DeviceNotFound``...)."""

    def __init__(self, *, subject: str, command: str, error_class: str, desc: str) -> None:
        self.subject, self.command, self.error_class, self.desc = subject, command, error_class, desc
        super().__init__(f"{subject}: qemu refused {command} ({error_class}): {desc}")


class QmpProtocolError(QmpError):
    """What came is not QMP, or not the answer that the command has; the connection is closed if it was not QMP."""

    def __init__(self, *, subject: str, what: str) -> None:
        self.subject, self.what = subject, what
        super().__init__(f"{subject}: {what}; is this a QEMU monitor")
