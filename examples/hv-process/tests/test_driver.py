"""The behaviour of this driver alone; test_conformance.py has the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import hvcore
import hvcore.plugin as hv


@pytest.fixture
def node(tmp_path: Path) -> Iterator[hvcore.Node]:
    """A node without instances; those that a test leaves are stopped."""
    node = hvcore.Node(tmp_path / "run")
    yield node
    for info in node.instances():
        node.stop(info.name, force=True)


def web1(*command: str, **params: object) -> hvcore.Instance:
    """An instance of this driver."""
    values = {"command": list(command), **params}
    return hvcore.Instance(name="web1", driver="process", memory_mib=64, params=values)


def test_the_words_of_a_command_become_arguments_unchanged(node: hvcore.Node) -> None:
    words = ("echo", "--help; $(reboot)", "", "{ready}", "x", "x")
    plan = node.driver("process").plan(web1(*words))
    assert plan.argv[-len(words) :] == words
    assert plan.arguments[-1].origin.params == ("command",)


@pytest.mark.parametrize(
    ("params", "refused"),
    [
        ({"command": []}, "params.command: is empty; name a program"),
        ({"working_directory": "srv"}, "params.working_directory: .*give an absolute path"),
        ({"environment": ["9=1"]}, "params.environment: .*NAME=value"),
    ],
)
def test_a_wrong_parameter_is_refused(node: hvcore.Node, params: dict[str, object], refused: str) -> None:
    with pytest.raises(hvcore.ParamsError, match=refused):
        node.driver("process").check(web1("true", **params))


def test_disks_and_interfaces_are_refused_at_once(node: hvcore.Node) -> None:
    disks, nics = (hvcore.Disk(path="/srv/web1.img"),), (hvcore.Nic(),)
    instance = hvcore.Instance(name="web1", driver="process", disks=disks, nics=nics, params={"command": ["true"]})
    with pytest.raises(hvcore.ParamsError, match=r"(?s)disks: is not supported.*nics: is not supported"):
        node.driver("process").check(instance)


def test_a_directory_that_does_not_exist_is_reported_before_a_start(node: hvcore.Node, tmp_path: Path) -> None:
    with pytest.raises(hvcore.VerifyError, match=r"params\.writable: cannot be used"):
        node.driver("process").verify(web1("true", writable=[str(tmp_path), str(tmp_path / "none")]))


@pytest.mark.live
def test_the_program_has_its_variables_and_its_working_directory(node: hvcore.Node) -> None:
    script = 'echo "$PWD $ONE"; exec sleep infinity'
    node.driver("process").start(web1("bash", "-c", script, working_directory="/usr/share", environment=["ONE=a b"]))
    wait_for_word(node, "/usr/share a b")


@pytest.mark.live
def test_a_handler_of_sigterm_decides_the_end_of_the_program(node: hvcore.Node) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 100 & wait; done"
    node.driver("process").start(web1("bash", "-c", script, stop_after=60))
    wait_for_word(node, "hello")
    assert node.stop("web1").stopped_by == "powerdown"


@pytest.mark.live
def test_the_last_step_of_a_stop_is_sigkill(node: hvcore.Node) -> None:
    node.driver("process").start(web1("bash", "-c", "trap '' TERM; echo hello; sleep infinity", stop_after=0.1))
    wait_for_word(node, "hello")
    assert node.stop("web1").stopped_by == "kill"


@pytest.mark.live
def test_a_program_that_does_not_exist_fails_the_start_with_its_name(node: hvcore.Node) -> None:
    with pytest.raises(hvcore.LaunchError, match=r"exited with 127.*nosuch: not found"):
        node.driver("process").start(web1("nosuch"))
    with pytest.raises(hvcore.LaunchError, match="cd: /nosuch: No such file or directory"):
        node.driver("process").start(web1("true", working_directory="/nosuch"))
    assert node.instances() == []


@pytest.mark.live
def test_a_program_that_ends_at_once_is_not_a_breach_and_leaves_nothing(node: hvcore.Node) -> None:
    for _ in range(5):
        with contextlib.suppress(hvcore.LaunchError):  # when it ends before the proof of its confinement
            node.driver("process").start(web1("bash", "-c", "exit 3"))
            assert node.info("web1").state is not hvcore.State.STOPPED
        node.stop("web1")
    assert node.instances() == []


@pytest.mark.live
def test_an_instance_can_be_started_paused(node: hvcore.Node) -> None:
    node.driver("process").start(web1("sleep", "infinity"), paused=True)
    assert node.info("web1").state is hvcore.State.PAUSED
    node.resume("web1")
    assert node.info("web1").state is hvcore.State.RUNNING


@pytest.mark.live
def test_figures_include_the_child_processes(node: hvcore.Node) -> None:
    hungry = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo full; sleep 100 & wait"
    node.driver("process").start(web1("bash", "-c", hungry, enforce_limits=True))
    wait_for_word(node, "full")
    info = node.info("web1")
    assert info.memory_mib == 64
    assert (info.resident_mib or 0) >= 28
    assert (info.cpu_seconds or 0) > 0


@pytest.mark.live
def test_a_program_above_its_memory_limit_is_killed(node: hvcore.Node) -> None:
    """``tail`` keeps a line whole, however long it is."""
    node.driver("process").start(web1("tail", "/dev/zero", enforce_limits=True))
    pid = node.info("web1").pid
    process = None if pid is None else hv.identify(pid)
    assert process is None or hv.wait_gone(process, 30)
    assert node.info("web1").state is hvcore.State.CRASHED


def wait_for_word(node: hvcore.Node, word: str) -> None:
    """Follow its log up to that word."""
    for piece in hvcore.log_pieces(node.log("web1").path, follow=True):
        if word.encode() in piece:
            return
