"""Deadlines of host applications: a value that is not a time does not end a guest."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from fixture_types import Web

from hvcore import DriverHandle, InputError, State
from hvcore.api.node import Node
from hvcore.deadline import LONGEST_S, Deadline

NO_TIMES: tuple[Any, ...] = (
    *json.loads('[NaN, Infinity, -Infinity, -1, -0.001, "5", null, true, [5], {"s": 5}]'),
    *(10**400, 10**5000, 1e300, LONGEST_S + 1, b"5", Fraction(5), 5j),
)
OPERATIONS: dict[str, Callable[[Node, Any], object]] = {
    "stop": lambda node, value: node.stop("web1", deadline_s=value),
    "stop by force": lambda node, value: node.stop("web1", force=True, deadline_s=value),
    "stop by its driver": lambda node, value: node.driver("fake").stop("web1", deadline_s=value),
    "reboot": lambda node, value: node.reboot("web1", deadline_s=value),
    "pause": lambda node, value: node.pause("web1", deadline_s=value),
    "resume": lambda node, value: node.resume("web1", deadline_s=value),
    "cleanup": lambda node, value: node.cleanup("web1", deadline_s=value),
    "recover": lambda node, value: node.recover(deadline_s=value),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_deadline_that_is_no_time_is_refused_and_the_guest_goes_on(
    operation: str, node: Node, fake: DriverHandle, web: Web
) -> None:
    fake.start(web())
    for value in NO_TIMES:
        with pytest.raises(InputError, match=r"^deadline_s: must be a number of seconds from 0 to 604800, got "):
            OPERATIONS[operation](node, value)
        assert node.info("web1").state is State.RUNNING


def test_a_start_with_a_deadline_that_is_no_time_starts_nothing(node: Node, fake: DriverHandle, web: Web) -> None:
    for value in NO_TIMES:
        with pytest.raises(InputError, match=r"^deadline_s: must be a number"):
            fake.start(web(), deadline_s=value)
    assert node.instances() == []


@pytest.mark.parametrize("seconds", [0, 0.001, 5, LONGEST_S])
def test_a_number_of_seconds_is_a_deadline(seconds: float) -> None:
    assert 0 <= Deadline(seconds).left() <= seconds


def test_the_second_half_of_a_reboot_has_its_own_time_after_the_longest_deadline() -> None:
    assert Deadline(LONGEST_S).extended(30.0).left() > LONGEST_S
