"""A third party's family: its parameters, device, arguments and rule, in kvm and without a change to it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from fixture_types import File, Run

pytestmark = pytest.mark.heavy  # a new process for each test

needs_qemu: Final = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU: ./dev setup")

SAME_KEY: Final = """
@hv.hookimpl
def params():
    return hv.ParamGroup("other", hv.Param("watchdog_action", hv.boolean(), help="Something else."))
"""
SAME_ID: Final = """
@hv.hookimpl
def render():
    yield Opt(name="-chardev", head="null", props={"id": "qmp"})
"""
SAME_KIND: Final = """
from hv_kvm.plugin import Device


class Watchdog(Device):
    pass


@hv.hookimpl
def devices():
    return [Watchdog]
"""
UNDECLARED: Final = """
from hv_kvm.plugin import Device


class Other(Device):
    pass


@hv.hookimpl
def plan():
    return [Other()]
"""
ID_OF_AN_OPTION: Final = """
@hv.hookimpl
def render(spec):
    yield Opt(name="-device", head="edu", props={"id": "watchdog0"})
"""


@pytest.fixture(autouse=True)
def _installed(example: Callable[[Path], None]) -> None:
    example(Path(__file__).resolve().parents[2] / "examples/hv-watchdog")


def document(ended: subprocess.CompletedProcess[str]) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_its_parameters_are_those_of_the_driver(hv: Run) -> None:
    rows = {row["key"]: row for row in document(hv("params", "kvm", "--json"))}
    assert rows["watchdog_action"]["owner"] == "kvm.watchdog (hv-watchdog 0.1.0)"
    assert rows["watchdog_action"]["group"] == "watchdog"
    assert "watchdog_action" in hv("params", "kvm").stdout
    schema = document(hv("params", "kvm", "--schema"))
    assert schema["properties"]["watchdog"]["type"] == "boolean"
    assert "watchdog" in schema["properties"]["unset"]["items"]["enum"]


def test_it_is_in_the_reference(site: Path) -> None:
    script = "from hvcore.params.reference import markdown; from hvcore.plugins.loader import load; print(markdown(load('kvm').schema))"
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    page = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert "## watchdog" in page.stdout
    assert "\n### `watchdog_action`\n" in page.stdout


@needs_qemu
def test_its_device_and_arguments_are_explained(hv: Run, file: File) -> None:
    plan = document(hv("explain", file('watchdog = true\nwatchdog_action = "pause"'), "--json"))
    own = {row["tokens"][0]: row for row in plan["arguments"] if row["plugin"] == "kvm.watchdog"}
    assert own["-device"]["tokens"][1].startswith("i6300esb,id=watchdog0,bus=pci.0,addr=0x")
    assert own["-action"]["tokens"] == ["-action", "watchdog=pause"]
    assert own["-action"]["capability"] == "action has watchdog"
    assert own["-action"]["layers"] == {"watchdog_action": "instance"}
    assert plan["params"]["watchdog"] == {"value": True, "layer": "instance"}


@needs_qemu
def test_without_it_nothing_is_added(hv: Run, file: File) -> None:
    assert "watchdog" not in str(document(hv("explain", file(""), "--json"))["arguments"])


def test_its_rule_and_its_warning_are_listed_with_all_others(hv: Run, file: File) -> None:
    ended = hv("check", file('watchdog_action = "reset"\nserial_speed = 5'))
    assert ended.returncode == 2
    assert "params.serial_speed: " in ended.stderr
    ended = hv("check", file('watchdog_action = "reset"'))
    assert "params.watchdog_action: has no effect without a watchdog, got 'reset'; set watchdog = true" in ended.stderr
    ended = hv("check", file('watchdog = true\nwatchdog_action = "none"'))
    assert ended.returncode == 0
    assert "warning: params.watchdog_action: does not restart a guest" in ended.stderr


def test_a_clash_of_keys_names_both(hv: Run, other: Callable[[str], None], file: File) -> None:
    other(SAME_KEY)
    ended = hv("check", file(""))
    assert ended.returncode == 1
    both = "'watchdog_action': declared by both kvm.other (hv-other 0.1.0) and kvm.watchdog (hv-watchdog 0.1.0)"
    assert both in ended.stderr


def test_a_clash_of_ids_is_found_when_the_driver_is_loaded_and_names_both(
    hv: Run, other: Callable[[str], None]
) -> None:
    other(SAME_ID)
    ended = hv("params", "kvm")
    assert ended.returncode == 1
    assert "kvm.other (hv-other 0.1.0)" in ended.stderr
    assert "'-chardev qmp'" in ended.stderr
    assert "monitor (hv-kvm " in ended.stderr
    assert len(re.findall(r" at \S+\.py:\d+", ended.stderr)) == 2


def test_a_clash_of_device_classes_is_found_at_load_and_names_both(hv: Run, other: Callable[[str], None]) -> None:
    other(SAME_KIND)
    ended = hv("params", "kvm")
    assert ended.returncode == 1
    both = "'Watchdog': declared by both kvm.other (hv-other 0.1.0) and kvm.watchdog (hv-watchdog 0.1.0); rename one"
    assert both in ended.stderr


def test_a_device_that_no_record_could_be_read_with_names_its_plugin(
    hv: Run, other: Callable[[str], None], file: File
) -> None:
    other(UNDECLARED)
    ended = hv("plan", file(""))
    assert ended.returncode == 1
    assert "plugin kvm.other, hook plan: gave Other, which hook devices of this plugin does not declare" in ended.stderr


@needs_qemu
def test_a_clash_that_needs_a_value_names_both_when_it_is_planned(
    hv: Run, other: Callable[[str], None], file: File
) -> None:
    other(ID_OF_AN_OPTION)
    assert hv("params", "kvm").returncode == 0
    ended = hv("plan", file("watchdog = true"))
    assert ended.returncode == 1
    message = r"plugin kvm.watchdog \(hv-watchdog 0\.1\.0\), hook render \(\S+py:\d+\): defines '-device watchdog0', which plugin "
    assert re.search(message + r"kvm\.other \(hv-other 0\.1\.0\) at \S+py:\d+ defines too", ended.stderr)
