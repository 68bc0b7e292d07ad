"""Waiting for a state of an instance, which another program or the guest itself may cause."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import DeadlineError
from hvcore.host.processes.process import alive, wait_gone
from hvcore.model.observation import InstanceInfo
from hvcore.model.state import State
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import info_of
from hvcore.operations.inspection.observe import observed

__all__ = ["wait"]

_LOOK_AGAIN_S: Final = 0.1


def wait(context: Context, name: str, states: Collection[State], deadline: Deadline) -> InstanceInfo:
    """The instance, as soon as it is in one of the states. The end of its process ends a wait at once.

    An instance that is not known on this node is ``stopped``. Raises `DeadlineError`.
    """
    driver = "unknown"
    while True:
        seen = observed(context, name)
        driver = seen.record.driver if seen.record else driver
        if seen.state in states:
            return info_of(context, name, seen, driver=driver)
        left_s = deadline.left()
        if left_s == 0.0:
            wanted, reason = " or ".join(sorted(states)), seen.observation.reason
            todo = f"it is {seen.state}{f' ({reason})' if reason else ''}"
            raise DeadlineError(subject=name, waiting_for=f"state {wanted}", waited_s=deadline.seconds, todo=todo)
        process = None if seen.record is None else seen.record.process
        if process is not None and alive(process):
            wait_gone(process, min(left_s, _LOOK_AGAIN_S))
        else:
            time.sleep(min(left_s, _LOOK_AGAIN_S))
