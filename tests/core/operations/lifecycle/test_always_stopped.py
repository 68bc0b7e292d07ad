"""A running instance is seen and ended, whatever became of its plugins, its record and the node's configuration."""

from __future__ import annotations

import json
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from distributions import installed

import hvcore.plugin as hv
from hvcore import DriverError, DriverLoadError, HvError, Instance, Node, RecordError, State, StateError
from hvcore.host.processes.launched import members
from hvcore.model.record import RECORD_VERSION
from hvcore.plugins.loader import load, load_for_running
from hvcore.state.store import Store

pytestmark = pytest.mark.heavy  # a new process for each test

DRIVER = """
import dataclasses
import sys
import hvcore.plugin as hv
from fragile_look import observe

@dataclasses.dataclass(frozen=True)
class Spec:
    shape: str

@hv.hookimpl
def params():
    return hv.ParamGroup("fragile", hv.Param("shape", hv.text(), default="thin", help="Its shape."))

class Driver:
    name = "fragile"
    plugins = (("fragile", sys.modules[__name__]),)
    hookspecs = ()

    def __init__(self, hooks):
        pass

    def plan(self, instance, params) -> Spec:
        return Spec(params["shape"])

    def verify(self, spec, host):
        return ()

    def describe(self, spec, host):
        return hv.Plan(name="x", driver=self.name, steps=())

    def start(self, spec, job):
        job.acquire(hv.Identity(key="uid"), level=hv.Level.STRICT)
        child = job.launch(hv.Command(argv=("sleep", "100"), sandbox=None))
        try:
            process = child.process()
            while process is None and child.ended() is None:
                process = child.process()
            job.started(process, child.monitor())
        finally:
            child.close()

    observe = OBSERVE

    def stop(self, live, job, *, force):
        hv.decode(Spec, live.record.spec)
        hv.kill_and_wait(live.record.process, subject=job.name, deadline_s=60)
        return "quit" if force else "powerdown"

"""
LOOK = """
import hvcore.plugin as hv
def observe(live):
    lives = hv.alive(live.record.process)
    return hv.Observation(state=hv.State.RUNNING if lives else hv.State.CRASHED)
"""
FAR, NEAR = "staticmethod(observe)", "lambda self, live: observe(live)"
EXTENSION = """
import hvcore.plugin as hv

@hv.hookimpl
def params():
    return hv.ParamGroup("more", hv.Param("colour", hv.text(), default="red", help="Its colour."))

@hv.hookimpl
def before_stop(instance, force):
    CALLED.append("before")

CALLED = []
"""


class Site:
    """A node with an instance that is a process, whose driver and extension are in a folder that a test can spoil."""

    def __init__(self, run_dir: Path, top: Path, observe: str) -> None:
        self.run_dir, self.top, self.folder = run_dir, top, top / "site"
        self.driver = DRIVER.replace("OBSERVE", observe)
        self.install("fragile-driver", "hvcore.drivers", "fragile = fragile_driver:Driver")
        self.install("fragile-more", "hvcore.extensions", "fragile.more = fragile_more:plugin")
        self.write("fragile_look", LOOK)
        self.write("fragile_driver", self.driver)
        self.write("fragile_more", f"{EXTENSION}\nimport sys\nplugin = sys.modules[__name__]\n")

    def install(self, name: str, group: str, entry: str) -> Path:
        return installed(self.folder, name, f"[{group}]\n{entry}\n")

    def uninstall(self, name: str) -> None:
        info = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        for file in info.iterdir():
            file.unlink()
        info.rmdir()

    def write(self, module: str, source: str) -> None:
        (self.folder / f"{module}.py").write_text(source)
        self.forget()

    def forget(self) -> None:
        for name in [name for name in sys.modules if name.startswith("fragile_")]:
            del sys.modules[name]

    @property
    def node(self) -> Node:
        return Node(self.run_dir, config_dir=self.top / "etc", uid_pool=range(1_880_000_000, 1_880_000_010))

    @property
    def record(self) -> Path:
        return self.run_dir / "instances" / "web1" / "record.json"

    def start(self) -> None:
        (self.top / "etc" / "profiles").mkdir(parents=True)
        (self.top / "etc" / "profiles" / "db.toml").touch()
        self.node.driver("fragile").start(Instance(name="web1", driver="fragile", profile="db"))
        self.forget()


