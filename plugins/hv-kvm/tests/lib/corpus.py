"""The golden corpus: golden/FAMILY/CASE.toml is an instance, and this module has its result with one QEMU."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import hvcore
import hvcore.plugin
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import render
from hv_kvm.machine.resource import Bindings, Image
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qemu.accelerator import Accel
from hv_kvm.qemu.probe import pin
from hv_kvm.run.startup.describe import symbols
from hvcore.config import load_instance
from hvcore.plugins.loaded_driver import LoadedDriver

NODE: Final = hvcore.plugin.Host(
    run_dir=Path("/run/hvcore"), privileged=True, uid_pool=range(1), cgroups=hvcore.plugin.ControlGroups()
)
GOLDEN: Final = Path(__file__).parents[1] / "golden"
CASES: Final = sorted(GOLDEN.glob("*/*.toml"))


@dataclass(frozen=True)
class Answer:
    """The kind, ``argv`` or ``error``, and the text of that file; golden/README.md describes the form."""

    kind: str
    text: str
    arguments: tuple[hvcore.Argument, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Corpus:
    """The results of the cases, from the driver with its families and extensions."""

    kvm: LoadedDriver

    def answer(self, case: Path, facts: Facts) -> Answer:
        """The command line, with symbols for values of a node; or the problems of check; or the problems of verify."""
        try:
            instance = load_instance(str(case))
            asked = self.kvm.driver.plan(instance, self.kvm.check(instance))
        except hvcore.ParamsError as error:
            return Answer("error", "".join(f"{problem}\n" for problem in error.problems))
        spec = pin(asked, facts)
        symbol = asked.machine if asked == spec else f"{{machine:{asked.machine}}}"
        lacking = [problem for _, problem in self.kvm.hooks.items("verify", hvcore.Problem, spec=spec, facts=facts)]
        if lacking:
            text = "".join(f"{problem}\n" for problem in lacking)
            return Answer("error", text.replace(facts.version, "{version}").replace(spec.machine, symbol))
        arguments = self.render(spec, facts, bindings(self.kvm, case, spec))
        text = "".join(f"{' '.join(argument.tokens)}\n" for argument in arguments)
        return Answer("argv", text.replace(f"-machine {spec.machine},", f"-machine {symbol},", 1), arguments)

    def spec(self, case: Path, facts: Facts) -> KvmSpec:
        """The machine of a case that has a command line, pinned."""
        instance = load_instance(str(case))
        return pin(self.kvm.driver.plan(instance, self.kvm.check(instance)), facts)

    def options(self, spec: KvmSpec, facts: Facts, bound: Bindings) -> list[Opt]:
        """The options of the command line, in their order."""
        found = self.kvm.hooks.items("render", Opt, spec=spec, facts=facts, bindings=bound)
        return [option for _, option in found]

    def render(self, spec: KvmSpec, facts: Facts, bound: Bindings) -> tuple[hvcore.Argument, ...]:
        """The command line."""
        return render(self.kvm.hooks, spec, facts, bound)


def sample(cases: list[Path]) -> set[Path]:
    """A few of the cases that together have each option, device, property and value that is a word at least once."""
    parts = {case: _parts(case) for case in cases}
    missing, found = set().union(*parts.values()), set()
    while missing:
        case = max(cases, key=lambda one: len(parts[one] & missing))
        found.add(case)
        missing -= parts[case]
    return found


def _parts(case: Path) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for line in min(case.parent.glob(f"{case.stem}[.@]*argv")).read_text(encoding="utf-8").splitlines():
        option, _, argument = line.partition(" ")
        head, *props = re.sub(r"\d+", "N", argument).split(",")
        head = re.sub(r"\{.*?\}|/.*", "", head.partition("=")[0])
        found.add((option, head))
        for prop in props:
            key, _, value = prop.partition("=")
            found.add((option, head, key))
            found |= {(option, head, key, value)} if re.fullmatch("[a-z][a-z-]*", value) else set()
    return found


def bindings(kvm: LoadedDriver, case: Path, spec: KvmSpec) -> Bindings:
    """Symbols for the kind of node that the comments at the top of the case describe."""
    accel = Accel(_header(case, "accelerator", "tcg"), "golden")
    level = hvcore.plugin.Level(_header(case, "level", "strict"))
    found = symbols(kvm.hooks, spec, hvcore.plugin.Site(name=spec.name, host=NODE, level=level, pure=True), accel)
    devices = _header(case, "block devices", "").split()
    for image in spec.resources_of(Image):
        if image.key in devices:
            found.handles[image] = found[image].as_block_device()
    return found


def _header(case: Path, key: str, default: str) -> str:
    found = re.search(rf"^# {key}: *(.*)$", case.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else default
