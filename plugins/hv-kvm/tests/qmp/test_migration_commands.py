"""What QEMU says about a migration, as values. The replies are those of QEMU 7.2 and 10.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hv_kvm.qmp import QmpClient, QmpCommandError, migration_commands


class Answering:
    """A monitor that gives one answer, and remembers what it was asked."""

    subject, closed = "qmp", False

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, list[tuple[str, Mapping[str, Any] | None]]()

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, deadline_s: float, fds: Any = ()
    ) -> Any:
        """The answer."""
        self.asked.append((command, arguments))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def client(answer: Any) -> QmpClient:
    found: Any = Answering(answer)
    return found  # type: ignore[no-any-return]


def test_before_any_migration_there_is_nothing() -> None:
    assert migration_commands.query_migrate(client({})) == migration_commands.Migration()


@pytest.mark.parametrize("mbps", [800, 800.5])
def test_figures_are_bytes_per_second(mbps: float) -> None:
    ram = {"transferred": 5, "remaining": 6, "total": 7, "mbps": mbps, "dirty-pages-rate": 3, "page-size": 4096}
    found = migration_commands.query_migrate(client({"status": "active", "expected-downtime": 300, "ram": ram}))
    assert (found.rate_bps // 1000, found.dirty_bps, found.expected_downtime_ms) == (int(mbps * 125), 12288, 300)


def test_an_unknown_status_is_kept() -> None:
    assert migration_commands.query_migrate(client({"status": "warp"})).status == "warp"


def test_what_keeps_a_guest_from_migrating_is_listed() -> None:
    reasons = ["non-migratable device: 0000:00:0a.0/nvme"]
    assert migration_commands.query_migrate(client({"blocked-reasons": reasons})).blocked == tuple(reasons)


def test_a_descriptor_that_qemu_does_not_have_is_fine() -> None:
    gone = QmpCommandError(
        subject="qmp", command="closefd", error_class="GenericError", desc="File descriptor named 'x' not found"
    )
    migration_commands.closefd(client(gone), ["x"])
    with pytest.raises(QmpCommandError):
        migration_commands.closefd(client(QmpCommandError(subject="q", command="c", error_class="E", desc="no")), ["x"])
