"""Drivers that lack an ability, have more of them, or are wrong: the core answers for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import hvcore
import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver
from hvcore import Instance, LeftoverError, Node, NotFoundError, State, UnsupportedError
from hvcore.deadline import Deadline
from hvcore.model.record import Phase
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import infos
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.pause import pause
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.operations.recovery.recover import recover_all
from hvcore.plugin import (
    DiskClaim,
    Entry,
    Held,
    Identity,
    Job,
    Level,
    Link,
    Live,
    Owner,
    Resource,
    ResourceKind,
    Site,
    Turn,
)
from hvcore.plugins.loaded_driver import LoadedDriver

WEB = Instance(name="web1", driver="fake")


class Plain:
    """The fake driver without anything that is not required."""

    name: ClassVar[str] = "fake"
    plugins = FakeDriver.plugins
    hookspecs = FakeDriver.hookspecs

    def __init__(self, hooks: hv.Hooks) -> None:
        self.fake = FakeDriver(hooks)
        for method in ("plan", "verify", "describe", "start", "observe", "stop"):
            if not hasattr(type(self), method):
                setattr(self, method, getattr(self.fake, method))


@pytest.fixture
def made(load: Callable[..., LoadedDriver], context: Callable[..., Context]) -> Callable[[type], Any]:
    def make(driver_class: type) -> tuple[Context, LoadedDriver]:
        loaded = load(driver_class)
        return context(loaded), loaded

    return make


def up(node: Context, loaded: LoadedDriver) -> None:
    start(node, loaded, WEB, paused=False, deadline=Deadline(10))


def interrupt(node: Context, phase: Phase) -> None:
    record = node.store.load("web1")
    assert record is not None
    node.store.save(replace(record, phase=phase))


def test_an_ability_that_the_driver_lacks_is_answered_by_the_core(made: Any) -> None:
    node, loaded = made(Plain)
    up(node, loaded)
    with pytest.raises(UnsupportedError, match="driver fake: does not support pause") as caught:
        pause(node, "web1", deadline=Deadline(10))
    assert caught.value.exit_code == 3
    assert observed(node, "web1").state is State.RUNNING
    assert hvcore.plugins.protocols.capabilities(loaded.driver) == ()


def test_an_interrupted_start_that_had_succeeded_is_finished(made: Any) -> None:
    class Adopting(FakeDriver):
        answer = True

        def adopt(self, live: Live, job: Job) -> bool:
            job.bind(adopted=True)
            return self.answer

    node, loaded = made(Adopting)
    up(node, loaded)
    interrupt(node, Phase.STARTING)
    assert [(result.what, result.detail) for result in recover_all(node, 10)] == [
        ("finished", "its start had succeeded, it runs")
    ]
    assert observed(node, "web1").state is State.RUNNING
    record = node.store.load("web1")
    assert record is not None
    assert record.bindings["adopted"] is True
    Adopting.answer = False
    interrupt(node, Phase.STARTING)
    assert [result.what for result in recover_all(node, 10)] == ["undone"]


def test_an_interrupted_stop_that_had_succeeded_is_finished(made: Any) -> None:
    node, loaded = made(FakeDriver)
    up(node, loaded)
    record = node.store.load("web1")
    assert record is not None
    node.store.save(replace(record, phase=Phase.STOPPING, bindings={**record.bindings, "guest": "shutdown"}))
    assert [result.what for result in recover_all(node, 10)] == ["finished"]
    assert infos(node) == []


def test_a_driver_that_cannot_observe_hides_only_its_own(made: Any) -> None:
    class Wrong(FakeDriver):
        def observe(self, live: Live) -> hv.Observation:
            raise KeyError("x")

    node, loaded = made(Wrong)
    up(node, loaded)
    (info,) = infos(node)
    assert info.state is State.UNKNOWN
    assert str(info.reason).startswith(f"driver fake (test 1), observe ({__file__}:")
    assert str(info.reason).endswith("raised KeyError: 'x'; report this to its authors")
    assert stop(node, "web1", force=True, deadline=Deadline(10)).stopped_by == "kill"
    assert infos(node) == []


def test_a_driver_that_raises_in_recovery_keeps_no_other_from_it(made: Any) -> None:
    class Wrong(FakeDriver):
        def adopt(self, live: Live, job: Job) -> bool:
            raise KeyError("x")

    node, loaded = made(Wrong)
    up(node, loaded)
    interrupt(node, Phase.STARTING)
    (result,) = recover_all(node, 10)
    assert result.what == "failed"
    assert result.detail.startswith(f"driver fake (test 1), adopt ({__file__}:")
    assert result.detail.endswith("raised KeyError: 'x'; report this to its authors")
    assert stop(node, "web1", force=True, deadline=Deadline(10)).state is State.STOPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class Cup(Resource[None]):
    """Something of the driver's own; ``what`` is its word in the ledger."""

    what: str = "cup"


