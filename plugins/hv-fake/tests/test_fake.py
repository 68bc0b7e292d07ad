"""The driver as a host application uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

import hvcore


@pytest.fixture
def node(tmp_path: Path) -> hvcore.Node:
    """A node without instances."""
    return hvcore.Node(tmp_path / "run")


def test_a_guest_that_ignores_a_powerdown_is_killed(node: hvcore.Node) -> None:
    instance = hvcore.Instance(name="web1", driver="fake", params={"ignores_powerdown": True})
    node.driver("fake").start(instance)
    assert node.stop("web1").stopped_by == "kill"


def test_console_prints_the_message_of_the_day(node: hvcore.Node) -> None:
    node.driver("fake").start(hvcore.Instance(name="web1", driver="fake", params={"motd": "good morning"}))
    assert node.console("web1").argv[-1] == "good morning"


@pytest.mark.parametrize("step", ["verify", "acquire", "start"])
def test_a_start_that_fails_leaves_nothing(node: hvcore.Node, step: str) -> None:
    with pytest.raises(hvcore.HvError, match=r"fails on purpose"):
        node.driver("fake").start(hvcore.Instance(name="web1", driver="fake", params={"fail_at": step}))
    assert node.instances() == []
