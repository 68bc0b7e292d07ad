"""What follows an end: on_crash and on_shutdown of the instance's file, with a limit of restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvcore import Instance, Node, State, load_instance
from hvcore.errors import StateError
from hvcore.model.record import Phase
from hvcore.operations.lifecycle.act import MOST_RESTARTS

START = Callable[..., Path]


@pytest.fixture
def started(node: Node, tmp_path: Path) -> START:
    """Starts an instance from a file with these lines, and gives the file."""

    def start(name: str = "web1", *lines: str) -> Path:
        file = tmp_path / f"{name}.toml"
        file.write_text("\n".join([f'name = "{name}"', 'driver = "fake"', *lines, ""]))
        file.chmod(0o600)
        node.driver("fake").start(load_instance(file), source=file)
        return file

    return start


def end(node: Node, guest: str = "crashed", name: str = "web1", **changes: Any) -> None:
    """The guest ends on its own."""
    store = node._context.store
    record = store.load(name)
    assert record is not None
    store.save(replace(record, bindings={**record.bindings, "guest": guest}, **changes))


def done(node: Node, *names: str) -> list[tuple[str, str]]:
    return [(one.name, one.what) for one in node.act(names or None)]


def test_nothing_follows_by_default(node: Node, started: START) -> None:
    started()
    for guest in ("crashed", "shutdown"):
        end(node, guest)
        assert done(node) == []
        assert str(node.info("web1").state) == guest


@pytest.mark.parametrize(
    ("line", "guest", "what", "state"),
    [
        ('on_crash = "restart"', "crashed", [("web1", "restarted")], State.RUNNING),
        ('on_crash = "restart"', "shutdown", [], State.SHUTDOWN),
        ('on_shutdown = "cleanup"', "shutdown", [("web1", "cleaned")], None),
        ('on_shutdown = "cleanup"', "crashed", [], State.CRASHED),
        # A fake guest is shut down by its power button only: someone wants it to be off.
        ('on_shutdown = "restart"', "shutdown", [], State.SHUTDOWN),
        ('on_crash = "restart"', "running", [], State.RUNNING),
        ('on_crash = "restart"', "paused", [], State.PAUSED),
    ],
)
def test_each_end_is_followed_by_what_the_file_says(
    node: Node, started: START, line: str, guest: str, what: list[tuple[str, str]], state: State | None
) -> None:
    started("web1", line)
    end(node, guest)
    assert done(node) == what
    assert [one.state for one in node.instances()] == ([] if state is None else [state])
    assert done(node) == []


def test_the_file_counts_as_it_is_now(node: Node, started: START) -> None:
    file = started()
    end(node)
    file.write_text(file.read_text() + 'on_crash = "restart"\n')
    assert done(node, "web1") == [("web1", "restarted")]


def test_restarts_are_limited_and_giving_up_is_said_once(node: Node, started: START, run_dir: Path) -> None:
    started("web1", 'on_crash = "restart"')
    for _ in range(MOST_RESTARTS):
        end(node)
        assert done(node) == [("web1", "restarted")]
    end(node)
    assert done(node) == [("web1", "gave up")]
    assert done(node) == []
    assert node.info("web1").state is State.CRASHED
    file = run_dir / "restarts" / "web1"
    old = [one - 700 for one in json.loads(file.read_text())["times"]]
    file.write_text(json.dumps({"times": old, "gave_up": True}))
    assert done(node) == [("web1", "restarted")]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"times": 7}', '{"times": ["x"]}', '{"times": [1e999, -1]}', "\0"])
def test_a_damaged_file_of_restarts_does_no_harm(node: Node, started: START, run_dir: Path, content: str) -> None:
    started("web1", 'on_crash = "restart"')
    end(node)
    (run_dir / "restarts").mkdir(mode=0o700)
    (run_dir / "restarts" / "web1").write_text(content)
    assert done(node) == [("web1", "restarted")]


def test_an_old_file_of_restarts_is_removed(node: Node, run_dir: Path) -> None:
    (run_dir / "restarts").mkdir(mode=0o700, parents=True)
    run_dir.chmod(0o700)
    (run_dir / "restarts" / "gone").write_text('{"times": [1]}')
    assert done(node) == []
    assert list((run_dir / "restarts").iterdir()) == []


def test_a_file_that_is_gone_or_wrong_fails_and_stops_no_other(node: Node, started: START) -> None:
    started("a", 'on_crash = "restart"').unlink()
    started("b", 'on_crash = "restart"').write_text("[")
    started("c", 'on_crash = "restart"')
    for name in "abc":
        end(node, name=name)
    assert done(node) == [("a", "failed"), ("b", "failed"), ("c", "restarted")]


def test_an_instance_without_a_file_is_kept(node: Node) -> None:
    node.driver("fake").start(Instance(name="web1", driver="fake"))
    end(node)
    assert done(node) == []


def test_the_end_of_the_node_is_not_followed(node: Node, started: START) -> None:
    started("web1", 'on_crash = "restart"')
    end(node, boot_id="00000000-0000-4000-8000-000000000000")
    assert done(node) == []


def test_what_another_operation_holds_is_left_alone(node: Node, started: START) -> None:
    started("web1", 'on_crash = "restart"')
    end(node)
    with node._context.store.lock("web1", "stop"):
        assert done(node) == []


def test_a_restart_never_reboots_an_instance_that_runs_again(node: Node, started: START) -> None:
    from hvcore.deadline import Deadline
    from hvcore.operations.lifecycle.reboot import reboot

    started("web1", 'on_crash = "restart"')
    deadline = Deadline(60)
    with pytest.raises(StateError):
        reboot(node._context, "web1", force=True, deadline=deadline, start_deadline=deadline, only_ended=True)
    assert node.info("web1").state is State.RUNNING


def test_a_reboot_that_could_not_start_it_is_tried_again(node: Node, started: START) -> None:
    started("web1", 'on_crash = "restart"')
    end(node, phase=Phase.ENDED)
    assert done(node) == [("web1", "restarted")]
    assert node.info("web1").state is State.RUNNING


@pytest.mark.parametrize("line", ['on_crash = "cleanup"', "on_crash = true", 'on_shutdown = "reboot"'])
def test_wrong_values_are_refused_with_the_file(node: Node, started: START, line: str) -> None:
    with pytest.raises(Exception, match=r"on_(crash|shutdown)"):
        started("web1", line)
