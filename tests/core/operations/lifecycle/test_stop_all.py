"""All instances are stopped together, and one that cannot be stopped keeps no other from it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from fixture_types import Web

from hvcore import DriverHandle, HvError, InputError, Node, Outcome, State
from hvcore.operations.lifecycle import stop_all as module


def test_more_instances_than_are_stopped_at_a_time(node: Node, fake: DriverHandle, web: Web) -> None:
    names = [f"web{number}" for number in range(module._AT_A_TIME + 3)]
    for name in names:
        fake.start(web(name=name))
    told: list[tuple[str, threading.Thread]] = []
    found = node.stop_all(done=lambda name, _: told.append((name, threading.current_thread())))
    assert list(found) == sorted(names)
    assert all(isinstance(one, Outcome) and one.state is State.STOPPED for one in found.values())
    assert {name for name, _ in told} == set(names)
    assert {thread for _, thread in told} == {threading.current_thread()}
    assert node.instances() == []
    assert node.stop_all() == {}


def test_one_that_cannot_be_stopped_keeps_no_other_from_it(node: Node, fake: DriverHandle, web: Web) -> None:
    fake.start(web(name="web1"))
    fake.start(web(name="web2", fail_at="stop"))
    found = node.stop_all()
    assert isinstance(found["web1"], Outcome)
    assert isinstance(found["web2"], HvError)
    assert [one.name for one in node.instances()] == ["web2"]
    assert isinstance(node.stop_all(force=True)["web2"], HvError | Outcome)


def test_a_bug_in_one_stop_is_reported_with_its_instance(
    node: Node, fake: DriverHandle, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any, **_named: Any) -> Outcome:
        raise ZeroDivisionError

    fake.start(web(name="web1"))
    with monkeypatch.context() as patched:
        patched.setattr(module, "stop", broken)
        found = node.stop_all()
    assert "web1: the stop raised ZeroDivisionError" in str(found["web1"])


def test_an_instance_that_is_busy_is_waited_for(
    node: Node, fake: DriverHandle, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's shutdown cuts off what is not stopped: a detach may wait for its guest longer than others are patient."""
    fake.start(web(name="web1"))
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.01)
    monkeypatch.setattr(node, "_context", replace(node._context, busy_s=0.01))
    busy, waited = threading.Event(), threading.Event()

    def other() -> None:
        with node._context.store.lock("web1", "detach"):
            busy.set()
            waited.wait(60)

    holder = threading.Thread(target=other)
    holder.start()
    assert busy.wait(60)
    assert "busy" in str(node.stop_all(busy_s=0.0)["web1"])
    releasing = threading.Timer(0.2, waited.set)
    releasing.start()
    assert isinstance(node.stop_all()["web1"], Outcome)
    holder.join(60)


def test_wrong_arguments_are_refused_before_anything_is_stopped(node: Node, fake: DriverHandle, web: Web) -> None:
    fake.start(web(name="web1"))
    with pytest.raises(InputError):
        node.stop_all(deadline_s=-1.0)
    with pytest.raises(InputError):
        node.stop_all(busy_s=float("nan"))
    assert [one.state for one in node.instances()] == [State.RUNNING]
