"""What running instances use, for all of them by one deadline, whatever a driver does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest

import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver
from hvcore import Instance, NotFoundError, State
from hvcore.deadline import Deadline
from hvcore.operations.context import Context
from hvcore.operations.in_time import OverdueError, side_by_side
from hvcore.operations.inspection.measure import usage
from hvcore.operations.lifecycle.pause import pause
from hvcore.operations.lifecycle.start import start
from hvcore.plugins.loaded_driver import LoadedDriver

Made = Callable[[type], Context]


@pytest.fixture
def made(load: Callable[..., LoadedDriver], context: Callable[..., Context]) -> Made:
    """A node with three instances of that driver: web1 and web2 run, web3 is paused."""

    def make(driver_class: type) -> Context:
        loaded = load(driver_class)
        node = context(loaded)
        for name in ("web2", "web1", "web3"):
            start(node, loaded, Instance(name=name, driver="fake", vcpus=2), paused=False, deadline=Deadline(30))
        pause(node, "web3", deadline=Deadline(30))
        return node

    return make


def problems(node: Context, deadline_s: float = 30.0) -> dict[str, str | None]:
    return {one.name: one.problem for one in usage(node, (), deadline=Deadline(deadline_s))}


def test_every_running_and_paused_instance_is_measured_in_the_order_of_names(made: Made) -> None:
    found = usage(made(FakeDriver), (), deadline=Deadline(30))
    assert [(one.name, one.state, one.problem) for one in found] == [
        ("web1", State.RUNNING, None),
        ("web2", State.RUNNING, None),
        ("web3", State.PAUSED, None),
    ]
    assert {(one.driver, one.memory_mib, one.vcpus, one.cpu_seconds) for one in found} == {("fake", 128, 2, 0.0)}


def test_names_choose_and_an_unknown_one_is_an_error(made: Made) -> None:
    node = made(FakeDriver)
    assert [one.name for one in usage(node, ("web2", "web2"), deadline=Deadline(30))] == ["web2"]
    with pytest.raises(NotFoundError, match="web9"):
        usage(node, ("web1", "web9"), deadline=Deadline(30))


class Unmeasured:
    """A driver that only starts and stops."""

    name: ClassVar[str] = "fake"
    plugins = FakeDriver.plugins
    hookspecs = FakeDriver.hookspecs

    def __init__(self, hooks: hv.Hooks) -> None:
        self.fake = FakeDriver(hooks)
        for method in ("plan", "verify", "describe", "start", "observe", "stop", "pause", "resume"):
            setattr(self, method, getattr(self.fake, method))

    def pause(self, live: hv.Live, job: hv.Job) -> None: ...
    def resume(self, live: hv.Live, job: hv.Job) -> None: ...


def test_a_driver_that_does_not_measure_leaves_what_is_observed(made: Made) -> None:
    (found, *_) = usage(made(Unmeasured), (), deadline=Deadline(30))
    assert (found.memory_mib, found.vcpus, found.problem) == (128, 2, None)


class Wrong(FakeDriver):
    answers: ClassVar[Any] = ()

    def usage(self, lives: Sequence[hv.Live], deadline: hv.Deadline) -> Any:
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ([hv.Usage()], "usage raised TypeError: 1 answers for 3 instances; report this"),
        (None, "usage raised TypeError: 'NoneType' object is not iterable"),
        (ValueError("a bug"), "driver fake: usage raised ValueError: a bug; report this to its authors"),
        (hv.OperationError("the node has no counters; load them"), "the node has no counters; load them"),
    ],
)
def test_a_driver_that_fails_gives_every_instance_the_problem(made: Made, answers: Any, wanted: str) -> None:
    found = problems(made(type("Failing", (Wrong,), {"answers": answers})))
    assert set(found) == {"web1", "web2", "web3"}
    assert all(problem is not None and wanted in problem for problem in found.values())


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (hv.Usage(cpu_seconds=float("nan")), "its usage has cpu_seconds = nan, not a number of at least 0 or None"),
        (hv.Usage(memory_mib=-1), "its usage has memory_mib = -1"),
        (hv.Usage(guest={"free_mib": True}), "its usage has guest['free_mib'] = True"),
        (
            hv.Usage(disks=(hv.DiskUse(disk="disk0", reads=0, writes=0, read_bytes=-3, written_bytes=0),)),
            "its usage has disk0.read_bytes = -3",
        ),
        ("much", "its usage is 'much', not an hvcore.plugin.Usage"),
    ],
)
def test_an_answer_that_no_program_can_use_is_a_problem_of_that_instance_only(
    made: Made, answer: Any, wanted: str
) -> None:
    good = hv.Usage(memory_mib=7)
    found = problems(made(type("Odd", (Wrong,), {"answers": [good, answer, good]})))
    assert (found["web1"], found["web3"]) == (None, None)
    assert found["web2"] is not None
    assert wanted in found["web2"]


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Set at the end of the test, so that no thread is left behind."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "observe":
            thread.join(30)


def test_a_driver_that_hangs_costs_one_deadline_and_no_second_thread(made: Made, hang: threading.Event) -> None:
    class Hanging(FakeDriver):
        def usage(self, lives: Sequence[hv.Live], deadline: hv.Deadline) -> Sequence[hv.Usage]:
            hang.wait(60)
            return ()

    node = made(Hanging)
    begun = time.monotonic()
    assert all("did not measure its instances in time" in str(problem) for problem in problems(node, 0.2).values())
    threads = threading.active_count()
    assert all("did not measure its instances in time" in str(problem) for problem in problems(node, 30.0).values())
    assert threading.active_count() == threads
    assert time.monotonic() - begun < 50.0


def test_calls_side_by_side_share_one_limit(hang: threading.Event) -> None:
    begun = time.monotonic()

    def fails() -> int:
        raise ValueError("no")

    found = side_by_side([lambda: hang.wait(60), fails, lambda: hang.wait(60), lambda: 4], 0.3)
    assert time.monotonic() - begun < 50.0
    assert isinstance(found[0], OverdueError)
    assert isinstance(found[1], ValueError)
    assert isinstance(found[2], OverdueError)
    assert found[3] == 4
    assert side_by_side([], 0.0) == []