class CupKind(ResourceKind[Cup, None]):
    """Calls ``released`` with the entry to release, and holds nothing."""

    name: ClassVar[str] = "cup"
    resource: ClassVar[type[Cup]] = Cup
    turn: ClassVar[Turn] = Turn.FILE

    def __init__(self, released: Callable[[Entry, Owner], None]) -> None:
        self.released = released

    def entry(self, resource: Cup, site: Site) -> Mapping[str, Any]:
        return {"what": resource.what}

    def acquire(self, resource: Cup, held: Held) -> None:
        pass

    def release(self, entry: Entry, owner: Owner) -> None:
        self.released(entry, owner)


class Cups:
    """A plugin with that kind."""

    def __init__(self, released: Callable[[Entry, Owner], None]) -> None:
        self.kind = CupKind(released)

    @hv.hookimpl
    def resource_kinds(self) -> Iterator[ResourceKind[Any, Any]]:
        yield self.kind


def test_a_driver_that_raises_in_a_release_is_named_and_keeps_the_rest_from_nothing(made: Any) -> None:
    def fails(entry: Entry, owner: Owner) -> None:
        raise KeyError("x")

    class Wrong(FakeDriver):
        plugins = (*FakeDriver.plugins, ("cups", Cups(fails)))

        def start(self, spec: Any, job: Job) -> None:
            job.acquire(Identity(key="uid"), Cup(key="cup"), level=Level.STRICT)
            super().start(spec, job)

    node, loaded = made(Wrong)
    up(node, loaded)
    with pytest.raises(
        LeftoverError, match=r"plugin cups.*resource_kinds.*kind 'cup' raised KeyError: 'x'; report this"
    ):
        stop(node, "web1", force=False, deadline=Deadline(10))
    record = node.store.load("web1")
    assert record is not None
    assert [entry.kind for entry in record.ledger] == ["cup"]


def test_what_only_the_driver_can_release_is_released_by_it_the_last_first(made: Any) -> None:
    released: list[str] = []

    def release(entry: Entry, owner: Owner) -> None:
        released.append(entry.key if entry.data["what"] == "cup" else f"{entry.key} of {owner.name}")
        if entry.data["what"] == "cup" and released.count("cup") == 1:
            raise LeftoverError("cup: is hot; wait")

    class Holding(FakeDriver):
        plugins = (*FakeDriver.plugins, ("cups", Cups(release)))

        def start(self, spec: Any, job: Job) -> None:
            job.acquire(Cup(key="teapot 1", what="teapot"), Cup(key="cup"), Cup(key="teapot 2", what="teapot"))
            super().start(spec, job)

    node, loaded = made(Holding)
    up(node, loaded)
    with pytest.raises(LeftoverError, match="not everything could be released: cup: is hot; wait; try again"):
        stop(node, "web1", force=False, deadline=Deadline(10))
    assert released == ["teapot 2 of web1", "cup", "teapot 1 of web1"]
    assert stop(node, "web1", force=False, deadline=Deadline(10)).state is State.STOPPED
    assert released[3:] == ["cup"]


def test_a_link_is_removed_if_it_is_still_ours(made: Any, tmp_path: Path) -> None:
    ours, foreign, file = tmp_path / "ours", tmp_path / "foreign", tmp_path / "file"

    class Linking(FakeDriver):
        def start(self, spec: Any, job: Job) -> None:
            paths = (ours, foreign, file)
            job.acquire(*(Link(key=path.name, path=str(path), target="socket") for path in paths))
            assert all(path.readlink() == job.dir / "socket" for path in paths)
            foreign.unlink()
            foreign.symlink_to("/etc/passwd")
            file.unlink()
            file.touch()
            super().start(spec, job)

    node, loaded = made(Linking)
    up(node, loaded)
    stop(node, "web1", force=True, deadline=Deadline(10))
    assert sorted(os.listdir(tmp_path)) == ["file", "foreign"]


def test_a_disk_is_free_again_after_a_start_that_failed(made: Any, tmp_path: Path, run_dir: Path) -> None:
    image = tmp_path / "a.img"
    image.touch()

    class Claiming(FakeDriver):
        def start(self, spec: Any, job: Job) -> None:
            job.acquire(DiskClaim(key="disk0", path=str(image), write=True))
            assert os.listdir(run_dir / "reservations" / "disk") != []
            raise OSError(28, "No space left on device", "/somewhere")

    node, loaded = made(Claiming)
    with pytest.raises(
        hvcore.NodeError, match=r"web1: cannot be started, got No space left on device for '/somewhere'"
    ):
        up(node, loaded)
    assert os.listdir(run_dir / "reservations" / "disk") == []


def test_a_handle_stops_only_instances_of_its_driver(node: Node, fake: hvcore.DriverHandle) -> None:
    from hvcore.state.store import Store

    fake.start(WEB)
    store = Store(node.run_dir)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, driver="kvm"))
    with pytest.raises(NotFoundError, match="it belongs to driver kvm"):
        fake.stop("web1")
    store.save(record)
    assert fake.stop("web1").changed
