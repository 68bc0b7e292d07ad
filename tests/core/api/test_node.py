"""`Node` for programs: every call from the node alone, answers that leave the process, and options of one call."""

from __future__ import annotations

import collections.abc
import inspect
import json
import re
import threading
import typing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Web

import hvcore
from hv_fake.plugin import FakeDriver
from hvcore import BusyError, DeadlineError, DriverHandle, InputError, NotFoundError, Op, Outcome, State
from hvcore.api.node import Node
from hvcore.deadline import Deadline
from hvcore.operations.lifecycle.pause import pause
from hvcore.operations.lifecycle.start import start
from hvcore.state.store import Store


def test_a_node_starts_an_instance_with_the_driver_that_it_names(node: Node, web: Web) -> None:
    assert node.start(web(), paused=True).state is State.PAUSED
    assert node.info("web1").driver == "fake"


def test_what_runs_can_be_read_written_and_checked_again(node: Node) -> None:
    wanted = hvcore.Instance(
        name="web1",
        driver="fake",
        disks=(hvcore.Disk(path="/srv/a.img"),),
        nics=(hvcore.Nic(),),
        params={"motd": "hi"},
    )
    node.start(wanted)
    found = node.instance("web1")
    assert found == wanted
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert node.check(data) == wanted
    with pytest.raises(NotFoundError):
        node.instance("web2")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (int("f" * 6000, 16), "a number too long to show"),
        ([[[[[[[["deep"]]]]]]]], "[[[[...]]]]"),
        ("a\x1b[2J\0", r"'a\x1b[2J\x00'"),
        ("x" * 200, "x" * 80),
    ],
    ids=["number", "deep", "control", "long"],
)
def test_a_name_that_is_none_is_shown_in_the_error(node: Node, name: object, shown: str) -> None:
    with pytest.raises(hvcore.ParamsError) as caught:
        node.check({"name": name, "driver": "fake"})
    assert str(caught.value).startswith(f"{shown}: ")


@pytest.mark.parametrize("state", ["paused", State.PAUSED, ["crashed", "paused"], {State.PAUSED}])
def test_a_state_that_holds_already_is_not_waited_for(node: Node, web: Web, state: Any) -> None:
    node.start(web(), paused=True)
    assert node.wait("web1", state=state, deadline_s=0).state is State.PAUSED


def test_a_state_that_another_program_causes_ends_the_wait(run_dir: Path, node: Node, web: Web) -> None:
    other = Node(run_dir)
    with ThreadPoolExecutor(1) as pool:
        up = pool.submit(node.wait, "web1", state="running", deadline_s=30)
        other.start(web())
        assert up.result().state is State.RUNNING
        gone = pool.submit(node.wait, "web1", state=State.STOPPED, deadline_s=30)
        other.stop("web1")
        assert gone.result().state is State.STOPPED


def test_a_wait_ends_at_its_deadline_and_says_what_is(node: Node, web: Web) -> None:
    node.start(web())
    with pytest.raises(DeadlineError, match=r"web1: no state crashed or paused within 0\.1 s; it is running"):
        node.wait("web1", state=("paused", "crashed"), deadline_s=0.1)


@pytest.mark.parametrize("state", ["runing", "", (), ["running", "up"]])
def test_a_state_that_does_not_exist_is_refused(node: Node, state: Any) -> None:
    with pytest.raises(InputError, match=r"^state: "):
        node.wait("web1", state=state)


