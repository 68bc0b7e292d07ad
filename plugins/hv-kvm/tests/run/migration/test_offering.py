"""What a guest says of itself before a migration."""

from __future__ import annotations

from typing import Any

import pytest

from hv_kvm.run.migration.offering import live_blockers


@pytest.mark.parametrize(
    ("bindings", "blocked"),
    [
        ({"accel": "tcg", "qemu": "7.2.22"}, True),
        ({"accel": "tcg", "qemu": "9.2.4"}, True),
        ({"accel": "tcg"}, True),
        ({"accel": "tcg", "qemu": "10.0.13"}, False),
        ({"accel": "kvm", "qemu": "7.2.22"}, False),
        ({}, False),
    ],
)
def test_an_emulated_guest_of_an_older_qemu_must_not_run_while_it_is_sent(
    bindings: dict[str, Any], *, blocked: bool
) -> None:
    assert bool(list(live_blockers(bindings))) is blocked
