"""Golden command lines, for every recorded QEMU; golden/README.md says how the files are named and read.

What QEMUs can do comes from recordings, so nothing here needs one. After ``pytest --golden-update`` look at the
difference before you keep it: a changed command line can end live migration.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from corpus import CASES, GOLDEN, Answer, Corpus

from hv_kvm.driver import KvmDriver
from hv_kvm.machine.facts import Facts


def folded(case: str, answers: Mapping[str, Answer]) -> dict[str, str]:
    """The files of a case. The most frequent result (at a draw, that of the newest QEMU) has the case's name."""
    times = Counter(answers.values())
    common = max(reversed([*answers.values()]), key=lambda answer: times[answer])
    own = {f"{case}@{version}.{it.kind}": it.text for version, it in answers.items() if it != common}
    return {f"{case}.{common.kind}": common.text, **own}


def there(case: Path) -> dict[str, str]:
    paths = [path for pattern in (f"{case.stem}.*", f"{case.stem}@*") for path in case.parent.glob(pattern)]
    return {path.name: path.read_text(encoding="utf-8") for path in paths if path != case}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_every_qemu_gets_the_golden_answer(
    case: Path, corpus: Corpus, recorded: dict[str, Facts], request: pytest.FixtureRequest
) -> None:
    expected = folded(case.stem, {version: corpus.answer(case, facts) for version, facts in recorded.items()})
    golden = there(case)
    if request.config.getoption("--golden-update"):
        for name in golden.keys() - expected.keys():
            (case.parent / name).unlink()
        for name in expected.keys() - {name for name, text in golden.items() if expected.get(name) == text}:
            (case.parent / name).write_text(expected[name], encoding="utf-8")
        return
    for name, text in expected.items():
        assert text == golden.get(name), f"{name}: review it, then: pytest --golden-update"
    assert sorted(golden) == sorted(expected)


def test_every_parameter_has_a_case_that_sets_it(corpus: Corpus) -> None:
    given = {key for case in CASES for key in re.findall(r"^(\w+) *=", case.read_text(encoding="utf-8"), re.MULTILINE)}
    assert sorted(set(corpus.kvm.schema.params) - given) == []


def test_every_family_with_parameters_has_its_own_cases() -> None:
    families = {name for name, _ in KvmDriver.plugins} - {
        "resources",
        "pinning",
        "balloon",
        "displays",
        "cables",
    }  # without options
    assert {case.parent.name for case in CASES} == families
    modules = {path.stem for path in (GOLDEN.parents[1] / "src/hv_kvm/devices").glob("*.py")} - {"__init__"}
    names = {getattr(family, "__name__", "") for name, family in KvmDriver.plugins if name in families}
    assert {name.rpartition(".")[2] for name in names} == modules


def test_every_answer_has_a_case() -> None:
    answers = [path for suffix in ("argv", "error") for path in GOLDEN.glob(f"*/*.{suffix}")]
    assert {path.parent / f"{path.stem.split('@')[0]}.toml" for path in answers} == set(CASES)


def test_an_alias_is_pinned_to_the_machine_of_each_qemu(corpus: Corpus, recorded: dict[str, Facts]) -> None:
    machines = {}
    for version, facts in recorded.items():
        answer = corpus.answer(GOLDEN / "machine/smallest.toml", facts)
        machines[version] = next(it.tokens[1] for it in answer.arguments if it.tokens[0] == "-machine")
    assert machines == {version: f"pc-i440fx-{version},accel=tcg" for version in recorded}


def test_rendering_is_pure(corpus: Corpus, recorded: dict[str, Facts]) -> None:
    for case in CASES[:5]:
        for facts in recorded.values():
            assert corpus.answer(case, facts) == corpus.answer(case, facts)


def test_the_releases_that_people_run_are_recorded(recorded: dict[str, Facts]) -> None:
    assert {"5.2", "7.2", "10.0", "11.1"} <= set(recorded)
    for version, facts in recorded.items():
        assert facts.version.startswith(f"{version}.")
        assert {"virtio-blk-pci", "virtio-net-pci", "ide-hd", "ide-cd", "VGA"} <= facts.types
