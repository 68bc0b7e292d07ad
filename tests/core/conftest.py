"""What the tests of the core share: a run directory, the fake driver, drivers made by a test, child processes."""

from __future__ import annotations

import ctypes
import gc
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy
import pytest
from distributions import installed
from fixture_types import Install

from hvcore import Disk, DriverHandle, Instance, Nic, Node
from hvcore.host.launching.launch import reap
from hvcore.host.processes.process import boot_id
from hvcore.host.reservations import Reservations
from hvcore.model.record import Entry, Phase, ProcessId, Record
from hvcore.operations.context import Context
from hvcore.params.param import ParamGroup
from hvcore.params.schema import Schema
from hvcore.plugin import Hooks, Host
from hvcore.plugins import hookspecs
from hvcore.plugins.catalogue import CatalogueEntry, Verdict
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.state.store import Store

_EXIT_S = 20.0
UIDS = range(1_880_000_000, 1_880_000_100)


def held_by_us() -> set[str]:
    """Our descriptors, threads and children, in words."""
    found = {f"thread {thread.name}" for thread in threading.enumerate()}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith("/proc/"):
                found.add(f"fd {fd} {target}")
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread ended meanwhile
            found |= {f"child {pid}" for pid in (task / "children").read_text().split()}
    return found


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """No test leaves a thread, a descriptor or a child process behind."""
    before = held_by_us()
    yield
    if found := held_by_us() - before:
        gc.collect()  # what is only waiting to be collected is no leak
        _let_end(int(what.removeprefix("child ")) for what in found if what.startswith("child "))
        _join(found)
    assert held_by_us() - before == set()


def _let_end(children: Iterable[int]) -> None:
    """Wait for children that are exiting: the monitor of a program ends a moment after it."""
    for pid in children:
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                select.select([fd], [], [], _EXIT_S)
            finally:
                os.close(fd)
    reap()