@pytest.fixture
def site(
    request: pytest.FixtureRequest, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Site(run_dir, tmp_path, getattr(request, "param", FAR))
    made.start()
    record = Store(run_dir).load("web1")
    assert record is not None
    assert record.process is not None
    yield made
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(record.process.pid, signal.SIGKILL)
        os.waitpid(record.process.pid, 0)
    made.forget()


# What can become of it, and what is seen and said then.


def untouched(site: Site) -> None:
    pass


def extension_not_importable(site: Site) -> None:
    site.write("fragile_more", "raise RuntimeError('oh')")


def extension_leaves(site: Site) -> None:
    site.write("fragile_more", "raise SystemExit(3)")


def extension_with_broken_params(site: Site) -> None:
    site.write("fragile_more", f"{EXTENSION.replace('return hv.', 'return nonsense.')}\nimport sys\nplugin = sys.modules[__name__]\n")  # fmt: skip


def extension_with_a_param_of_the_driver(site: Site) -> None:
    site.write("fragile_more", f"{EXTENSION.replace('colour', 'shape')}\nimport sys\nplugin = sys.modules[__name__]\n")


def extension_with_an_unknown_hook(site: Site) -> None:
    site.write("fragile_more", f"{EXTENSION.replace('def before_stop', 'def before_stopp')}\nimport sys\nplugin = sys.modules[__name__]\n")  # fmt: skip


def extension_that_breaks_the_drivers_class(site: Site) -> None:
    site.write("fragile_driver", site.driver.replace("        pass\n", "        assert len(hooks.implementations('params')) == 1\n"))  # fmt: skip


def extension_twice(site: Site) -> None:
    site.install("fragile-other", "hvcore.extensions", "fragile.more = fragile_more:plugin")


def extension_uninstalled(site: Site) -> None:
    site.uninstall("fragile-more")


def driver_twice(site: Site) -> None:
    site.install("fragile-other", "hvcore.drivers", "fragile = fragile_driver:Driver")


def driver_not_importable(site: Site) -> None:
    site.write("fragile_driver", "raise RuntimeError('oh')")


def driver_with_a_broken_constructor(site: Site) -> None:
    site.write("fragile_driver", site.driver.replace("        pass\n", "        raise RuntimeError('oh')\n"))


def driver_with_broken_params(site: Site) -> None:
    site.write("fragile_driver", site.driver.replace("return hv.ParamGroup", "return nonsense"))


def driver_uninstalled(site: Site) -> None:
    site.uninstall("fragile-driver")


def driver_without_a_method(site: Site) -> None:
    site.write("fragile_driver", site.driver.replace("def describe", "def described"))


def driver_that_cannot_read_its_spec(site: Site) -> None:
    site.write("fragile_driver", site.driver.replace("    shape: str", "    form: str"))


def driver_with_a_mistake_in_stop(site: Site) -> None:
    site.write("fragile_driver", site.driver.replace("hv.decode(Spec, live.record.spec)", "nonsense()"))


def record_truncated(site: Site) -> None:
    site.record.write_bytes(site.record.read_bytes()[:-20])


def record_missing(site: Site) -> None:
    site.record.unlink()


def record_newer(site: Site) -> None:
    body = json.loads(site.record.read_bytes().splitlines()[0])
    text = json.dumps({**body, "version": RECORD_VERSION + 1}).encode()
    site.record.write_bytes(text + f"\ncrc32:{zlib.crc32(text):08x}\n".encode())


def node_toml_broken(site: Site) -> None:
    (site.top / "etc" / "node.toml").write_text("[params\n")


def profile_unknown(site: Site) -> None:
    (site.top / "etc" / "profiles" / "db.toml").unlink()


@dataclass(frozen=True)
class Fate:
    """The observation; the notes or error of a polite stop; the notes of a forced one; whether the driver is used."""

    spoil: Callable[[Site], None]
    polite: str | type[HvError] = ""
    words: str = ""
    by_driver: bool = True
    seen: State = State.RUNNING


_SKIPPED = "fragile.more (fragile-more 1.0)"
_FATES = [
    Fate(untouched),
    Fate(extension_not_importable, _SKIPPED),
    Fate(extension_leaves, _SKIPPED),
    Fate(extension_with_broken_params, _SKIPPED),
    Fate(extension_with_a_param_of_the_driver, _SKIPPED),
    Fate(extension_with_an_unknown_hook, _SKIPPED),
    Fate(extension_that_breaks_the_drivers_class, _SKIPPED),
    Fate(extension_twice, "declared by fragile-more 1.0 and fragile-other 1.0"),
    Fate(extension_uninstalled),
    Fate(driver_twice, DriverLoadError, "declared by fragile-driver 1.0 and fragile-other 1.0", by_driver=False),
    Fate(driver_not_importable, DriverLoadError, "got RuntimeError: oh", by_driver=False),
    Fate(driver_with_a_broken_constructor, DriverLoadError, "got RuntimeError: oh", by_driver=False),
    Fate(driver_with_broken_params, DriverLoadError, "'nonsense' is not defined", by_driver=False),
    Fate(driver_uninstalled, hv.UnknownDriverError, "no driver 'fragile'", by_driver=False),
    Fate(driver_without_a_method, DriverLoadError, "has no describe", by_driver=False),
    Fate(driver_that_cannot_read_its_spec, RecordError, "unknown keys shape", by_driver=False),
    Fate(driver_with_a_mistake_in_stop, DriverError, "'nonsense' is not defined", by_driver=False),
    Fate(record_truncated, StateError, "kept the damaged record", by_driver=False, seen=State.UNKNOWN),
    Fate(record_missing, StateError, "ended pid", by_driver=False, seen=State.UNKNOWN),
    Fate(record_newer, StateError, "kept the damaged record", by_driver=False, seen=State.UNKNOWN),
    Fate(node_toml_broken),
    Fate(profile_unknown),
]
FATES = [pytest.param(fate, id=fate.spoil.__name__.replace("_", " ")) for fate in _FATES]
_LOADED = {"driver_that_cannot_read_its_spec", "driver_with_a_mistake_in_stop"}


def expected_state(fate: Fate, site: Site) -> State:
    """A driver without a static ``observe`` has to be loaded to see anything."""
    blind = "staticmethod" not in site.driver and not fate.by_driver and fate.spoil.__name__ not in _LOADED
    return State.UNKNOWN if blind else fate.seen


def processes(run_dir: Path) -> list[int]:
    """Who holds the life lock or was launched for the instance."""
    directory = run_dir / "instances/web1"
    # One that is in the middle of exec has no environment, and is found by its lock.
    found = [process.pid for process in members(directory / "alive", directory / "status")]
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and f"{run_dir}/instances/web1".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


BOTH = pytest.mark.parametrize(
    "site",
    [pytest.param(FAR, id="observed alone"), pytest.param(NEAR, id="observed by its driver", marks=pytest.mark.slow)],
    indirect=True,
)


@BOTH
@pytest.mark.parametrize("fate", FATES)
def test_it_is_listed_and_shown_and_force_ends_it(site: Site, fate: Fate, nothing_left: Callable[[], None]) -> None:
    fate.spoil(site)
    assert processes(site.run_dir)
    wanted = expected_state(fate, site)
    assert [(one.name, one.state) for one in site.node.instances()] == [("web1", wanted)]
    info = site.node.info("web1")
    assert info.state == wanted
    assert (info.reason is None) == (wanted is State.RUNNING)
    outcome = site.node.stop("web1", force=True)
    assert (outcome.changed, outcome.state) == (True, State.STOPPED)
    assert outcome.stopped_by == ("quit" if fate.by_driver else "kill")
    assert fate.words in "\n".join(outcome.notes)
    assert processes(site.run_dir) == []
    assert site.node.instances() == []
    nothing_left()
    if fate.seen is State.RUNNING:
        assert not (site.run_dir / "damaged").exists()


@pytest.mark.parametrize("fate", FATES)
def test_a_polite_stop_goes_on_without_an_extension_and_needs_the_driver(site: Site, fate: Fate) -> None:
    fate.spoil(site)
    if isinstance(fate.polite, str):
        outcome = site.node.stop("web1")
        assert outcome.stopped_by == "powerdown"
        assert (outcome.notes == ()) == (fate.polite == "")
        assert fate.polite in "\n".join(outcome.notes)
        assert processes(site.run_dir) == []
        return
    with pytest.raises(StateError if expected_state(fate, site) is State.UNKNOWN else fate.polite) as caught:
        site.node.stop("web1")
    assert "stop --force" in "\n".join([str(caught.value), *caught.value.__notes__])
    assert processes(site.run_dir)
    assert [one.state for one in site.node.instances()] == [expected_state(fate, site)]


@pytest.mark.parametrize("strict", ["", "1"])
def test_also_where_everything_broken_is_to_fail(site: Site, strict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVCORE_STRICT", strict)
    extension_with_broken_params(site)
    assert len(site.node.instances()) == 1
    assert site.node.stop("web1", force=True).state is State.STOPPED
    assert processes(site.run_dir) == []


def test_what_only_its_driver_can_release_is_named_and_the_record_kept(
    site: Site, nothing_left: Callable[[], None]
) -> None:
    store = Store(site.run_dir)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, ledger=(*record.ledger, hv.Entry(kind="crate"))))
    before = site.record.read_bytes()
    driver_uninstalled(site)
    outcome = site.node.stop("web1", force=True)
    (kept,) = (site.run_dir / "damaged").iterdir()
    assert outcome.notes[-1] == f"only driver fragile can release crate: its record is kept as {kept}"
    assert kept.read_bytes() == before
    assert processes(site.run_dir) == []
    nothing_left()


