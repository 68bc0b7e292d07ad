"""Buttons and keys: what is legal when, what changes, and what is refused before anything is pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hvcore import DeadlineError, DriverHandle, InputError, Instance, Node, NotFoundError, State, StateError
from hvcore.errors import UnsupportedError

WEB = Instance(name="web1", driver="fake")
PRESSES: dict[str, Callable[[Node], Any]] = {
    "reset": lambda node: node.reset("web1"),
    "powerdown": lambda node: node.powerdown("web1"),
    "send-key": lambda node: node.send_keys("web1", "a"),
    "nmi": lambda node: node.nmi("web1"),
}


def bindings(node: Node) -> dict[str, Any]:
    record = node._context.store.load("web1")
    assert record is not None
    return record.bindings


@pytest.mark.parametrize("press", PRESSES)
def test_what_does_not_run_has_no_buttons(node: Node, fake: DriverHandle, press: str) -> None:
    with pytest.raises(NotFoundError):
        PRESSES[press](node)


@pytest.mark.parametrize("press", ["powerdown", "send-key", "nmi"])
def test_a_paused_guest_cannot_react(node: Node, fake: DriverHandle, press: str) -> None:
    fake.start(WEB, paused=True)
    with pytest.raises(StateError, match="resume"):
        PRESSES[press](node)


def test_a_reset_leaves_the_state_as_it_is(node: Node, fake: DriverHandle) -> None:
    fake.start(WEB, paused=True)
    assert (node.reset("web1").state, node.info("web1").state) == (State.PAUSED, State.PAUSED)
    node.resume("web1")
    outcome = node.reset("web1")
    assert (outcome.changed, outcome.state, node.info("web1").state) == (True, State.RUNNING, State.RUNNING)
    assert bindings(node)["resets"] == 2


def test_a_power_button_is_pressed_once_and_a_guest_that_is_off_stays_off(node: Node, fake: DriverHandle) -> None:
    fake.start(WEB)
    assert node.powerdown("web1").changed
    assert node.info("web1").state is State.SHUTDOWN
    again = node.powerdown("web1")
    assert (again.changed, again.state) == (False, State.SHUTDOWN)
    with pytest.raises(StateError):
        node.reset("web1")


def test_a_wait_for_the_guest_ends_with_its_shutdown_or_with_the_deadline(node: Node, fake: DriverHandle) -> None:
    fake.start(WEB)
    assert node.powerdown("web1", wait=True).state is State.SHUTDOWN
    node.cleanup("web1")
    fake.start(Instance(name="web1", driver="fake", params={"ignores_powerdown": True}))
    with pytest.raises(DeadlineError, match="state crashed or shutdown or stopped"):
        node.powerdown("web1", wait=True, deadline_s=0.2)
    assert node.info("web1").state is State.RUNNING


@pytest.mark.parametrize(
    "keys", [[], [""], ["a b"], ["-"], ["a-"], ["-a"], ["A"], ["a\n"], ["ü"], ["a"] * 65, [7.5], ["a", "no_such_key"]]
)
def test_wrong_keys_are_refused_before_any_is_pressed(node: Node, fake: DriverHandle, keys: list[Any]) -> None:
    fake.start(WEB)
    with pytest.raises(InputError):
        node.send_keys("web1", *keys)
    assert "keys" not in bindings(node)


def test_keys_reach_the_driver_in_order(node: Node, fake: DriverHandle) -> None:
    fake.start(WEB)
    node.send_keys("web1", "ctrl-alt-delete", "r", "ret")
    assert bindings(node)["keys"] == ["ctrl-alt-delete", "r", "ret"]


def test_a_machine_without_interrupts_says_so(node: Node, fake: DriverHandle) -> None:
    fake.start(WEB)
    with pytest.raises(UnsupportedError, match="no CPU to interrupt") as caught:
        node.nmi("web1")
    assert caught.value.exit_code == 3
