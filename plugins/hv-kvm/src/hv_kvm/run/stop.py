"""The steps of a stop: power button, quit, kill. Each has a deadline and waits for the process, not for a clock."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Final

from hv_kvm.qmp import QmpConnectError, QmpError, commands, reach
from hv_kvm.run.observation.observe import process_of
from hvcore.plugin import Job, Live, ProcessId, kill_and_wait, verified_pidfd, wait_gone

__all__ = ["stop"]

_NEVER_RAN: Final = "prelaunch"
_MONITOR_S: Final = 2.0
_QUIT_S: Final = 2.0
_QUIT_AT_MOST_S: Final = 20.0
_KILL_S: Final = 5.0
_FIRST_PRESS_S: Final = 1.0
_NEXT_PRESS_S: Final = 5.0


def stop(live: Live, job: Job, *, force: bool) -> str:
    """The step that ended the guest: ``powerdown``, ``quit`` or ``kill``; ``gone`` when it had already ended.

    Raises `DeadlineError` when QEMU does not exit even when killed.
    """
    process = process_of(live)
    if process is None:
        return "gone"
    polite = not force and live.record.spec.get("acpi", True) and not _never_ran(live, job)
    if polite and _power_down(live, process, job):
        return "powerdown"
    job.progress("sending quit to QEMU")
    if _quit(live, process, job):
        return "quit"
    job.progress("killing QEMU")
    return (
        "kill" if kill_and_wait(process, subject=job.name, deadline_s=job.deadline.left(at_least=_KILL_S)) else "gone"
    )


def _never_ran(live: Live, job: Job) -> bool:
    """Whether QEMU reports that the guest has not run since its start or its reset.

    To hear its power button such a guest would have to run, and write to its disks. It has nothing to save.
    """
    with suppress(QmpError), reach(live.dir, job.deadline.left(at_most=_MONITOR_S)) as client:
        return commands.query_status(client).state == _NEVER_RAN
    return False


def _power_down(live: Live, process: ProcessId, job: Job) -> bool:
    """Press the power button until the guest shuts down: a guest that is still booting misses the first press.

    Only the deadline ends this: a QEMU that stalls (on its storage, for example) continues later, and to kill it loses
    data.
    """
    again_s = _FIRST_PRESS_S
    job.progress(f"waiting up to {job.deadline.left():.0f} s for the guest to shut down")
    while job.deadline.left() > 0.0:
        try:
            _press(live, job)
        except QmpConnectError as error:  # without both monitors no later press can work
            job.progress(f"cannot press the power button: {error}")
            return wait_gone(process, 0.0)
        except QmpError as error:
            job.progress(f"cannot press the power button yet: {error}")
        if wait_gone(process, job.deadline.left(at_most=again_s)):
            return True
        again_s = _NEXT_PRESS_S
    return False


def _press(live: Live, job: Job) -> None:
    with reach(live.dir, job.deadline.left(at_most=_MONITOR_S)) as client:
        if not commands.query_status(client).running:
            commands.cont(client)  # a paused guest cannot react to its power button
        commands.system_powerdown(client)


def _quit(live: Live, process: ProcessId, job: Job) -> bool:
    """Let QEMU write its caches out and exit: over QMP, else by the signal with the same effect.

    A QEMU that has accepted this may write for a while: to kill it loses data.
    """
    try:
        with reach(live.dir, _MONITOR_S) as client:
            commands.quit(client, deadline_s=_MONITOR_S)
    except QmpConnectError:
        with verified_pidfd(process) as pidfd:
            if pidfd is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    except QmpError:
        return wait_gone(process, 0.0)  # QEMU hangs, and would not react to a signal either
    return wait_gone(process, job.deadline.left(_QUIT_AT_MOST_S, at_least=_QUIT_S))
