"""Changes of a running instance's size and CPUs: what the outcome says, and what a reboot has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver
from hvcore import Instance, NotFoundError, State, StateError, UnsupportedError
from hvcore.deadline import Deadline
from hvcore.errors import DriverError, InputError, OperationError
from hvcore.model.state import Op
from hvcore.model.tuned import Pins, Resized, checked_pins
from hvcore.operations.context import Context
from hvcore.operations.lifecycle.pause import pause
from hvcore.operations.lifecycle.start import start
from hvcore.operations.tuning.pin import pin
from hvcore.operations.tuning.resize import balloon, resize_memory, resize_vcpus
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.state.store import Store

Made = Callable[[type], Context]


@pytest.fixture
def made(load: Callable[..., LoadedDriver], context: Callable[..., Context]) -> Made:
    """A node with instance web1 of that driver, which runs with 128 MiB and one vCPU."""

    def make(driver_class: type) -> Context:
        loaded = load(driver_class)
        node = context(loaded)
        start(node, loaded, Instance(name="web1", driver="fake"), paused=False, deadline=Deadline(30))
        return node

    return make


def recorded(node: Context) -> hv.Record:
    record = node.store.load("web1")
    assert record is not None
    return record


def soon() -> Deadline:
    return Deadline(30)


def test_a_balloon_says_what_it_changed_and_the_instance_keeps_its_memory(made: Made) -> None:
    node = made(FakeDriver)
    first = balloon(node, "web1", 64, deadline=soon())
    assert (first.changed, first.asked, first.before, first.after, first.reached) == (True, 64, 128, 64, True)
    again = balloon(node, "web1", 64, deadline=soon())
    assert (again.changed, again.before, again.seconds) == (False, 64, 0.0)
    assert str(again) == "web1: already has 64 MiB"
    assert recorded(node).spec["balloon_mib"] == 64
    assert recorded(node).instance.memory_mib == 128


@pytest.mark.parametrize(("act", "key"), [(resize_memory, "memory_mib"), (resize_vcpus, "vcpus")])
def test_a_resize_changes_the_instance_that_a_reboot_starts(made: Made, act: Any, key: str) -> None:
    node = made(FakeDriver)
    assert act(node, "web1", 200, deadline=soon()).changed
    record = recorded(node)
    assert (getattr(record.instance, key), record.spec[key]) == (200, 200)
    assert not act(node, "web1", 200, deadline=soon()).changed


class Slow(FakeDriver):
    """Its guests reach half of the way."""

    def resize_vcpus(self, live: hv.Live, job: hv.Job, vcpus: int) -> hv.Reached:
        before = live.record.spec["vcpus"]
        assert recorded_while(job) == vcpus  # it is on disk before anything is changed
        return hv.Reached(before=before, after=(before + vcpus) // 2, note="the guest keeps the rest")


def recorded_while(job: hv.Job) -> int:
    record = Store(job.host.run_dir).load(job.name)
    assert record is not None
    return record.instance.vcpus


def test_what_a_guest_did_not_reach_is_said_and_recorded(made: Made) -> None:
    node = made(Slow)
    outcome = resize_vcpus(node, "web1", 5, deadline=soon())
    assert (outcome.changed, outcome.reached, outcome.after) == (True, False, 3)
    assert outcome.notes == ("the guest keeps the rest",)
    assert str(outcome).startswith("web1: asked for 5 vcpus, has 3 vcpus after ")
    assert recorded(node).instance.vcpus == 3
    assert outcome.to_json() | {"seconds": 0} == {
        "name": "web1",
        "op": "vcpus",
        "changed": True,
        "state": "running",
        "stopped_by": None,
        "seconds": 0,
        "clean": None,
        "notes": ["the guest keeps the rest"],
        "device": None,
        "asked": 5,
        "before": 1,
        "after": 3,
    }


class Failing(FakeDriver):
    error: ClassVar[Exception] = OperationError("web1: the machine has no place; give less")

    def resize_memory(self, live: hv.Live, job: hv.Job, memory_mib: int) -> hv.Reached:
        job.bind(half="done")
        raise self.error


@pytest.mark.parametrize("error", [Failing.error, RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_resize_that_fails_leaves_the_instance_as_it_was(made: Made, error: BaseException) -> None:
    node = made(type("Fails", (Failing,), {"error": error}))
    with pytest.raises((OperationError, DriverError, KeyboardInterrupt)):
        resize_memory(node, "web1", 512, deadline=soon())
    assert recorded(node).instance.memory_mib == 128
    assert balloon(node, "web1", 100, deadline=soon()).changed


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "64", 1 << 40])
@pytest.mark.parametrize("act", [balloon, resize_memory, resize_vcpus])
def test_what_is_no_size_is_refused(made: Made, act: Any, size: Any) -> None:
    with pytest.raises(InputError, match="must be a whole number from 1 to 67108864, got"):
        act(made(FakeDriver), "web1", size, deadline=soon())


class Fixed:
    """A driver that only starts and stops."""

    name: ClassVar[str] = "fake"
    plugins = FakeDriver.plugins
    hookspecs = FakeDriver.hookspecs

    def __init__(self, hooks: hv.Hooks) -> None:
        fake = FakeDriver(hooks)
        for method in ("plan", "verify", "describe", "start", "observe", "stop"):
            setattr(self, method, getattr(fake, method))


def test_a_driver_that_cannot_is_named(made: Made) -> None:
    node = made(Fixed)
    for act in (balloon, resize_memory, resize_vcpus):
        with pytest.raises(UnsupportedError, match="driver fake: does not support"):
            act(node, "web1", 64, deadline=soon())
    with pytest.raises(UnsupportedError, match="does not support pin"):
        pin(node, "web1", Pins(mask="0"), deadline=soon())
    assert recorded(node).instance.memory_mib == 128


def test_an_unknown_instance_is_not_found(made: Made) -> None:
    node = made(FakeDriver)
    with pytest.raises(NotFoundError, match="web9"):
        balloon(node, "web9", 64, deadline=soon())
    with pytest.raises(NotFoundError, match="web9"):
        pin(node, "web9", Pins(mask="0"), deadline=soon())


def test_pins_are_kept_and_the_same_ones_change_nothing(made: Made) -> None:
    node = made(FakeDriver)
    wanted = Pins(mask="3,0-1", vcpus={0: "2"}, emulator="all")
    assert pin(node, "web1", wanted, deadline=soon()).changed
    assert recorded(node).spec["pins"] == {"mask": "0-1,3", "vcpu0": "2", "emulator": "all"}
    outcome = pin(node, "web1", wanted, deadline=soon())
    assert (outcome.changed, outcome.state, outcome.seconds) == (False, State.RUNNING, 0.0)
    with pytest.raises(InputError, match="has no vCPU 1"):
        pin(node, "web1", Pins(vcpus={1: "0"}), deadline=soon())


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        (Pins(), "web1: no CPUs, got nothing to pin; give a list of CPUs such as '0-3'"),
        (Pins(mask="0-"), "web1: mask: .*got '0-'"),
        (Pins(emulator="0:1"), "web1: emulator: .*got '0:1'"),
        (Pins(iothreads="9999"), "web1: iothreads: .*got '9999'"),
        (Pins(vcpus={0: "3-1"}), r"web1: vcpus\[0\]: .*got '3-1'"),
        (Pins(vcpus={-1: "0"}), "web1: vcpus: must be numbers of vCPUs from 0, got -1"),
    ],
)
def test_what_is_no_list_of_cpus_is_refused(pins: Pins, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_pins("web1", pins)


def test_an_outcome_in_words() -> None:
    done = Resized(
        name="web1", op=Op.MEMORY, changed=True, state=State.RUNNING, seconds=0.5, asked=2, before=1, after=2
    )
    assert str(done) == "web1: 2 MiB (0.50 s)"


def test_the_guest_has_to_run_for_a_resize(made: Made) -> None:
    node = made(FakeDriver)
    pause(node, "web1", deadline=soon())
    with pytest.raises(StateError, match="cannot balloon while paused"):
        balloon(node, "web1", 64, deadline=soon())
    assert pin(node, "web1", Pins(mask="0"), deadline=soon()).state is State.PAUSED