def test_nothing_is_waited_for_when_the_caller_does_not_want_to(run_dir: Path, node: Node, web: Web) -> None:
    node.start(web())
    calls: list[Callable[[], Outcome]] = [
        lambda: node.stop("web1", busy_s=0),
        lambda: node.stop("web1", force=True, busy_s=0),
        lambda: node.reboot("web1", busy_s=0),
        lambda: node.pause("web1", busy_s=0),
        lambda: node.resume("web1", busy_s=0),
        lambda: node.cleanup("web1", busy_s=0),
        lambda: node.start(web(), busy_s=0),
        lambda: node.driver("fake").stop("web1", busy_s=0),
    ]
    with Store(run_dir).lock("web1", "cleanup"):
        for call in calls:
            with pytest.raises(BusyError, match=r"web1: busy, held by pid [0-9]+ \(cleanup web1\)") as raised:
                call()
            assert raised.value.waited_s == 0
    for value in (float("nan"), -1, "5", True):
        with pytest.raises(InputError, match=r"^busy_s: must be a number of seconds"):
            node.recover(busy_s=value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected argument busy"):
        node.stop("web1", busy=0)  # type: ignore[call-arg]


def test_the_progress_of_a_call_says_of_which_instance_and_operation_it_is(
    load: Any, context: Any, run_dir: Path
) -> None:
    said: list[tuple[str, str, str]] = []
    node = Node(run_dir)
    of_node: list[str] = []
    node._context = replace(context(load(_talking_driver())), progress=of_node.append)
    loaded = node._context.driver("fake")
    start(
        node._context.for_call("web1", "start", {"progress": lambda *given: said.append(given)}),
        loaded,
        hvcore.Instance(name="web1", driver="fake"),
        paused=False,
        deadline=Deadline(10),
    )
    pause(node._context, "web1", deadline=Deadline(10))
    node.stop("web1", progress=lambda *given: said.append(given))
    assert said == [("web1", "start", "starting"), ("web1", "stop", "stopping")]
    assert of_node == ["pausing"]


def _talking_driver() -> type:
    class Talking(FakeDriver):
        def start(self, spec: Any, job: Any) -> None:
            job.progress("starting")
            super().start(spec, job)

        def stop(self, live: Any, job: Any, *, force: bool) -> str:
            job.progress("stopping")
            return super().stop(live, job, force=force)

        def pause(self, live: Any, job: Any) -> None:
            job.progress("pausing")
            super().pause(live, job)

    return Talking


def test_answers_can_be_read_by_people(run_dir: Path, node: Node, fake: DriverHandle) -> None:
    stopped = Outcome(name="web1", op=Op.STOP, changed=True, state=State.STOPPED, stopped_by="powerdown", seconds=0.244)
    assert str(stopped) == "web1: stopped (powerdown, 0.24 s)"
    assert str(Outcome(name="web1", op=Op.START, changed=False, state=State.RUNNING)) == "web1: running, nothing to do"
    assert re.fullmatch(rf"Node\('{run_dir}', config_dir='.+'\)", repr(node))
    assert repr(fake) == "DriverHandle('fake')"


def test_every_answer_is_plain_json(node: Node, fake: DriverHandle, web: Web) -> None:
    node.start(web())
    answers: list[Any] = [
        *(node.instance("web1"), node.info("web1"), node.console("web1"), node.execution("web1", ["true"])),
        *(fake.check(web()), fake.plan(web()), node.pause("web1"), *fake.parameters(), *fake.instance_keys()),
        hvcore.Log(name="web1", path="/log"),
    ]
    for answer in answers:
        found = answer.to_json()
        assert json.loads(json.dumps(found, allow_nan=False)) == found, answer


STANDARD = {*vars(collections.abc), *vars(typing), "None", "Path", "Self"}


def test_every_type_that_a_public_call_returns_is_public() -> None:
    public = {name: getattr(hvcore, name) for name in dir(hvcore) if not name.startswith("_")}
    missing = set()
    for thing in public.values():
        functions = [thing] if inspect.isfunction(thing) else []
        if inspect.isclass(thing):
            functions = [member for name, member in inspect.getmembers(thing, inspect.isfunction) if name[0] != "_"]
        for function in functions:
            words = set(re.findall(r"\b[A-Z]\w+", str(function.__annotations__.get("return", ""))))
            missing |= {f"{function.__qualname__}: {word}" for word in words - public.keys() - STANDARD}
    assert not missing


def test_a_progress_of_one_call_is_not_that_of_another_thread(node: Node, web: Web) -> None:
    names = [f"web{number}" for number in range(1, 9)]
    said: list[str] = []
    lock = threading.Lock()

    def note(name: str, op: str, text: str) -> None:
        with lock:
            said.append(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: node.start(web(name), progress=note), names))
    assert set(said) <= set(names)
