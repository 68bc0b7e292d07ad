"""The golden command lines in the QEMUs that they are for: the installed one, and those of ``tests/qemus.sh``.

Each is started paused, in a QEMU that exits at everything deprecated, and its monitor has to list the devices of the
command line. The default run has cases that together have each option, device and property. A case that cannot be
started on this machine is skipped with its requirement. For all cases, options, devices and properties are looked up in
that QEMU's introspection.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from corpus import CASES, Corpus, bindings, sample
from introspection import Introspection, strict_of
from pki import make_certificates
from qemu_syntax import read
from stage import MissingError, Props, Stage, complaints
from world import World

import hvcore
from hv_kvm.machine.facts import Facts, resolve_machine
from hv_kvm.qemu.probe import probe
from hvcore.config import load_instance

pytestmark = pytest.mark.live

CACHE: Final = Path(__file__).resolve().parents[3] / ".cache"
KERNEL: Final = CACHE / "kernel" / "vmlinuz"
SUITES: Final = ("bullseye", "trixie", "forky")
BINARIES: Final = {
    "installed": Path(shutil.which("qemu-system-x86_64") or "/nonexistent"),
    **{suite: CACHE / "qemu" / suite / "root/usr/bin/qemu-system-x86_64" for suite in SUITES},
}
STARTED: Final = [case for case in CASES if list(case.parent.glob(f"{case.stem}[.@]*argv"))]
SAMPLE: Final = sample(STARTED)
AT_ONCE: Final = os.cpu_count() or 1


@dataclass(frozen=True)
class Outcome:
    """``missing``: requirements that this machine lacks; ``complaints``: messages of QEMU."""

    missing: str = ""
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Qemu:
    path: str
    facts: Facts


@cache
def started(name: str) -> Qemu:
    path = str(BINARIES[name])
    return Qemu(path, probe(path, cache_dir=None))


def there(name: str) -> str:
    if not BINARIES[name].exists():
        pytest.skip(f"no such QEMU: {'./dev setup' if name == 'installed' else f'tests/qemus.sh {name}'}")
    return name


@pytest.fixture(params=BINARIES)
def qemu(request: pytest.FixtureRequest) -> Qemu:
    return started(there(request.param))


@dataclass
class Outcomes:
    """Starts the cases of each QEMU shortly before a test asks for them: as many at once as there are processors."""

    corpus: Corpus
    folder: Path
    pool: ThreadPoolExecutor
    certificates: Path | None
    begun: dict[tuple[str, Path], Future[Outcome]] = field(default_factory=dict)
    cases: dict[str, list[Path]] = field(default_factory=dict)

    def of(self, name: str, case: Path) -> Outcome:
        """The outcome of a case; of one that is not a command line in this QEMU, an empty one."""
        if name not in self.cases:
            facts = started(name).facts
            self.cases[name] = [one for one in STARTED if self.corpus.answer(one, facts).kind == "argv"]
        cases = self.cases[name]
        if case not in cases:
            return Outcome()
        at = cases.index(case)
        for one in cases[at : at + AT_ONCE]:
            if (name, one) not in self.begun:
                self.begun[name, one] = self.pool.submit(self.start, name, one)
        return self.begun[name, case].result()

    def start(self, name: str, case: Path) -> Outcome:
        qemu = started(name)
        return start(self.corpus, qemu, case, Props(qemu.path, self.folder, KERNEL, self.certificates))


@pytest.fixture(scope="module")
def outcomes(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    folder = tmp_path_factory.mktemp("golden")
    certificates = make_certificates(folder / "pki") if shutil.which("openssl") else None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            yield Outcomes(corpus, folder, pool, certificates)
        finally:
            pool.shutdown(cancel_futures=True)


def start(corpus: Corpus, qemu: Qemu, case: Path, props: Props) -> Outcome:
    spec = corpus.spec(case, qemu.facts)
    try:
        with Stage(props, f"{case.parent.name}-{case.stem}") as stage:
            arguments = corpus.render(spec, qemu.facts, stage.bind(spec, bindings(corpus.kvm, case, spec)))
            argv = [qemu.path, *strict_of(qemu.path), *(token for it in arguments[1:] for token in it.tokens)]
            messages, without = complaints(argv, stage), stage.without
    except MissingError as error:
        return Outcome(missing=str(error))
    lines = tuple(line for line in messages if not is_expected(line, case))
    return Outcome(missing=f"{without}, and starts without it" if without else "", complaints=lines)


def is_expected(line: str, case: Path) -> bool:
    """Whether the line reports a deprecated thing that the case names itself, such as an old machine."""
    names = re.findall('"([A-Za-z0-9.]+-[A-Za-z0-9.-]+)"', case.read_text(encoding="utf-8"))
    return "deprecated" in line and any(name in line for name in names)


def every_case_of_every_qemu() -> Iterator[object]:
    for name, path in BINARIES.items():
        cases = STARTED if path.exists() else STARTED[:1]  # one skip, not one for each case
        for case in cases:
            marks = [] if case in SAMPLE or not path.exists() else [pytest.mark.slow]
            yield pytest.param(name, case, id=f"{name}-{case.parent.name}/{case.stem}", marks=marks)


@pytest.mark.parametrize(("name", "case"), list(every_case_of_every_qemu()))
def test_qemu_takes_it_without_a_word(
    name: str, case: Path, corpus: Corpus, recorded: dict[str, Facts], outcomes: Outcomes
) -> None:
    qemu = started(there(name))
    answer = corpus.answer(case, qemu.facts)
    golden = corpus.answer(case, recorded.get(qemu.facts.release, qemu.facts))
    if answer.kind == "error" and golden.kind == "argv":
        pytest.skip(f"this {qemu.facts.release} has less than the recorded one: {answer.text.splitlines()[0]}")
    assert answer == golden
    outcome = outcomes.of(name, case)
    assert outcome.complaints == ()
    if outcome.missing:
        pytest.skip(f"needs {outcome.missing}")


def test_it_knows_every_option_device_and_property_and_calls_none_deprecated(corpus: Corpus, qemu: Qemu) -> None:
    unknown = {}
    with Introspection.of(qemu.path) as says:
        for case in STARTED:
            given = [it for it in corpus.answer(case, qemu.facts).arguments if it.origin.plugin != "extra"]
            options = read([token for argument in given for token in argument.tokens])
            problems = [problem for option in options for problem in says.problems(*option)]
            unknown[f"{case.parent.name}/{case.stem}"] = [it for it in problems if not is_expected(it, case)]
    assert {case: problems for case, problems in unknown.items() if problems} == {}


def test_missing_features_are_problems_and_nothing_is_started(corpus: Corpus, qemu: Qemu, world: World) -> None:
    for case in CASES:
        answer = corpus.answer(case, qemu.facts)
        if answer.kind == "error" and list(case.parent.glob(f"{case.stem}@*.*")):
            given = load_instance(str(case))
            instance = replace(given, params={**given.params, "kvm_path": qemu.path})
            with pytest.raises(hvcore.VerifyError) as caught:
                world.kvm.start(instance)
            problems = {str(problem) for problem in caught.value.problems}
            text = answer.text.replace("{version}", qemu.facts.version).replace(
                "/usr/bin/qemu-system-x86_64", qemu.path
            )
            assert set(text.splitlines()) <= problems
            assert world.node.instances() == []


def test_the_look_ups_find_what_is_not_there(qemu: Qemu) -> None:
    """Proves that the test above can fail."""
    machine = resolve_machine(qemu.facts, "pc")
    wrong = [
        ("-device", "virtio-blk-pci,id=a,no-such=1"),
        ("-device", "no-such,id=b"),
        ("-netdev", "user,id=c,no-such=1"),
        ("-blockdev", "driver=raw,node-name=d,file.driver=file,file.no-such=1"),
        ("-object", "rng-random,id=e,no-such=1"),
        ("-global", "driver=isa-fdc,property=no-such,value=1"),
        ("-boot", "no-such=on"),
        ("-cpu", "no-such"),
        ("-machine", "no-such"),
        ("-machine", f"{machine},no-such=on"),
    ]
    with Introspection.of(qemu.path) as says:
        for option in wrong:
            (found,) = read(["qemu", *option])
            assert len(list(says.problems(*found))) == 1, option
        assert list(says.problems("-no-such", "")) == ["no option -no-such"]