def test_the_extensions_that_work_are_heard_beside_one_that_does_not(site: Site) -> None:
    site.install("fragile-extra", "hvcore.extensions", "fragile.extra = fragile_extra:plugin")
    site.write("fragile_extra", "import sys\nraise RuntimeError('oh')")
    outcome = site.node.stop("web1")
    assert "fragile.extra (fragile-extra 1.0)" in outcome.notes[-1]
    assert sys.modules["fragile_more"].CALLED == ["before"]


def test_nothing_is_started_or_rebooted_with_a_part_of_the_driver_missing(site: Site) -> None:
    extension_with_broken_params(site)
    for call in (lambda: site.node.driver("fragile"), lambda: site.node.reboot("web1")):
        with pytest.raises(HvError, match=r"fragile\.more \(fragile-more 1\.0\)"):
            call()
    assert processes(site.run_dir)


# ------------------------------------------------------------------------------------------------ imports that hang

HANG = "import threading\nthreading.Event().wait(600)\n"


def hanging_program(site: Site, what: str) -> str:
    """A program that does it with a limit of 0.3 s, in its own process: the thread that hangs stays there."""
    return f"""
import sys, hvcore
from hvcore.api import node as api
from hvcore.deadline import Deadline
from hvcore.operations.inspection.info import infos
from hvcore.operations.lifecycle.stop import stop
node = hvcore.Node({str(site.run_dir)!r}, config_dir={str(site.top / "etc")!r})
import dataclasses
context = dataclasses.replace(node._context, driver=api._Drivers(limit_s=0.3).for_running)
{what}
"""


