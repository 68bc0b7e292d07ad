"""Errors for authors: each mistake is reported with plugin, distribution, version, file, line and remedy.

Each case is a real, tiny distribution on sys.path. The other drivers work in every case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hvcore
from hvcore import DriverError, DriverLoadError, Instance
from hvcore.plugins.loader import load

WEB = Instance(name="web1", driver="acme")


@dataclass(frozen=True)
class Mistake:
    """``code`` follows a driver that works. The error names ``line`` of the module and has every text of ``words``."""

    code: str
    words: tuple[str, ...]
    line: int | None = None
    target: str = "hv_acme:Driver"
    requires: str = "hvcore>=0.1,<0.2"


# The driver of the fixture ends in line 6; `code` begins in line 7.
DRIVER_MISTAKES = {
    "missing dependency": Mistake(
        "import lxml_that_is_not_there\n",
        (
            "cannot be imported",
            "No module named 'lxml_that_is_not_there'",
            "report to its authors",
            "hv-acme does not require it",
        ),
        line=7,
    ),
    "missing dependency that is declared": Mistake(
        "import lxml_that_is_not_there\n",
        ("cannot be imported", "pip install 'lxml_that_is_not_there>=4', which it requires"),
        line=7,
        requires="hvcore>=0.1,<0.2\nRequires-Dist: lxml_that_is_not_there>=4",
    ),
    "name that a dependency does not have": Mistake(
        "from hvcore import Nothing\n", ("cannot be imported", "cannot import name 'Nothing'"), line=7
    ),
    "error at import": Mistake("1 / 0\n", ("cannot be imported, got ZeroDivisionError",), line=7),
    "no such module": Mistake(
        "", ("'hv_nothing'", "its entry point in hvcore.drivers names hv_nothing:Driver"), target="hv_nothing:Driver"
    ),
    "a distribution's name for a module's": Mistake(
        "", ("its entry point in hvcore.drivers is not MODULE:NAME, got 'hv-acme:Driver'",), target="hv-acme:Driver"
    ),
    "no such name": Mistake(
        "", ("hv_acme:Drivr does not exist", "did you mean 'Driver'?", "entry point"), target="hv_acme:Drivr"
    ),
    "a module": Mistake("", ("is a module, not a class", "write acme = 'hv_acme:Driver'"), target="hv_acme"),
    "a function": Mistake(
        "def make(hooks): ...\n", ("is a function, not a class", "'hv_acme:Driver'"), target="hv_acme:make"
    ),
    "a method that is missing": Mistake(
        "class Bad(Driver):\n    observe = property()\n    stop = None\n",
        ("stop: is not a method, got None",),
        7,
        target="hv_acme:Bad",
    ),
    "a method with too few arguments": Mistake(
        "class Bad(Driver):\n    def stop(self, live, *, force): ...\n",
        ("stop (", "takes (live, *, force), but is called with (live, job, *, force); give it"),
        line=8,
        target="hv_acme:Bad",
    ),
    "a keyword that is missing": Mistake(
        "class Bad(Driver):\n    def stop(self, live, job): ...\n",
        ("takes (live, job), but is called with (live, job, *, force)",),
        line=8,
        target="hv_acme:Bad",
    ),
    "an async method": Mistake(
        "class Bad(Driver):\n    async def start(self, spec, job): ...\n", ("start (", "is async"), 8, "hv_acme:Bad"
    ),
    "a method that is a generator": Mistake(
        "class Bad(Driver):\n    def observe(self, live):\n        yield 1\n", ("has a yield",), 8, "hv_acme:Bad"
    ),
    "a method's return type": Mistake(
        "class Bad(Driver):\n    def observe(self, live) -> dict[str, int]: ...\n",
        ("returns dict[str, int]", "hvcore.plugin.Driver.observe says hvcore.plugin.Observation; correct it"),
        line=8,
        target="hv_acme:Bad",
    ),
    "half an ability": Mistake(
        "class Bad:\n    name = 'acme'\n    plugins = hookspecs = ()\n    def __init__(self, hooks): ...\n"
        "    plan = verify = describe = start = lambda self, a, b: None\n    def observe(self, live): ...\n"
        "    def stop(self, live, job, *, force): ...\n    def pause(self, live, job): ...\n",
        ("has pause but not resume; hvcore.plugin.Pausable needs all of them",),
        line=7,
        target="hv_acme:Bad",
    ),
    "plugins of another shape": Mistake(
        "class Bad(Driver):\n    plugins = ['acme']\n",
        ("must be a tuple of (name, module or object) pairs",),
        7,
        "hv_acme:Bad",
    ),
    "a default that its type refuses": Mistake(
        "P = hv.Param('p', hv.integer(0, 9),\n    help='A number.', default=10)\n",
        ("parameter 'p'", "default is above the maximum of 9, got 10", "give a whole number from 0 to 9"),
        line=7,
    ),
    "a type that is not a parameter type": Mistake(
        "P = hv.Param('p', int, help='A number.')\n",
        ("parameter 'p'", "type is <class 'int'>", "hvcore.plugin.integer()"),
        7,
    ),
    "a group of something else": Mistake(
        "P = hv.ParamGroup('g', 'p')\n", ("parameter group 'g'", "holds 'p'", "hvcore.plugin.Param"), line=7
    ),
    "a class that cannot be made": Mistake(
        "class Bad(Driver):\n    def __init__(self, hooks):\n        self.x = hooks.nothing\n",
        ("AttributeError", "nothing"),
        line=9,
        target="hv_acme:Bad",
    ),
    "an unknown hook": Mistake(
        "import sys\n@hv.hookimpl\ndef before_sart(instance): ...\n"
        "class Bad(Driver):\n    plugins = (('acme', sys.modules[__name__]),)\n",
        ("plugin acme (hv-acme 1.0)", "unknown hook 'before_sart'", "did you mean 'before_start'?"),
        line=8,
        target="hv_acme:Bad",
    ),
}


def names_its_place(text: str, path: Path, line: int | None) -> bool:
    return line is None or f"{path}:{line}" in text


@pytest.mark.parametrize("mistake", DRIVER_MISTAKES.values(), ids=DRIVER_MISTAKES)
def test_a_mistake_in_a_driver_is_reported_with_its_place(install: Any, driver_source: str, mistake: Mistake) -> None:
    source = driver_source.format(name="acme") + mistake.code
    path = install("hv-acme", f"[hvcore.drivers]\nacme = {mistake.target}\n", source, requires=mistake.requires)
    with pytest.raises(DriverLoadError) as caught:
        load("acme")
    text = str(caught.value)
    assert re.match(r"(driver|plugin) acme \(hv-acme 1\.0\)", text), text
    assert [part for part in mistake.words if part not in text] == [], text
    assert names_its_place(text, path, mistake.line), text
    assert load("fake").name == "fake"


def test_all_mistakes_of_a_class_are_reported_together(install: Any, driver_source: str) -> None:
    code = "class Bad(Driver):\n    name = 'emca'\n    def plan(self): ...\n    def stop(self): ...\n"
    install("hv-acme", "[hvcore.drivers]\nacme = hv_acme:Bad\n", driver_source.format(name="acme") + code)
    with pytest.raises(DriverLoadError, match="3 problems") as caught:
        load("acme")
    assert len(str(caught.value).splitlines()) == 4


EXTENSION_MISTAKES = {
    "unknown hook": ("def befor_start(instance): ...", ("unknown hook 'befor_start'", "did you mean 'before_start'?")),
    "argument": ("def before_start(instanse): ...", ("has no argument 'instanse'", "did you mean 'instance'?")),
    "argument unlike any": ("def before_start(zzz): ...", ("'zzz'", "fewer arguments than instance, params")),
    "default": ("def before_start(params=None): ...", ("has a default for 'params'", "remove the default")),
    "key of a condition": (
        "@hv.when_given('modt')\ndef before_start(): ...",
        ("has a condition on 'modt', which is not a parameter", "did you mean 'motd'?"),
    ),
    "condition": (
        "@hv.called_when('outcome', bool)\ndef before_start(): ...",
        ("hook before_start", "has a condition on 'outcome'", "only instance, params; remove the condition"),
    ),
    "keywords": ("def before_start(**all): ...", ("takes **all", "name those of instance, params it needs")),
    "async": ("async def before_start(): ...", ("is async",)),
    "returns": (
        "def check() -> int: ...",
        ("returns int, the hook's specification says Iterable[hvcore.plugin.Problem]", "correct it"),
    ),
    "wrapper": ("def before_start(): yield", ("has a yield",)),
    "group": ("def params(): return ['x']", ("returned ['x']", "return an hvcore.plugin.ParamGroup")),
    "raises": ("def params(): return 1 / 0", ("raised ZeroDivisionError", "report this to the plugin's authors")),
}


@pytest.mark.parametrize(("code", "words"), EXTENSION_MISTAKES.values(), ids=EXTENSION_MISTAKES)
def test_a_mistake_in_an_extension_is_reported_with_its_place(install: Any, code: str, words: tuple[str, ...]) -> None:
    source = f"import hvcore.plugin as hv\n\n@hv.hookimpl\n{code}\n"
    path = install("hv-plus", "[hvcore.extensions]\nfake.plus = hv_plus\n", source)
    with pytest.raises(hvcore.HvError) as caught:
        load("fake")
    text = str(caught.value)
    assert text.startswith("plugin fake.plus (hv-plus 1.0), hook ") or "fake.plus (hv-plus 1.0): hook " in text, text
    assert [part for part in words if part not in text] == [], text
    assert any(names_its_place(text, path, line) for line in (3, 4)), text
    assert load("kvm").name == "kvm"


CONSTANT_MISTAKES = {
    "group": ("PARAMS = ['x']", ("hook params", "returned ['x']", "return an hvcore.plugin.ParamGroup")),
    "kinds": ("RESOURCE_KINDS = ('x',)", ("hook resource_kinds", "gave 'x', must be ResourceKind")),
    "key": ("PARAMS = hv.ParamGroup('g', hv.Param('motd', hv.text(), help='Words.'))", ("'motd'", "fake (hv-fake")),
}


@pytest.mark.parametrize(("code", "words"), CONSTANT_MISTAKES.values(), ids=CONSTANT_MISTAKES)
def test_a_mistake_in_a_constant_is_reported_with_its_place(install: Any, code: str, words: tuple[str, ...]) -> None:
    source = f"import hvcore.plugin as hv\n\n\n{code}\n"
    path = install("hv-plus", "[hvcore.extensions]\nfake.plus = hv_plus\n", source)
    with pytest.raises(hvcore.HvError) as caught:
        _ = load("fake").hooks.kinds
    text = str(caught.value)
    assert [part for part in ("fake.plus (hv-plus 1.0)", *words) if part not in text] == [], text
    assert names_its_place(text, path, 4), text


def test_all_mistakes_of_an_extension_are_reported_together(install: Any) -> None:
    source = "import hvcore.plugin as hv\n@hv.hookimpl\ndef chek(): ...\n@hv.hookimpl\ndef before_start(a, b): ...\n"
    install("hv-plus", "[hvcore.extensions]\nfake.plus = hv_plus\n", source)
    with pytest.raises(DriverLoadError, match=r"plugin fake.plus \(hv-plus 1\.0\): 3 problems"):
        load("fake")


CALLS: dict[str, tuple[str, Callable[[hvcore.Node], object], tuple[str, ...]]] = {
    "a spec that is not a dataclass": (
        "def plan(self, instance, params): return {'motd': 'x'}",
        lambda node: node.driver("acme").plan(WEB),
        ("plan (", "returned {'motd': 'x'}", "return an object of a frozen dataclass"),
    ),
    "a spec that can be changed": (
        "def plan(self, *_):\n        import dataclasses as d\n        return d.make_dataclass('Soft', ['a'])(1)",
        lambda node: node.driver("acme").start(WEB),
        ("plan (", "returned a Soft", "which can be changed", "declare it @dataclass(frozen=True)"),
    ),
    "a plan that raises": (
        "def plan(self, instance, params): return params['nothing']",
        lambda node: node.driver("acme").verify(WEB),
        ("plan (", "raised KeyError: 'nothing'", "report this to its authors"),
    ),
    "a verify that gives words": (
        "def verify(self, spec, host): return ['no cpu']",
        lambda node: node.driver("acme").verify(WEB),
        ("verify (", "gave 'no cpu'", "yield each as an hvcore.plugin.Problem"),
    ),
    "a description in words": (
        "def describe(self, spec, host): return 'it starts'",
        lambda node: node.driver("acme").plan(WEB),
        ("describe (", "returned 'it starts'", "return an hvcore.plugin.Plan"),
    ),
    "a start that raises": (
        "def start(self, spec, job): raise IndexError('oh')",
        lambda node: node.driver("acme").start(WEB),
        ("start (", "raised IndexError: oh"),
    ),
}


@pytest.mark.parametrize(("code", "act", "words"), CALLS.values(), ids=CALLS)
def test_a_method_with_a_wrong_result_is_reported_with_its_place(
    install: Any, driver_source: str, node: hvcore.Node, code: str, act: Any, words: tuple[str, ...]
) -> None:
    source = f"{driver_source.format(name='acme')}    {code}\n"
    path = install("hv-acme", "[hvcore.drivers]\nacme = hv_acme:Driver\n", source)
    with pytest.raises(DriverError) as caught:
        act(node)
    text = str(caught.value)
    assert text.startswith("driver acme (hv-acme 1.0), "), text
    assert f"{path}:7" in text
    assert [part for part in words if part not in text] == [], text
    assert node.instances() == []


ABILITIES: dict[str, tuple[str, Callable[[hvcore.Node], object], str]] = {
    "a console that raises": (
        "def console(self, live): raise KeyError('tty')",
        lambda node: node.console("web1"),
        "console ({place}): raised KeyError: 'tty'; report this to its authors",
    ),
    "a pause that raises": (
        "def pause(self, live, job): raise IndexError('cpu')\n    def resume(self, live, job): ...",
        lambda node: node.pause("web1"),
        "pause ({place}): raised IndexError: cpu; report this to its authors",
    ),
    "a command that is a text": (
        "def execution(self, live, argv, *, terminal): return 'sh'",
        lambda node: node.execution("web1", ["sh"]),
        "execution ({place}): returned 'sh'; return a tuple",
    ),
    "a log that is a text": (
        "def log(self, live): return '/tmp/log'",
        lambda node: node.log("web1"),
        "log ({place}): returned '/tmp/log'; return a Path",
    ),
}


@pytest.mark.parametrize(("code", "act", "words"), ABILITIES.values(), ids=ABILITIES)
def test_an_optional_method_with_a_wrong_result_is_reported_with_its_place(
    install: Any, driver_source: str, node: hvcore.Node, code: str, act: Any, words: str
) -> None:
    path = install(
        "hv-acme", "[hvcore.drivers]\nacme = hv_acme:Driver\n", f"{driver_source.format(name='acme')}    {code}\n"
    )
    node.driver("acme").start(WEB)
    with pytest.raises(DriverError) as caught:
        act(node)
    line = len(driver_source.format(name="acme").splitlines()) + 1
    assert str(caught.value) == f"driver acme (hv-acme 1.0), {words.format(place=f'{path}:{line}')}"
    assert node.stop("web1", force=True).changed


def test_a_wrong_observation_makes_the_state_unknown_with_a_reason(
    install: Any, driver_source: str, node: hvcore.Node
) -> None:
    source = driver_source.format(name="acme") + "    def observe(self, live): return 'running'\n"
    install("hv-acme", "[hvcore.drivers]\nacme = hv_acme:Driver\n", source)
    node.driver("acme").start(WEB)
    found = node.info("web1")
    assert found.state is hvcore.State.UNKNOWN
    assert "driver acme (hv-acme 1.0), observe (" in str(found.reason)
    assert "returned 'running'; return an hvcore.plugin.Observation" in str(found.reason)
    assert node.stop("web1", force=True).changed


@pytest.mark.parametrize(("strict", "seen"), [("", True), ("1", False)])
def test_with_strict_a_broken_extension_makes_the_driver_unusable(
    install: Any, node: hvcore.Node, monkeypatch: pytest.MonkeyPatch, strict: str, *, seen: bool
) -> None:
    node.driver("fake").start(Instance(name="web1", driver="fake"))
    install("hv-plus", "[hvcore.extensions]\nfake.plus = hv_plus\n", "1 / 0\n")
    monkeypatch.setenv("HVCORE_STRICT", strict)
    info = hvcore.Node(node.run_dir, uid_pool=range(1_880_000_000, 1_880_000_100)).info("web1")
    assert (info.state is hvcore.State.RUNNING) is seen
    assert seen or "fake.plus (hv-plus 1.0)" in str(info.reason)
