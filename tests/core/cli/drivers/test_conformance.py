"""``hv conformance``: its output for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from distributions import installed
from fixture_types import Hv

from hvcore.testing import CHECKS, Check, Level, Outcome, Report, Result, Tier, Versions


def test_it_shows_each_check_and_a_last_line_with_versions(hv: Hv) -> None:
    ended = hv("conformance", "fake", "--only", "life_full_cycle", "--only", "capability_adopt")
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["CHECK", "LEVEL", "RESULT", "SECONDS", "REASON"]
    assert lines[1].split()[:3] == ["life_full_cycle", "must", "passed"]
    assert lines[2].endswith("it does not claim adopt: interrupted starts are undone")
    assert "fake (hv-fake 0.1.0) on hvcore 0.1.0" in lines[-1]
    assert "1 passed, 0 failed, 1 skipped" in lines[-1]


def test_it_writes_reports_for_programs(hv: Hv, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("report.json", "junit.xml")]
    ended = hv("conformance", "fake", "--only", "time_check", "--report", paths[0], "--junit", paths[1], "--json")
    report = json.loads(Path(paths[0]).read_text("utf-8"))
    assert json.loads(ended.stdout) == report
    assert (report["driver"], report["conforms"], report["counts"]["passed"]) == ("fake", True, 1)
    assert set(report["versions"]) == {"distribution", "version", "hvcore", "python", "kernel", "machine", "programs"}
    suite = ET.parse(paths[1]).getroot()
    assert [(case.get("classname"), case.get("name")) for case in suite.iter("testcase")] == [
        ("fake.budgets", "time_check")
    ]
    assert {prop.get("name") for prop in suite.iter("property")} > {"hvcore", "python", "kernel"}


def test_a_failed_check_ends_with_1_and_names_the_command_that_explains_it(other_drivers: None, hv_process: Hv) -> None:
    ended = hv_process("conformance", "bare", "--only", "load_manifest_valid", "--only", "argv_plan_complete")
    assert ended.returncode == 1
    assert b"does not say which hvcore it needs" in ended.stdout
    assert b"hv conformance --explain load_manifest_valid" in ended.stderr
    assert b"driver bare has no conformance subject (entry point in hvcore.conformance)" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "DRIVER is missing"),
        (("fake", "--only", "life_full_cicle"), "did you mean 'life_full_cycle'?"),
        (("--explain", "nothing_like_it"), "see 'hv conformance --list'"),
        (("fake", "--static", "--only", "life_full_cycle"), "no check matches"),
        (("fak",), "did you mean 'fake'?"),
    ],
)
def test_bad_usage_says_what_to_do(hv: Hv, run_dir: Path, arguments: tuple[str, ...], said: str) -> None:
    ended = hv("conformance", *arguments)
    assert ended.exit_code == 2
    assert said in ended.stderr


def test_explain_says_what_and_why(hv: Hv) -> None:
    said = hv("conformance", "--explain", "crash_disk_full").stdout
    assert said.startswith("crash_disk_full (must, live, crash)")
    assert "\n\nWhy: A full /run" in said
    assert json.loads(hv("conformance", "--explain", "crash_disk_full", "--json").stdout)["level"] == "must"


def test_list_has_every_check(hv: Hv) -> None:
    listed = json.loads(hv("conformance", "--list", "--json").stdout)
    assert [row["name"] for row in listed] == [check.name for check in CHECKS]
    hardening = hv("conformance", "--list", "--level", "hardening", "--static").stdout.splitlines()[1:]
    assert [line.split()[0] for line in hardening] == ["contract_spec_decodes", "argv_monotone_delta"]


@pytest.mark.heavy
def test_it_needs_neither_pytest_nor_hypothesis_nor_jsonschema() -> None:
    code = (
        "import sys\n"
        "for name in ('pytest', '_pytest', 'hypothesis', 'jsonschema'): sys.modules[name] = None\n"
        "from hvcore.cli import main\n"
        "sys.argv = ['hv', 'conformance', 'fake', '--only', 'schema_json_roundtrip', '--only', 'life_full_cycle']\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "the package jsonschema is not installed; pip install hvcore[testing]" in ended.stdout
    assert "1 passed, 0 failed, 1 skipped" in ended.stdout


def test_characters_that_xml_cannot_hold_are_escaped_in_the_junit_report() -> None:
    def nothing(bench: object) -> None: ...

    check = Check(name="one", area="none", level=Level.MUST, tier=Tier.STATIC, what="It.", why="So.", body=nothing)
    result = Result.of(check, Outcome.FAILED, reason="said \x1b[31m <no>", detail="a\0b")
    versions = Versions(distribution="hv-x", version="1", programs={"qemu": "7.2"})
    report = Report(driver="x", capabilities=(), versions=versions, results=(result,), thorough=False, seconds=1.0)
    suite = ET.fromstring(report.to_junit())
    (failure,) = suite.iter("failure")
    assert (failure.get("message"), failure.text) == ("said \\x1b[31m <no>", "a\\x00b")
    assert suite.get("failures") == "1"


@pytest.mark.heavy
def test_a_driver_that_hangs_during_its_import_is_given_up(other_drivers: None, hv_process: Hv, tmp_path: Path) -> None:
    (tmp_path / "site" / "failing_driver.py").write_text("import time\ntime.sleep(600)\n")
    found = hv_process("conformance", "failing", "--static", "--deadline", "1")
    assert found.returncode == 1
    assert b": did not finish loading within 1 s (" in found.stderr
    assert b"failing_driver.py:2)" in found.stderr
    assert found.stdout == b""


def test_a_time_that_is_over_while_an_error_is_reported_names_the_driver(
    other_drivers: None, hv_process: Hv, tmp_path: Path
) -> None:
    rings = "import signal\nclass Late(Exception):\n    def __str__(self): signal.raise_signal(signal.SIGALRM)\nraise Late()\n"
    (tmp_path / "site" / "failing_subject.py").write_text(rings)
    installed(tmp_path / "site", "hv-subject", "[hvcore.conformance]\nfailing = failing_subject:S\n", requires=())
    found = hv_process("conformance", "failing", "--static", "--deadline", "60")
    assert found.returncode == 1
    assert (
        b"hv: driver failing: its subject cannot be imported, not done within 60 s; try a longer --deadline"
        in found.stderr
    )


@pytest.mark.parametrize("option", ["--report", "--junit"])
def test_a_report_that_cannot_be_written_is_named(hv: Hv, option: str) -> None:
    ended = hv("conformance", "fake", "--only", "time_check", option, "/nonexistent/report")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("hv: '/nonexistent/report': no such file or directory")
    ended = hv("conformance", "fake", "--only", "time_check", option, "/dev/full")
    assert ended.exit_code == 1
    assert ended.stderr == "hv: '/dev/full': no space left on device\n"
