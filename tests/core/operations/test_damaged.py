"""Damaged state: reported, never ignored, and ended by force without losing the record."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Uids, Web

from hvcore import DriverHandle, HvError, Node, NodeError, RecordError, State, StateError
from hvcore.host.reservations import Reservations
from hvcore.model.record import RECORD_VERSION, record_bytes
from hvcore.plugin import Record
from hvcore.state.store import Store


def of(run_dir: Path) -> Path:
    return run_dir / "instances" / "web1" / "record.json"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"running", b"runninh", 1))


def newer(path: Path) -> None:
    body = json.loads(path.read_bytes().splitlines()[0])
    text = json.dumps({**body, "version": RECORD_VERSION + 1, "colour": "blue"}).encode()
    path.write_bytes(text + f"\ncrc32:{zlib.crc32(text):08x}\n".encode())


def missing(path: Path) -> None:
    path.with_name("alive").touch()
    path.unlink()


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("elsewhere"))


def directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


DAMAGES = [truncate, empty, flip, newer, missing, link, directory]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_record_that_cannot_be_read_means_unknown_and_only_force_ends_it(
    damage: Callable[[Path], None], node: Node, fake: DriverHandle, web: Web, run_dir: Path, uids: Uids
) -> None:
    fake.start(web())
    fake.start(web("web2"))
    damage(of(run_dir))
    assert [(info.name, info.state) for info in node.instances()] == [
        ("web1", State.UNKNOWN),
        ("web2", State.RUNNING),
    ]
    why = node.info("web1").reason
    assert why is not None
    assert "record" in why or "damaged" in why or "hvcore" in why
    assert node.recover() == []
    for call in (
        lambda: fake.start(web()),
        lambda: node.stop("web1"),
        lambda: node.pause("web1"),
        lambda: node.reboot("web1"),
        lambda: node.cleanup("web1"),
        lambda: node.console("web1"),
    ):
        with pytest.raises(StateError, match="while unknown; allowed now: stop --force") as caught:
            call()
        assert caught.value.__notes__ == [why]
    for compare in (node.changes, node.apply):
        with pytest.raises(RecordError) as different:
            compare("web1")
        assert str(different.value) == why
    assert sorted(uids().values()) == ["web1", "web2"]
    content = of(run_dir).read_bytes() if of(run_dir).is_file() and not of(run_dir).is_symlink() else None
    outcome = node.stop("web1", force=True)
    assert (outcome.changed, outcome.state, outcome.stopped_by) == (True, State.STOPPED, "kill")
    assert list(uids().values()) == ["web2"]
    kept = list((run_dir / "damaged").iterdir())
    if damage is not missing:
        assert str(kept[0]) in outcome.notes[-1]
    if content is not None:
        assert [path.read_bytes() for path in kept] == [content]
    assert fake.start(web()).changed


def test_a_record_of_a_newer_version_is_reported_as_one(
    node: Node, fake: DriverHandle, web: Web, run_dir: Path
) -> None:
    fake.start(web())
    newer(of(run_dir))
    assert f"written by a newer hvcore, got version {RECORD_VERSION + 1}; upgrade" in str(node.info("web1").reason)


def test_a_file_in_place_of_an_instance_breaks_nothing(node: Node, fake: DriverHandle, web: Web, run_dir: Path) -> None:
    fake.start(web())
    (run_dir / "instances" / "stray").touch()
    (run_dir / "instances" / ".hidden").mkdir()
    assert [info.name for info in node.instances()] == ["web1"]
    with pytest.raises(NodeError, match="stray"):
        fake.start(web("stray"))
    assert node.recover() == []


@pytest.mark.parametrize("place", ["instances/web1", "instances", "locks", "reservations", "reservations/uid"])
@pytest.mark.parametrize("act", ["stop", "force", "cleanup", "recover", "start"])
def test_a_link_in_place_of_a_directory_is_followed_by_nothing(
    act: str, place: str, here: Any, web: Web, tmp_path: Path
) -> None:
    """Another program owns the target of the link: its files must stay."""
    node, fake, run_dir = here.node, here.fake, here.run_dir
    theirs = tmp_path / "theirs"
    for directory in (theirs, theirs / "web1", theirs / "web1" / "deeper", theirs / "uid"):
        directory.mkdir(mode=0o700)
        (directory / "file").write_text("precious")
        (directory / "owned").symlink_to("web1")  # as a reservation looks
    before = sorted(theirs.rglob("*"))
    fake.start(web())
    if (run_dir / place).is_dir():
        shutil.move(run_dir / place, tmp_path / "moved")
    (run_dir / place).symlink_to(theirs)
    acts: dict[str, Callable[[], object]] = {
        "stop": lambda: node.stop("web1"),
        "force": lambda: node.stop("web1", force=True),
        "cleanup": lambda: node.cleanup("web1"),
        "recover": node.recover,
        "start": lambda: fake.start(web("web2")),
    }
    with suppress(HvError):
        acts[act]()
    assert sorted(theirs.rglob("*")) == before
    with pytest.raises(HvError, match=r"is a link that hvcore did not make|cannot be used|Too many levels"):
        node.stop("web1", force=True)
    assert sorted(theirs.rglob("*")) == before


def dangle(path: Path) -> None:
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("how", [directory, dangle])
def test_what_is_no_lock_file_stops_only_what_is_done_to_that_instance(
    how: Callable[[Path], object], node: Node, fake: DriverHandle, web: Web, run_dir: Path
) -> None:
    fake.start(web())
    (run_dir / "locks").mkdir(mode=0o700, exist_ok=True)
    how(run_dir / "locks" / "web0")
    Reservations(run_dir / "reservations" / "uid").take("1880000099", "ghost")
    assert [result.name for result in node.recover() if result.what == "failed"] == ["web0"]
    assert [info.name for info in node.instances()] == ["ghost", "web1"]
    assert not node.stop("web1").notes


def test_a_file_in_place_of_the_damaged_directory_stops_no_operation(
    node: Node, fake: DriverHandle, web: Web, run_dir: Path
) -> None:
    fake.start(web())
    truncate(of(run_dir))
    content = of(run_dir).read_bytes()
    (run_dir / "damaged").write_text("a file")
    outcome = node.stop("web1", force=True)
    (kept,) = run_dir.glob("damaged-web1.*")
    assert str(kept) in outcome.notes[-1]
    assert kept.read_bytes() == content
    assert (run_dir / "damaged").read_text() == "a file"
    assert node.instances() == []


@pytest.mark.parametrize("kind", ["uid", "uid-range", "disk", "disk-readers"])
def test_a_reservation_without_an_instance_is_reported_and_released_by_force(
    kind: str, node: Node, run_dir: Path
) -> None:
    reserved = Reservations(run_dir / "reservations" / kind)
    reserved.take("1880000099", "ghost")
    assert [(info.name, info.state) for info in node.instances()] == [("ghost", State.UNKNOWN)]
    assert node.stop("ghost", force=True).changed
    assert reserved.items() == {}
    assert node.instances() == []


def test_a_directory_that_was_never_an_instance_is_not_removed(
    node: Node, fake: DriverHandle, web: Web, run_dir: Path
) -> None:
    """Somebody has put it in the wrong place: recover and start leave it there, and force moves it aside whole."""
    theirs = run_dir / "instances" / "web1" / "sub"
    theirs.mkdir(parents=True)
    (theirs / "file").write_text("precious")
    assert [(info.name, info.state) for info in node.instances()] == [("web1", State.UNKNOWN)]
    assert node.recover() == []
    calls: list[Callable[[], object]] = [
        lambda: fake.start(web()),
        lambda: node.stop("web1"),
        lambda: node.cleanup("web1"),
    ]
    for call in calls:
        with pytest.raises(StateError, match="while unknown; allowed now: stop --force"):
            call()
    outcome = node.stop("web1", force=True)
    (kept,) = (run_dir / "damaged").iterdir()
    assert str(kept) in outcome.notes[-1]
    assert (kept / "sub" / "file").read_text() == "precious"
    assert fake.start(web()).changed


def test_a_directory_without_a_record_is_cleared_away(node: Node, fake: DriverHandle, web: Web, run_dir: Path) -> None:
    """Somebody died between making it and writing the first record, or between removing the last and it."""
    (run_dir / "instances" / "web1").mkdir(parents=True)
    (run_dir / "instances" / "web1" / ".record.json.77.new").touch()
    assert node.instances() == []
    node.recover()
    assert os.listdir(run_dir / "instances") == []
    assert fake.start(web()).changed


def test_after_a_reboot_everything_is_cleaned_and_no_process_is_signalled(
    here: Any, web: Web, uids: Uids, in_child: Callable[..., int]
) -> None:
    """The numbers in the record are those of a process that lives now and has nothing to do with it."""
    node, fake, store, run_dir = here.node, here.fake, here.store, here.run_dir
    import signal

    from hvcore.host.processes.process import identify
    from hvcore.plugin import Entry

    bystander = in_child(signal.pause, wait=False)
    process = identify(bystander)
    assert process is not None
    fake.start(web())
    record = store.load("web1")
    assert record is not None
    old = replace(process, boot_id="another boot")
    ledger = (*record.ledger, Entry(kind="process"))
    store.save(replace(record, boot_id="another boot", process=old, monitor=None, ledger=ledger))
    namespace = os.stat("/proc/self/ns/pid").st_ino
    (run_dir / "instances" / "web1" / "alive").touch()
    status = json.dumps({"child-pid": bystander, "pid-namespace": namespace})
    (run_dir / "instances" / "web1" / "status").write_text(status)
    info = node.info("web1")
    assert (info.state, info.reason) == (State.CRASHED, "the node was restarted")
    (result,) = node.recover()
    assert (result.what, result.detail) == ("cleaned", "the node was restarted")
    assert node.instances() == []
    assert uids() == {}
    assert os.waitpid(bystander, os.WNOHANG) == (0, 0)


def test_a_record_whose_driver_is_missing_is_reported_and_hides_no_other(
    node: Node, fake: DriverHandle, web: Web, store: Store
) -> None:
    fake.start(web())
    fake.start(web("web2"))
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, driver="gone"))
    first, second = node.instances()
    assert (first.driver, first.state, second.state) == ("gone", State.UNKNOWN, State.RUNNING)
    assert "no driver 'gone'" in str(first.reason)


def test_one_instance_that_cannot_be_recovered_keeps_no_other_from_it(
    node: Node, fake: DriverHandle, web: Web, store: Store
) -> None:
    from hvcore.model.record import Phase

    for name in ("a", "b", "c"):
        fake.start(web(name))
        record = store.load(name)
        assert record is not None
        store.save(replace(record, phase=Phase.STARTING, driver="gone" if name == "b" else "fake"))
    assert [(result.name, result.what) for result in node.recover()] == [
        ("a", "undone"),
        ("b", "failed"),
        ("c", "undone"),
    ]


def test_a_ledger_entry_of_an_unknown_kind_is_kept_and_reported(
    node: Node, fake: DriverHandle, web: Web, store: Store
) -> None:
    from hvcore import LeftoverError
    from hvcore.plugin import Entry

    fake.start(web())
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, ledger=(*record.ledger, Entry(kind="teapot"))))
    with pytest.raises(LeftoverError, match="no plugin of its driver can release 'teapot'"):
        node.stop("web1")
    left = store.load("web1")
    assert left is not None
    assert [entry.kind for entry in left.ledger] == ["teapot"]  # the uid was released all the same
    with pytest.raises(HvError):
        node.stop("web1")


class TestStore:
    def test_an_unchanged_record_is_not_read_twice(self, store: Store, record: Callable[..., Record]) -> None:
        store.create("web1")
        store.save(record())
        assert store.load("web1") is store.load("web1")

    def test_a_change_by_another_process_is_seen(
        self, store: Store, record: Callable[..., Record], run_dir: Path
    ) -> None:
        store.create("web1")
        store.save(record())
        store.load("web1")
        Store(run_dir).save(record(paused=True))
        found = store.load("web1")
        assert found is not None
        assert found.paused

    def test_an_instance_that_another_process_removed_is_forgotten(
        self, store: Store, record: Callable[..., Record], run_dir: Path
    ) -> None:
        store.create("web1")
        store.save(record())
        store.load("web1")
        shutil.rmtree(run_dir / "instances" / "web1")
        assert store.names() == []
        assert store._cache == {}
        assert store.load("web1") is None

    def test_the_record_goes_last(self, store: Store, record: Callable[..., Record], run_dir: Path) -> None:
        """If something cannot be removed, the record stays for the next try."""
        directory = store.create("web1")
        store.save(record())
        (directory / "zzz").mkdir()
        (directory / "zzz" / "file").touch()
        (run_dir / "theirs").mkdir()
        (run_dir / "theirs" / "file").touch()
        (directory / "aaa").symlink_to(run_dir / "theirs")
        store.remove("web1")
        assert not directory.exists()
        assert (run_dir / "theirs" / "file").exists()

    def test_what_cannot_be_saved_keeps_the_old_record(self, store: Store, record: Callable[..., Record]) -> None:
        with pytest.raises(NodeError, match="web1: its record cannot be saved, got No such file"):
            store.save(record())

    def test_a_record_is_for_its_owner_only(self, store: Store, record: Callable[..., Record], run_dir: Path) -> None:
        store.create("web1")
        store.save(record())
        assert of(run_dir).stat().st_mode & 0o777 == 0o600
        assert of(run_dir).read_bytes() == record_bytes(record())
