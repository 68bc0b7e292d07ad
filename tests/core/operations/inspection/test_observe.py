"""A driver whose ``observe`` is a module's function: observing its instances imports only that function."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributions import installed

import hvcore
from hvcore.operations.inspection.observe import observer_of
from hvcore.state.store import Store

LOOK = """
import hvcore.plugin as hv
def observe(live):
    return hv.Observation(state=hv.State.RUNNING, reason="seen from afar")
"""
DRIVER = """
import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver
from afar_look import observe

class Driver(FakeDriver):
    name = "afar"
    observe = staticmethod(observe)
"""
LIST = """
import json, sys, hvcore
node = hvcore.Node(sys.argv[1])
seen = [(one.name, str(one.state), one.reason) for one in node.instances()]
print(json.dumps({"seen": seen, "modules": sorted(sys.modules)}))
"""
Listed = Callable[..., dict[str, Any]]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder to import from, with driver ``afar`` in it."""
    folder = tmp_path / "site"
    installed(folder, "hv-afar", "[hvcore.drivers]\nafar = afar_driver:Driver\n")
    (folder / "afar_driver.py").write_text(DRIVER)
    (folder / "afar_look.py").write_text(LOOK)
    return folder


@pytest.fixture
def listed(site: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Listed:
    """What another process sees of an instance of driver ``afar``, and the modules it has for that."""
    with monkeypatch.context() as here:
        here.syspath_prepend(str(site))
        hvcore.Node(run_dir).driver("afar").start(hvcore.Instance(name="web1", driver="afar"))
        for module in ("afar_driver", "afar_look"):
            del sys.modules[module]

    def run(**environment: str) -> dict[str, Any]:
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-c", LIST, str(run_dir)]
        env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment}
        found: dict[str, Any] = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
        return found

    return run


def test_a_list_imports_the_function_and_not_the_driver(listed: Listed) -> None:
    found = listed()
    assert found["seen"] == [["web1", "running", "seen from afar"]]
    assert "afar_look" in found["modules"]
    unwanted = {
        "afar_driver",
        "hvcore.plugins.loader",
        "hvcore.state.job",
        "importlib.metadata",
        "packaging",
        "pluggy",
        "stevedore",
    }
    assert unwanted & set(found["modules"]) == set()


@pytest.mark.heavy
@pytest.mark.parametrize(
    "broken",
    ["raise ImportError('gone')", "seen = 1", "def observe(live): return None", "def observe(live): raise ValueError"],
)
def test_a_function_that_will_not_do_leaves_the_answer_to_the_driver(broken: str, listed: Listed, site: Path) -> None:
    (site / "afar_look.py").write_text(broken)
    (site / "afar_driver.py").write_text(DRIVER.replace("from afar_look import observe", LOOK))
    assert listed()["seen"] == [["web1", "running", "seen from afar"]]


@pytest.mark.heavy
def test_a_restriction_of_drivers_makes_an_observation_load_the_driver(listed: Listed) -> None:
    ((_, state, reason),) = listed(HVCORE_DRIVERS="fake")["seen"]
    assert state == "unknown"
    assert "not in HVCORE_DRIVERS" in reason
    assert "afar_driver" in listed(HVCORE_STRICT="1")["modules"]


@pytest.mark.heavy
def test_a_missing_observer_function_is_reported_as_a_missing_driver(listed: Listed, site: Path, run_dir: Path) -> None:
    store = Store(run_dir)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, driver="nowhere", observer="nowhere:observe"))
    ((_, state, reason),) = listed()["seen"]
    assert (state, reason.partition(";")[0]) == ("unknown", "no driver 'nowhere'")


@pytest.mark.heavy
@pytest.mark.parametrize("place", ["hv_kvm.observe:observe", "hv_chroot.observe:observe"])
def test_a_place_that_an_older_release_wrote_down_leaves_the_answer_to_the_driver(
    place: str, listed: Listed, run_dir: Path
) -> None:
    store = Store(run_dir)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, observer=place))
    assert listed()["seen"] == [["web1", "running", "seen from afar"]]


@pytest.mark.parametrize(
    "place", ["hvcore.state.store.has_reserved", "hvcore.operations.inspection.unrecorded.remains"]
)
def test_a_start_that_begins_during_the_look_leaves_nothing_unknown(
    place: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look has found no record; then it finds what the start has reserved, or launched."""
    node = hvcore.Node(run_dir)
    fake = node.driver("fake")

    def starts_first(*_: object) -> bool:
        monkeypatch.undo()  # the start looks too
        fake.start(hvcore.Instance(name="web1", driver="fake"))
        return True

    monkeypatch.setattr(place, starts_first)
    assert node.info("web1").state is hvcore.State.RUNNING


def afar(live: object) -> None:
    """A function of a module."""


class _Methods:
    @staticmethod
    def observe(live: object) -> None:
        """A function of no module."""


class _Function:
    observe = staticmethod(afar)


class _Partial:
    observe = staticmethod(functools.partial(afar, None))


class _Ordinary:
    def observe(self, live: object) -> None:
        """What most drivers have."""


def test_only_a_function_of_a_module_is_found_without_its_driver() -> None:
    assert observer_of(_Function()) == f"{__name__}:afar"
    assert [observer_of(driver) for driver in (_Methods(), _Partial(), _Ordinary())] == ["", "", ""]
