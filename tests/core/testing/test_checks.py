"""Every check finds its mistake: a driver with this mistake fails the check, with the right message.

Each broken driver differs from a good one, which passes all checks, and is installed as its own distribution.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from distributions import installed

from hvcore.errors import DriverLoadError
from hvcore.testing import CHECKS, Check, Outcome, Subject, Tier, find_subject, has_subject, run, run_check

pytestmark = pytest.mark.heavy  # a broken driver for each check of the kit

DRIVERS = Path(__file__).with_name("drivers")
sys.path.insert(0, str(DRIVERS))

import kit_crash  # noqa: E402
import kit_live  # noqa: E402
import kit_static  # noqa: E402
from kit_broken import BROKEN, Broken  # noqa: E402
from kit_subject import SUBJECT  # noqa: E402

WITHOUT: dict[str, str] = {}
"""Checks that no driver can fail, with the reason."""

GOOD = Broken(check="", message="", target="kit_good:Good")


EACH = [
    pytest.param(check, id=check.name, marks=[pytest.mark.live] if check.tier is Tier.LIVE else []) for check in CHECKS
]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Broken], None]]:
    """Install a driver as ``good``."""
    before = set(sys.modules)

    def do(broken: Broken) -> None:
        installed(tmp_path, "good", f"[hvcore.drivers]\ngood = {broken.target}\n", requires=(broken.requires,))
        for name, text in broken.files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield do
    while kit_live.HELPERS:
        with suppress(ChildProcessError):  # it was a child of a forked check
            os.waitpid(kit_live.HELPERS.pop(), 0)
    for module in set(sys.modules) - before:
        if module.startswith(("kit_inline", "kit_pack")):
            del sys.modules[module]


def fit(check: Check, subject: Subject) -> None:
    if check.tier is Tier.LIVE and subject.unfit() is not None:
        pytest.skip(str(subject.unfit()))


@pytest.mark.parametrize("check", EACH)
def test_a_broken_driver_fails_the_check_of_what_is_broken(check: Check, install: Callable[[Broken], None]) -> None:
    if check.name in WITHOUT:
        pytest.skip(WITHOUT[check.name])
    broken = BROKEN[check.name]
    fit(check, broken.subject)
    install(broken)
    result = run_check(check, broken.subject)
    assert result.outcome is Outcome.FAILED, result
    assert re.search(broken.message, result.reason or ""), result.reason


def named(name: str) -> Check:
    (check,) = (check for check in CHECKS if check.name == name)
    return check


@pytest.mark.parametrize("name", ["contract_returns", "argv_deterministic", "schema_pure_phase_is_pure"])
def test_a_driver_that_exits_the_process_fails_and_the_kit_continues(
    install: Callable[[Broken], None], name: str
) -> None:
    install(Broken(check=name, message="", target="kit_static:Exits"))
    result = run_check(named(name), SUBJECT)
    assert result.outcome is Outcome.FAILED
    assert re.search("SystemExit|before it gave an answer", result.reason or "")


def test_a_driver_that_prints_at_import_fails_only_that_check(install: Callable[[Broken], None]) -> None:
    install(Broken(check="", message="", target=kit_static.AT, files=kit_static.inline("print('hello')\n")))
    reason = run_check(named("load_import_is_quiet"), SUBJECT).reason
    assert reason == r"its import has effects on the node: print: 'hello\n'"
    for name in ("argv_deterministic", "load_no_import_for_listing", "load_api_too_old"):
        assert run_check(named(name), SUBJECT).outcome is Outcome.PASSED


def test_a_subject_is_found_beside_a_distribution_with_damaged_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn-1.0.dist-info").mkdir()
    (tmp_path / "torn-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nbroken\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert has_subject("fake")
    assert find_subject("fake").driver == "fake"


def test_the_error_of_a_broken_subject_names_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd-1.0.dist-info").mkdir()
    (tmp_path / "odd-1.0.dist-info" / "entry_points.txt").write_text("[hvcore.conformance]\nodd = kit_odd:find\n")
    (tmp_path / "kit_odd.py").write_text("import sys\ndef find(): sys.exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DriverLoadError, match=r"driver odd: its subject 'kit_odd:find' .* got SystemExit: 3"):
        find_subject("odd")
    with pytest.raises(DriverLoadError, match=r"driver odd: its subject's versions .* got SystemExit: 3"):
        run(Subject(driver="odd", versions=lambda: sys.exit(3)), ())


def test_options_injected_by_a_list_are_found(install: Callable[[Broken], None]) -> None:
    message = r"params.words = \['kitvalue,kit=on'\] becomes a separate option"
    broken = Broken(check="argv_injection", message=message, target="kit_static:UnescapedList")
    install(broken)
    assert re.search(message, run_check(named(broken.check), broken.subject).reason or "")


@pytest.mark.slow
@pytest.mark.parametrize("check", EACH)
def test_the_good_driver_passes(check: Check, install: Callable[[Broken], None]) -> None:
    fit(check, SUBJECT)
    install(GOOD)
    result = run_check(check, SUBJECT)
    assert result.outcome is not Outcome.FAILED, result.detail


def test_every_check_says_what_and_why() -> None:
    assert [check.name for check in CHECKS if not check.what or not check.why] == []


def test_every_check_has_a_broken_driver_or_a_reason_why_not() -> None:
    names = {check.name for check in CHECKS}
    assert names == {*BROKEN, *WITHOUT}
    assert set(BROKEN).isdisjoint(WITHOUT)
    assert all((kit_static, kit_live, kit_crash))
