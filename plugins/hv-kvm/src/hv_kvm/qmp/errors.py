"""The errors of a QEMU monitor, each with the fields that its text is made from."""

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
    """Base of all errors of a monitor; ``subject`` names the monitor, usually by its socket path."""

    subject: str


class QmpConnectError(QmpError):
    """No program listens on the socket: QEMU has exited, or never made the socket. A hung or busy QEMU does listen."""

    def __init__(self, *, subject: str, reason: str) -> None:
        self.subject, self.reason = subject, reason
        super().__init__(f"{subject}: no monitor listens there: {reason}; check whether QEMU is still running")


class QmpBusyError(QmpError, BusyError):
    """Another client uses the monitor, which serves one at a time; QEMU itself may be well or hung."""

    def __init__(self, *, subject: str, waited_s: float) -> None:
        what = f"{subject}: the monitor is busy with another client, waited {waited_s:.1f} s"
        todo = "try again later, or use the second monitor"
        BusyError.__init__(self, f"{what}; {todo}", subject=subject, waited_s=waited_s)


class QmpTimeoutError(QmpError, DeadlineError):
    """No answer in time, and therefore **the outcome is unknown**.

    QEMU executes a command that it has received even after the caller has given up: a hung QEMU (SIGSTOP, stuck storage)
    does so when it continues. So query the state before you repeat a command that changes something. The connection
    stays usable: a late reply is recognised by its id and dropped.
    """

    def __init__(self, *, subject: str, command: str, waited_s: float) -> None:
        self.command = command
        todo = "the outcome is unknown: query the state before you repeat the command"
        waiting_for = f"answer to {command}"
        if command == "greeting":
            waiting_for, todo = "greeting of QEMU", "nothing was asked yet: QEMU hangs, or this node is busy; try again"
        DeadlineError.__init__(self, subject=subject, waiting_for=waiting_for, waited_s=waited_s, todo=todo)


class QmpClosedError(QmpError):
    """The monitor closed: QEMU exited, or an earlier error closed this connection.

    A command that was sent may or may not have been executed; check whether QEMU is still running.
    """

    def __init__(self, *, subject: str, during: str) -> None:
        self.subject, self.during = subject, during
        super().__init__(f"{subject}: the monitor closed during {during}; check whether QEMU is still running")


class QmpCommandError(QmpError):
    """QEMU refused the command and did nothing; ``error_class`` is QAPI's (``GenericError``, ``DeviceNotFound``...)."""

    def __init__(self, *, subject: str, command: str, error_class: str, desc: str) -> None:
        self.subject, self.command, self.error_class, self.desc = subject, command, error_class, desc
        super().__init__(f"{subject}: qemu refused {command} ({error_class}): {desc}")


class QmpProtocolError(QmpError):
    """The message is not QMP, or not the reply that the command has; if it is not QMP, the connection is closed."""

    def __init__(self, *, subject: str, what: str) -> None:
        self.subject, self.what = subject, what
        super().__init__(f"{subject}: {what}; check that this is a QEMU monitor")
