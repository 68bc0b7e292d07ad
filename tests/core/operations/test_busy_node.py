"""On a busy node the end of a killed process takes as long as the operation has, not a fixed time."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from sleeper import Sleeper

import hvcore
from hvcore.deadline import Deadline
from hvcore.host.hurry import HurriedDeadline
from hvcore.operations.context import Context
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.resources import control_group, instance_process, network_scripts, program


def test_a_wait_has_the_time_of_its_operation_and_never_less_than_it_needs() -> None:
    assert Deadline(0).left(at_least=5.0) == 5.0
    assert 50 < Deadline(60).left(at_least=5.0) <= 60
    assert Deadline(60).left(10.0, at_least=5.0) == 10.0
    ours, theirs = os.pipe()
    try:
        hurried = HurriedDeadline(Deadline(60), ours)
        os.set_blocking(ours, False)
        assert hurried.left(at_least=5.0) > 50
        os.write(theirs, b"x")
        assert (hurried.left(), hurried.left(at_least=5.0)) == (0.0, 5.0)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_stop_needs_no_fixed_time_for_what_it_kills(
    load: Callable[..., LoadedDriver], context: Callable[[LoadedDriver], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the node were so busy that every fixed time is over at once."""
    for module in (control_group, instance_process, program):
        monkeypatch.setattr(module, "_KILL_S", 0.0)
    monkeypatch.setattr(instance_process, "_MONITOR_S", 0.0)
    monkeypatch.setattr(network_scripts, "_END_S", 0.0)

    class Ended(Sleeper):
        """Ends nothing itself: the release has to kill."""

        def stop(self, *_: object, **__: object) -> str:
            return "kill"

    loaded = load(Ended)
    node = context(loaded)
    for _ in range(3):
        instance = hvcore.Instance(name="web1", driver="fake")
        start(node, loaded, instance, paused=False, deadline=Deadline(60))
        assert stop(node, "web1", force=False, deadline=Deadline(60)).changed
    assert node.store.names() == []
