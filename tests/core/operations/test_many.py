"""A list of instances with one driver that misbehaves: only its instance is unknown, and the list is quick."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest

import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver
from hvcore import Instance, State
from hvcore.deadline import Deadline
from hvcore.operations.context import Context
from hvcore.operations.in_time import OverdueError, in_time
from hvcore.operations.inspection.info import infos
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop

RUNNING = State.RUNNING


class Odd(FakeDriver):
    """The instance ``odd`` is observed as ``gives`` says, all others as they are."""

    gives: ClassVar[Callable[[], hv.Observation]]

    def observe(self, live: hv.Live) -> hv.Observation:
        return type(self).gives() if live.record.name.startswith("odd") else super().observe(live)


@pytest.fixture
def node_with(load: Callable[..., Any], context: Callable[..., Context]) -> Callable[..., Context]:
    def build(gives: Callable[[], hv.Observation], names: tuple[str, ...] = ("a", "odd", "z")) -> Context:
        loaded = load(type("Made", (Odd,), {"gives": staticmethod(gives)}))
        node = replace(context(loaded), observe_s=0.3)
        for name in names:
            start(node, loaded, Instance(name=name, driver="fake"), paused=False, deadline=Deadline(10))
        return node

    return build


def loop() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["self"] = found
    return found


BAD: dict[str, dict[str, Any]] = {
    "a set in the details": {"details": {"a": {1, 2}}},
    "a NaN in the details": {"details": {"a": [float("nan")]}},
    "an object as a key": {"details": {(1, 2): 3}},
    "details that contain themselves": {"details": loop()},
    "details that are a list": {"details": [1]},
    "a text for a size": {"memory_mib": "x"},
    "a NaN": {"cpu_seconds": float("nan")},
    "infinity": {"uptime_s": float("inf")},
    "a negative pid": {"pid": -1},
    "a huge number": {"vcpus": 10**400},
    "a boolean": {"vcpus": True},
    "a state in another type": {"state": "running"},
    "no state": {"state": None},
    "a reason that is no text": {"reason": 7},
}


@pytest.mark.parametrize("what", BAD)
def test_a_value_that_no_program_can_use_makes_one_instance_unknown(node_with: Any, what: str) -> None:
    node = node_with(lambda: hv.Observation(**{"state": RUNNING, **BAD[what]}))
    found = {info.name: info for info in infos(node)}
    assert {name: info.state for name, info in found.items()} == {"a": RUNNING, "odd": State.UNKNOWN, "z": RUNNING}
    (field,) = BAD[what]
    reason = found["odd"].reason or ""
    assert reason.startswith("driver fake (")
    assert f"returned an Observation whose {field}" in reason
    assert json.dumps([info.to_json() for info in infos(node)], allow_nan=False)
    assert stop(node, "odd", force=True, deadline=Deadline(10)).changed


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Not set before the test ends; the threads that wait for it are gone after it."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "observe":
            thread.join(60)


def test_a_driver_that_hangs_makes_its_instance_unknown_and_is_not_waited_for_twice(
    node_with: Any, never: threading.Event
) -> None:
    def gives() -> hv.Observation:
        never.wait(60)
        return hv.Observation(state=RUNNING)

    node = node_with(gives, ("a", "odd1", "odd2", "odd3", "z"))
    begun = time.monotonic()
    found = {info.name: info.state for info in infos(node)}
    assert time.monotonic() - begun < 50  # the driver hangs for 60 s
    unknown = dict.fromkeys(("odd1", "odd2", "odd3"), State.UNKNOWN)
    assert found == {"a": RUNNING, **unknown, "z": RUNNING}
    threads = threading.active_count()
    reason = observed(node, "odd2").observation.reason or ""
    assert "its driver did not answer within 0.3 s (at " in reason
    assert "test_many.py:" in reason
    assert threading.active_count() == threads
    never.set()
    for thread in threading.enumerate():
        if thread.name == "observe":
            thread.join(60)
    assert observed(node, "odd1").state is RUNNING


def test_calls_in_time_have_their_results_in_order_and_leave_no_thread() -> None:
    def fails() -> int:
        raise SystemExit(3)

    threads = threading.active_count()
    first, error, last = in_time([lambda: 1, fails, lambda: 3], 10.0)
    assert (first, type(error), last) == (1, SystemExit, 3)
    assert in_time([], 1.0) == []
    assert threading.active_count() == threads


def test_a_call_that_takes_too_long_keeps_no_other_from_being_called(never: threading.Event) -> None:
    found = in_time([lambda: 1, lambda: never.wait(60), lambda: 3, lambda: never.wait(60), lambda: 5], 0.2)
    assert [one if isinstance(one, int) else type(one) for one in found] == [1, OverdueError, 3, OverdueError, 5]