def run(site: Site, what: str) -> str:
    import subprocess

    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site.folder), *sys.path])}
    argv = [sys.executable, "-c", hanging_program(site, what)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


SEE = "print([str(one.state) for one in infos(context)])\n"
STOP = (
    "outcome = stop(context, 'web1', force={force}, deadline=Deadline(10)); print(outcome.stopped_by, *outcome.notes)"
)


@pytest.mark.parametrize("force", [False, True])
def test_an_extension_whose_import_hangs_is_left_out(site: Site, force: bool) -> None:  # noqa: FBT001 - a parameter
    site.write("fragile_more", HANG)
    seen, said = run(site, SEE + STOP.format(force=force)).splitlines()
    assert seen == "['running']"
    assert said.startswith("quit" if force else "powerdown")
    assert "): did not finish loading within 0.3 s (at " in said
    assert "fragile_more.py:2)" in said
    assert processes(site.run_dir) == []


@BOTH
def test_an_instance_can_be_stopped_when_the_import_of_its_driver_hangs(site: Site) -> None:
    site.write("fragile_driver", HANG)
    seen, said = run(site, SEE + STOP.format(force=True)).splitlines()
    assert seen == ("['running']" if "staticmethod" in site.driver else "['unknown']")
    assert said.startswith("kill driver fragile (fragile-driver 1.0)")
    assert ": did not finish loading within 0.3 s" in said
    assert processes(site.run_dir) == []


def test_a_driver_that_works_is_loaded_for_what_runs_as_for_a_start(site: Site) -> None:
    whole, running = load("fragile"), load_for_running("fragile", limit_s=10.0)
    assert running.skipped == ()
    assert list(running.schema.params) == list(whole.schema.params) == ["shape", "colour"]
    assert running.hooks.implementations("before_stop") == whole.hooks.implementations("before_stop")