def _join(found: set[str]) -> None:
    """Wait for threads that are ending."""
    for thread in threading.enumerate():
        if f"thread {thread.name}" in found:
            thread.join(_EXIT_S)


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory in memory, as /run is: thousands of fsync on a disk would only measure the disk."""
    memory = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(prefix="hvcore-test-", dir=memory if os.access(memory, os.W_OK) else tmp_path))
    path = top / "run"
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(top)


@pytest.fixture
def node(run_dir: Path) -> Node:
    return Node(run_dir, state_dir=run_dir.parent / "state", uid_pool=UIDS)


@pytest.fixture
def fake(node: Node) -> DriverHandle:
    return node.driver("fake")


@pytest.fixture
def store(run_dir: Path) -> Store:
    return Store(run_dir)


@dataclass(frozen=True)
class Here:
    """A node with its fake driver, for tests that need all of it."""

    node: Node
    fake: DriverHandle
    run_dir: Path
    store: Store


@pytest.fixture
def here(node: Node, fake: DriverHandle, run_dir: Path, store: Store) -> Here:
    return Here(node, fake, run_dir, store)


def instance(name: str = "web1", **params: Any) -> Instance:
    return Instance(name=name, driver="fake", params=params)


@pytest.fixture
def web() -> Callable[..., Instance]:
    """``web("web1", fail_at="start")``: an instance of the fake driver with those parameters."""
    return instance


@pytest.fixture
def record() -> Callable[..., Record]:
    """A record with every field set, changed as the keywords say."""

    def make(**changed: Any) -> Record:
        wanted = Instance(
            name=changed.get("name", "web1"),
            driver="fake",
            disks=(Disk(path="/srv/a.img"), Disk(path="/srv/b.img", read_only=True)),
            nics=(Nic(mode="user"), Nic(mode="bridged", mac="aa:00:00:4b:c1:01", link="br0")),
            params={"motd": "grüß, =\n"},
        )
        fields: dict[str, Any] = {
            "name": "web1",
            "driver": "fake",
            "phase": Phase.RUNNING,
            "boot_id": boot_id(),
            "instance": wanted,
            "spec": {"memory_mib": 128, "fail_at": None},
            "bindings": {"uid": 1_880_000_000, "guest": "running"},
            "ledger": (Entry(kind="uid"), Entry(kind="link", data={"path": "/run/x"})),
            "process": ProcessId(pid=4, start_ticks=5, boot_id=boot_id()),
            "monitor": ProcessId(pid=3, start_ticks=5, boot_id=boot_id()),
            "paused": False,
            "started_at": 1.5,
        }
        return Record(**(fields | changed))

    return make


@pytest.fixture
def uids(run_dir: Path) -> Callable[[], dict[str, str]]:
    """Which uid is reserved for whom."""
    return Reservations(run_dir / "reservations" / "uid").items


@pytest.fixture
def nothing_left(run_dir: Path) -> Callable[[], None]:
    """Fails if the run directory still has something of an instance."""

    def check() -> None:
        for folder in ("instances", "locks", "reservations/uid", "reservations/disk"):
            path = run_dir / folder
            assert not path.exists() or os.listdir(path) == [], folder

    return check


@pytest.fixture
def load() -> Callable[..., LoadedDriver]:
    """A driver class made ready as the loader does it, with extensions given as ``name=object``."""

    def make(driver_class: Any, **extensions: object) -> LoadedDriver:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        for specs in (hookspecs, *driver_class.hookspecs):
            manager.add_hookspecs(specs)
        for name, plugin in (*driver_class.plugins, *extensions.items()):
            manager.register(plugin, name)
        hooks = Hooks(manager)
        groups: list[tuple[str, ParamGroup]] = list(hooks.each("params"))
        entry = CatalogueEntry(
            name=driver_class.name, target="here", distribution="test", version="1", requires="", verdict=Verdict.OK
        )
        driver = driver_class(hooks)
        return LoadedDriver(entry=entry, driver=driver, hooks=hooks, schema=Schema.compile(groups), extensions=())

    return make


@pytest.fixture
def context(run_dir: Path) -> Callable[[LoadedDriver], Context]:
    """A node on which that driver is the only one."""

    def make(loaded: LoadedDriver) -> Context:
        host = Host(run_dir=run_dir, privileged=os.geteuid() == 0, uid_pool=UIDS)
        return Context(host=host, store=Store(run_dir), driver=lambda name: loaded, progress=lambda text: None)

    return make


@pytest.fixture
def in_child() -> Iterator[Callable[..., int]]:
    """``in_child(f, *args)``: run it in a forked process; its wait status. ``wait=False`` gives the pid at once."""
    started: list[int] = []

    def run(function: Callable[..., object], *arguments: object, wait: bool = True) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                function(*arguments)
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it is, the parent must not go on twice
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        if not wait:
            started.append(pid)
            return pid
        return os.waitpid(pid, 0)[1]

    yield run
    for pid in started:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def eventually(condition: Callable[[], object], deadline_s: float = 60.0) -> None:
    """Wait for a condition that only /proc shows: no event reports how far another process has come."""
    give_up = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.002)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., None]:
    return eventually


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """``mount(source, target, kind, flags, options)`` as mount(2); everything is unmounted in the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    made: list[Path] = []

    def do(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
        result = libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
        assert result == 0, os.strerror(ctypes.get_errno())
        made.append(target)

    yield do
    for target in reversed(made):
        while libc.umount2(os.fsencode(target), 2) == 0:  # MNT_DETACH
            pass


@pytest.fixture
def tool() -> Callable[[str], str]:
    """The path of a program that the test needs."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if found is None:
            pytest.skip(f"needs {name}")
        return found

    return find


@pytest.fixture
def loop(tool: Callable[[str], str]) -> Iterator[Callable[[Path], str]]:
    """``loop(image)``: a loop device over that image."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    losetup, made = tool("losetup"), []

    def attach(path: Path) -> str:
        run = subprocess.run([losetup, "--find", "--show", path], check=False, capture_output=True, text=True)
        if run.returncode != 0:
            pytest.skip(f"no loop device here: {run.stderr.strip()}")
        made.append(run.stdout.strip())
        return made[-1]

    yield attach
    for device in reversed(made):
        subprocess.run([losetup, "--detach", device], check=False, capture_output=True)


DRIVER = """
import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver

class Driver(FakeDriver):
    name = {name!r}
"""


@pytest.fixture
def driver_source() -> str:
    """A driver that works, to be formatted with its ``name``."""
    return DRIVER


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("hv-x", "[hvcore.drivers]...", source)``: module ``hv_x`` as distribution ``hv-x``; its file."""
    before = set(sys.modules)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made: list[str] = []

    def do(
        name: str, entry_points: str, source: str = "", *, requires: str = "hvcore>=0.1,<0.2", version: str = "1.0"
    ) -> Path:
        module = name.replace("-", "_")
        folder = tmp_path / f"site-{name}"
        installed(folder, name, entry_points, requires=(requires,), version=version)
        path = folder / f"{module}.py"
        path.write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(folder))
        made.append(module)
        return path

    yield do
    for module in set(sys.modules) - before:
        if module in made:
            del sys.modules[module]
