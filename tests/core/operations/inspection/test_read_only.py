"""A run directory that has become read-only: what runs is seen, and is ended all the same."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sleeper import Sleeper

from hvcore import HvError, Instance, LeftoverError, State
from hvcore.deadline import Deadline
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import infos
from hvcore.operations.lifecycle.reboot import reboot
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.operations.recovery.recover import recover_all
from hvcore.plugin import alive
from hvcore.plugins.loaded_driver import LoadedDriver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MNT_DETACH = 1, 32, 4096, 2


@pytest.fixture
def read_only(run_dir: Path) -> Iterator[Callable[[], Callable[[], None]]]:
    """Makes the run directory read-only by a mount of it on itself; the result makes it writable again."""
    libc = ctypes.CDLL(None, use_errno=True)
    place, mounted = os.fsencode(run_dir), [False]

    def writable() -> None:
        if mounted[0]:
            assert libc.umount2(place, _MNT_DETACH) == 0
        mounted[0] = False

    def make() -> Callable[[], None]:
        assert libc.mount(place, place, None, _MS_BIND, None) == 0
        mounted[0] = True
        assert libc.mount(None, place, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None) == 0
        return writable

    yield make
    writable()


@pytest.fixture
def guest(load: Callable[..., LoadedDriver], context: Callable[..., Context]) -> tuple[Context, Any]:
    loaded = load(Sleeper)
    node = context(loaded)
    start(node, loaded, Instance(name="web1", driver="fake"), paused=False, deadline=Deadline(20))
    record = node.store.load("web1")
    assert record is not None
    return node, record.process


@pytest.mark.parametrize("force", [False, True], ids=["politely", "by force"])
def test_it_is_seen_and_ended_and_the_next_stop_removes_the_rest(guest: Any, read_only: Any, *, force: bool) -> None:
    node, process = guest
    writable = read_only()
    assert [(one.name, one.state) for one in infos(node)] == [("web1", State.RUNNING)]
    with pytest.raises(LeftoverError, match=r"cannot be changed, got Read-only file system.*repair .*; try again"):
        stop(node, "web1", force=force, deadline=Deadline(10))
    assert not alive(process)
    assert [one.state for one in infos(node)] == [State.CRASHED]
    writable()
    assert recover_all(node, 5) == []
    assert stop(node, "web1", force=force, deadline=Deadline(10)).stopped_by == "gone"
    assert node.store.names() == []


def test_one_with_a_damaged_record_is_ended_too_and_the_record_stays(guest: Any, read_only: Any) -> None:
    node, process = guest
    record = node.store.dir("web1") / "record.json"
    record.write_bytes(b"damaged")
    read_only()
    assert [one.state for one in infos(node)] == [State.UNKNOWN]
    with pytest.raises(HvError, match="Read-only file system"):
        stop(node, "web1", force=True, deadline=Deadline(10))
    assert not alive(process)
    assert record.read_bytes() == b"damaged"


def test_what_would_change_something_is_refused_and_the_guest_goes_on(guest: Any, read_only: Any) -> None:
    node, process = guest
    writable = read_only()
    calls: tuple[Callable[[], object], ...] = (
        lambda: start(node, node.driver("fake"), Instance(name="b", driver="fake"), paused=False, deadline=Deadline(5)),
        lambda: reboot(node, "web1", force=False, deadline=Deadline(5), start_deadline=Deadline(5)),
        lambda: reboot(node, "web1", force=True, deadline=Deadline(5), start_deadline=Deadline(5)),
    )
    for call in calls:
        with pytest.raises(HvError, match="Read-only file system"):
            call()
    assert alive(process)
    writable()
    assert stop(node, "web1", force=True, deadline=Deadline(10)).changed


@pytest.mark.heavy
def test_the_command_line_says_it(guest: Any, read_only: Any, run_dir: Path) -> None:
    node, _ = guest
    writable = read_only()
    for verb in (["list"], ["list", "--json"], ["info", "web1"]):
        command = [sys.executable, "-c", "from hvcore.cli import main; main()", "--run-dir", str(run_dir), *verb]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert "web1" in done.stdout
        assert "is read-only, so no instance can start" in done.stderr
    writable()
    stop(node, "web1", force=True, deadline=Deadline(10))
