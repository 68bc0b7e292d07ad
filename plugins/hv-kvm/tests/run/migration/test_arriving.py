"""A guest that has arrived is let run once. Only a refusal of the first time proves that it has not run."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

import hvcore
from hv_kvm.qmp import QmpCommandError, QmpTimeoutError
from hv_kvm.run.migration.arriving import let_run_once
from hv_kvm.run.observation.journal import Journal
from hvcore.deadline import Deadline

REFUSED = QmpCommandError(subject="qmp", command="cont", error_class="GenericError", desc='Failed to get "write" lock')


class Guest:
    """A monitor with a guest that reports these states, one after the other, and answers ``cont`` with an error or not."""

    subject, closed = "qmp", False

    def __init__(self, *states: str, error: Exception | None = None) -> None:
        self.states, self.error, self.asked = list(states), error, list[str]()

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, deadline_s: float, fds: Any = ()
    ) -> Any:
        """The answer."""
        self.asked.append(command)
        if command == "query-status":
            state = self.states.pop(0)
            return {"status": state, "running": state == "running"}
        if self.error is not None:
            raise self.error
        return {}


def let_run(guest: Guest, journal: str) -> list[str]:
    """What was asked, and the remarks."""
    job: Any = SimpleNamespace(name="web1", deadline=Deadline(5), remarks=[])
    client: Any = guest
    let_run_once(client, job, Journal(status=journal))
    return [*guest.asked, *job.remarks]


def test_a_guest_that_has_never_run_is_let_run() -> None:
    assert let_run(Guest("paused", "running"), "prelaunch") == ["query-status", "cont", "query-status"]


def test_one_that_runs_is_left_alone() -> None:
    assert let_run(Guest("running"), "prelaunch") == ["query-status"]


@pytest.mark.parametrize("since", ["io-error", "paused", "panicked", "shutdown"])
def test_one_that_has_run_and_stopped_is_not_let_run_again(since: str) -> None:
    assert let_run(Guest("paused", error=REFUSED), since) == ["query-status"]


def test_one_that_stops_at_once_has_run() -> None:
    assert let_run(Guest("paused", "io-error"), "prelaunch")[-1] == "it has stopped since: QEMU reports 'io-error'"


def test_a_refusal_proves_that_it_has_not_run() -> None:
    with pytest.raises(
        hvcore.OperationError, match=r'QEMU does not let it run: Failed to get "write" lock; it stays on the'
    ):
        let_run(Guest("paused", error=REFUSED), "prelaunch")


def test_a_refusal_proves_nothing_where_the_journal_is_lost() -> None:
    with pytest.raises(QmpCommandError):
        let_run(Guest("paused", error=REFUSED), "unknown")


def test_a_command_without_an_answer_proves_nothing() -> None:
    silent = QmpTimeoutError(subject="qmp", command="cont", waited_s=5.0)
    with pytest.raises(hvcore.DeadlineError):
        let_run(Guest("paused", error=silent), "prelaunch")
