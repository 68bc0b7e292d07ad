"""Golden command lines: golden/FAMILY/CASE.toml is an instance, .argv its command line, .error its problems.

Facts come from a recorded QEMU (data/facts-7.2.json, made by record_facts.py), so nothing here needs a QEMU. Comments
at the top of a case fix what is of a node: ``# accelerator: kvm``, ``# block devices: disk0``, ``# level: off``. After
``pytest --golden-update`` look at the difference before you keep it: a changed command line can end live migration.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

import hvcore
from hv_kvm import node
from hv_kvm.describe import symbols
from hv_kvm.facts import Facts
from hv_kvm.node import Accel
from hv_kvm.render import render
from hvcore import Level, ParamsError, Problem
from hvcore.instance_file import load_instance
from hvcore.loader import LoadedDriver, load

HERE: Final = Path(__file__).parent
CASES: Final = sorted((HERE / "golden").glob("*/*.toml"))


@pytest.fixture(scope="module")
def kvm() -> LoadedDriver:
    return load("kvm")


@pytest.fixture(scope="module")
def facts() -> Facts:
    return Facts.from_json(json.loads((HERE / "data/facts-7.2.json").read_text(encoding="utf-8")))


def header(case: Path, key: str, default: str) -> str:
    found = re.search(rf"^# {key}: *(.*)$", case.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else default


def command_line(case: Path, kvm: LoadedDriver, facts: Facts) -> str:
    """One option per line. Raises `ParamsError` with the problems of check, or else with those of verify."""
    instance = load_instance(str(case))
    spec = kvm.driver.plan(instance, kvm.check(instance))
    lacking = [problem for _, problem in kvm.hooks.items("verify", Problem, spec=spec, facts=facts)]
    if lacking:
        raise ParamsError(instance.name, lacking)
    spec = node.pin(spec, facts)
    bindings = symbols(
        spec, Level(header(case, "level", "strict")), Accel(header(case, "accelerator", "tcg"), "golden")
    )
    blocks = header(case, "block devices", "").split()
    files = {
        name: replace(file, block_device=True, fds=(*file.fds, f"{{fd:{name}-reader}}")) if name in blocks else file
        for name, file in bindings.files.items()
    }
    arguments = render(kvm.hooks, spec, facts, replace(bindings, files=files))
    return "".join(f"{' '.join(argument.tokens)}\n" for argument in arguments)


def outcome(case: Path, kvm: LoadedDriver, facts: Facts) -> tuple[str, str]:
    try:
        return ".argv", command_line(case, kvm, facts)
    except ParamsError as error:
        return ".error", "".join(f"{problem}\n" for problem in error.problems)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_the_command_line_is_the_golden_one(
    case: Path, kvm: LoadedDriver, facts: Facts, request: pytest.FixtureRequest
) -> None:
    suffix, text = outcome(case, kvm, facts)
    other = case.with_suffix(".error" if suffix == ".argv" else ".argv")
    if request.config.getoption("--golden-update"):
        case.with_suffix(suffix).write_text(text, encoding="utf-8")
        other.unlink(missing_ok=True)
        return
    assert not other.exists(), f"expected {other.name}, got:\n{text}"
    assert text == case.with_suffix(suffix).read_text(encoding="utf-8"), "review it, then: pytest --golden-update"


def test_every_parameter_has_a_case_that_sets_it(kvm: LoadedDriver) -> None:
    given = {key for case in CASES for key in re.findall(r"^(\w+) *=", case.read_text(encoding="utf-8"), re.MULTILINE)}
    assert sorted(set(kvm.schema.params) - given) == []


def test_every_family_with_parameters_has_cases_of_its_own() -> None:
    families = {path.stem for path in (HERE.parent / "src/hv_kvm/devices").glob("*.py")} - {"__init__"}
    assert {case.parent.name for case in CASES} == families


def test_every_case_has_an_answer_and_every_answer_a_case() -> None:
    answers = [path for suffix in ("argv", "error") for path in (HERE / "golden").glob(f"*/*.{suffix}")]
    assert sorted(path.with_suffix(".toml") for path in answers) == CASES


def test_rendering_is_pure(kvm: LoadedDriver, facts: Facts) -> None:
    for case in CASES[:5]:
        assert outcome(case, kvm, facts) == outcome(case, kvm, facts)


def test_the_recorded_facts_name_what_the_driver_asks_for(facts: Facts) -> None:
    assert facts.version.startswith("7.2")
    assert {"virtio-blk-pci", "virtio-net-pci", "ide-hd", "ide-cd", "VGA"} <= facts.types
    assert hvcore.__version__
