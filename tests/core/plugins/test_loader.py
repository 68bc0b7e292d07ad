"""Loading a driver by name: every mistake is reported with plugin, distribution and remedy."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import hvcore
from hvcore import DriverLoadError, Instance, UnknownDriverError
from hvcore.plugins.importing import StillLoadingError
from hvcore.plugins.loader import load

DRIVERS = "[hvcore.drivers]\n{0} = hv_{0}:Driver\n"
EXTENSIONS = "[hvcore.extensions]\nfake.{0} = hv_{0}{1}\n"


@pytest.fixture
def broken(install: Any, driver_source: str) -> Any:
    """``broken(body)``: install driver ``acme`` with this text added to its module; the error of loading it."""

    def do(source: str, *, target: str = "hv_acme:Driver") -> str:
        install("hv-acme", f"[hvcore.drivers]\nacme = {target}\n", driver_source.format(name="acme") + source)
        with pytest.raises(DriverLoadError) as caught:
            load("acme")
        assert load("fake").name == "fake"  # the other drivers work
        return str(caught.value)

    return do


@pytest.fixture
def extended(install: Any) -> Any:
    """``extended(source)``: install extension ``fake.plus``; the error of loading ``fake``."""

    def do(source: str, *, target: str = "") -> str:
        install("hv-plus", EXTENSIONS.format("plus", target), "import hvcore.plugin as hv\n" + source)
        with pytest.raises(DriverLoadError) as caught:
            load("fake")
        assert "fake.plus" in str(caught.value)
        assert "hv-plus 1.0" in str(caught.value)
        return str(caught.value)

    return do


def test_a_third_partys_driver_is_loaded_by_name(install: Any, driver_source: str, node: hvcore.Node) -> None:
    install("hv-acme", DRIVERS.format("acme"), driver_source.format(name="acme"))
    handle = node.driver("acme")
    assert handle.start(Instance(name="web1", driver="acme")).changed
    assert node.info("web1").driver == "acme"
    assert node.stop("web1").changed


def test_an_unknown_name_is_reported_with_the_nearest_one() -> None:
    with pytest.raises(UnknownDriverError, match=r"no driver 'fakee'; installed: .*fake.*; did you mean 'fake'\?"):
        load("fakee")
    with pytest.raises(UnknownDriverError, match="see hv drivers"):
        load("zzz")


def test_an_unknown_name_is_reported_with_the_refused_drivers(install: Any) -> None:
    install("hv-old", DRIVERS.format("old"), requires="hvcore<0.1")
    with pytest.raises(UnknownDriverError, match=r"refused: old \(too-old\)"):
        load("zzz")
    with pytest.raises(DriverLoadError, match=r"driver old \(hv-old 1.0\): needs hvcore<0.1"):
        load("old")


def test_a_missing_dependency_is_reported_with_file_and_line(broken: Any) -> None:
    words = broken("import no_such_dependency\n")
    assert "driver acme (hv-acme 1.0): cannot be imported, got ModuleNotFoundError" in words
    assert "hv_acme.py:7" in words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 / 0\n", ["ZeroDivisionError", "hv_acme.py:7"]),
        ("def (:\n", ["SyntaxError", "hv_acme.py:7"]),
        ("import sys; sys.exit(3)\n", ["SystemExit: 3", "hv_acme.py:7"]),
        ("def f():\n    raise KeyError('x')\nf()\n", ["KeyError: 'x'", "hv_acme.py:8"]),
    ],
)
def test_an_import_that_fails_is_reported_with_file_and_line(broken: Any, source: str, words: list[str]) -> None:
    text = broken(source)
    assert all(part in text for part in words), text


def test_a_module_that_does_not_exist_is_reported(broken: Any) -> None:
    assert "no such module" in broken("", target="hv_nothing:Driver")


def test_a_name_that_the_module_lacks_is_reported(broken: Any) -> None:
    assert "Drivver" in broken("", target="hv_acme:Drivver")


def test_a_module_or_an_object_instead_of_a_class_is_reported(broken: Any) -> None:
    assert "hv_acme is a module, not a class; write acme = 'hv_acme:Driver'" in broken("", target="hv_acme")


def test_a_class_without_the_methods_is_reported(broken: Any) -> None:
    words = broken("class Half:\n    name = 'acme'\n", target="hv_acme:Half")
    assert "class hv_acme:Half" in words
    assert "has no class attribute plugins, hookspecs" in words
    assert "has no plan, verify, describe, start, observe, stop" in words


def test_an_object_with_the_right_methods_is_not_a_class(broken: Any) -> None:
    assert "is a Driver, not a class" in broken("thing = Driver(None)\n", target="hv_acme:thing")


def test_a_class_that_exits_the_process_on_inspection_is_reported(broken: Any) -> None:
    source = "class Kind(type):\n    def __getattr__(cls, name): raise SystemExit(0)\nclass Odd(metaclass=Kind): pass\n"
    assert "SystemExit: 0 (" in broken(source, target="hv_acme:Odd")


@pytest.mark.parametrize("method", ["plan", "verify", "start", "observe"])
def test_a_method_that_exits_the_process_is_the_drivers_fault(
    install: Any, driver_source: str, node: hvcore.Node, method: str
) -> None:
    """Otherwise it ends the host application, with exit status 0."""
    source = driver_source.format(name="acme") + f"    def {method}(self, *given): raise SystemExit(0)\n"
    install("hv-acme", DRIVERS.format("acme"), source)
    handle = node.driver("acme")
    if method == "observe":
        handle.start(Instance(name="web1", driver="acme"))
        assert "SystemExit: 0" in str(node.info("web1").reason)
    else:
        with pytest.raises(hvcore.DriverError, match="SystemExit: 0"):
            handle.start(Instance(name="web1", driver="acme"))


def test_a_class_with_another_name_is_reported(broken: Any) -> None:
    assert "its class is named 'emca'" in broken("Driver.name = 'emca'\n")


def test_a_class_that_cannot_be_constructed_is_reported(broken: Any) -> None:
    words = broken("def init(self, hooks):\n    raise RuntimeError('no')\nDriver.__init__ = init\n")
    assert "RuntimeError: no" in words
    assert "hv_acme.py:8" in words


def test_two_distributions_with_one_name_cannot_be_loaded(install: Any, driver_source: str) -> None:
    for name in ("hv-acme", "hv-other"):
        install(name, f"[hvcore.drivers]\nacme = {name.replace('-', '_')}:Driver\n", driver_source.format(name="acme"))
    with pytest.raises(DriverLoadError, match=r"declared by hv-acme 1\.0 and hv-other 1\.0; uninstall all but one"):
        load("acme")
    assert not {"hv_acme", "hv_other"} & set(sys.modules)


def test_an_extension_adds_parameters_and_checks_to_another_authors_driver(install: Any) -> None:
    source = """
    import hvcore.plugin as hv
    @hv.hookimpl
    def params():
        return hv.ParamGroup("audio", hv.Param("volume", hv.integer(0, 11), default=5, help="Loudness."))
    @hv.hookimpl
    def check(params):
        if params["volume"] == 11:
            yield hv.Problem(path="params.volume", what="is too loud")
    """
    install("hv-plus", EXTENSIONS.format("plus", ""), source)
    loaded = load("fake")
    assert [entry.name for entry in loaded.extensions] == ["fake.plus"]
    assert loaded.schema.owner("volume") == "fake.plus (hv-plus 1.0)"
    assert loaded.check(Instance(name="w", driver="fake"))["volume"] == 5
    with pytest.raises(hvcore.ParamsError, match=r"params\.volume: is too loud"):
        loaded.check(Instance(name="w", driver="fake", params={"volume": 11}))
    assert loaded.hooks.implementations("check") == ("fake", "fake.plus")


@pytest.mark.parametrize(
    "source",
    [
        "{group}",
        "class P:\n    {group}\n",
        "{group}\n@hv.hookimpl(specname='params')\ndef mine():\n    return PARAMS\n",
    ],
    ids=["a module's", "a class's", "beside a function"],
)
def test_a_hook_without_arguments_may_be_a_constant(install: Any, source: str) -> None:
    group = "PARAMS = hv.ParamGroup('plus', hv.Param('extra', hv.text(), help='More.'))"
    target = ":P" if "class" in source else ""
    code = "import hvcore.plugin as hv\n" + source.format(group=group)
    install("hv-plus", EXTENSIONS.format("plus", target), code)
    loaded = load("fake")
    assert loaded.hooks.implementations("params") == ("fake", "fake.plus")
    assert "extra" in loaded.schema.params


def test_an_extension_of_another_driver_is_left_alone(install: Any) -> None:
    path: Path = install("hv-plus", "[hvcore.extensions]\nfaker.plus = hv_plus\n", "raise RuntimeError")
    assert load("fake").extensions == ()
    assert path.stem not in sys.modules


def test_an_unknown_hook_is_reported_with_the_nearest_one(extended: Any) -> None:
    words = extended("@hv.hookimpl\ndef befor_start(instance): pass\n")
    assert "unknown hook 'befor_start'" in words
    assert "did you mean 'before_start'?" in words


def test_a_hook_unlike_any_other_is_reported_with_all_hooks(extended: Any) -> None:
    words = extended("@hv.hookimpl\ndef zzz(): pass\n")
    assert "the hooks are after_attach, after_change, after_detach, after_pause, after_resume, after_start" in words


def test_an_argument_that_the_hook_does_not_have_is_reported(extended: Any) -> None:
    words = extended("@hv.hookimpl\ndef before_start(instanse): pass\n")
    assert "instanse" in words
    assert "before_start" in words
    assert "did you mean 'instance'?" in words


def test_a_generator_for_a_hook_that_returns_nothing_is_reported(extended: Any) -> None:
    words = extended("@hv.hookimpl\ndef before_start():\n    yield 1\n")
    assert "has a yield, so its body would never run" in words
    assert "hv_plus.py:" in words


@pytest.mark.parametrize("annotation", ["int", "dict[str, int] | int", "None"])
def test_a_return_annotation_that_cannot_be_right_is_reported(extended: Any, annotation: str) -> None:
    assert "hook params" in extended(f"@hv.hookimpl\ndef params() -> {annotation}: ...\n")


@pytest.mark.parametrize("annotation", ["Any", "hv.ParamGroup", "'Nowhere'", "Union[hv.ParamGroup, None]"])
def test_a_return_annotation_that_may_be_right_is_not_refused(install: Any, annotation: str) -> None:
    source = (
        "from typing import Any, Union\nimport hvcore.plugin as hv\n@hv.hookimpl\n"
        f"def params() -> {annotation}:\n    return hv.ParamGroup('g')\n"
    )
    install("hv-plus", EXTENSIONS.format("plus", ""), source)
    assert len(load("fake").extensions) == 1


@pytest.mark.parametrize("option", ["wrapper", "hookwrapper"])
def test_a_hook_wrapper_is_refused(extended: Any, option: str) -> None:
    words = extended(f"@hv.hookimpl({option}=True)\ndef before_start():\n    yield\n")
    assert "hook wrappers are not supported" in words


def test_a_params_hook_without_a_parameter_group_is_reported(extended: Any) -> None:
    words = extended("@hv.hookimpl\ndef params(): return 7\n")
    assert "hv_plus.py:2): returned 7; return an hvcore.plugin.ParamGroup" in words


def test_a_parameter_of_two_plugins_is_reported_with_both(install: Any) -> None:
    source = """
    import hvcore.plugin as hv
    @hv.hookimpl
    def params():
        return hv.ParamGroup("x", hv.Param("motd", hv.text(), help="Says."))
    """
    install("hv-plus", EXTENSIONS.format("plus", ""), source)
    with pytest.raises(
        DriverLoadError, match=r"parameter 'motd': declared by both fake \(hv-fake .*fake\.plus \(hv-plus"
    ):
        load("fake")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("import no_such_dependency\n", "", "no_such_dependency"),
        ("class P:\n    def __init__(self):\n        raise RuntimeError('no')\n", ":P", "RuntimeError: no"),
        ("", ":nothing", "nothing"),
    ],
)
def test_an_extension_that_cannot_be_imported_is_reported_as_an_extension(
    extended: Any, source: str, target: str, words: str
) -> None:
    text = extended(source, target=target)
    assert text.startswith("extension fake.plus (hv-plus 1.0): cannot be imported")
    assert words in text


def test_an_extension_for_another_hvcore_is_refused(install: Any) -> None:
    install("hv-plus", EXTENSIONS.format("plus", ""), "raise RuntimeError", requires="hvcore>=99")
    with pytest.raises(DriverLoadError, match=r"extension fake.plus \(hv-plus 1.0\): needs hvcore>=99"):
        load("fake")


def test_an_extension_may_be_a_class_whose_methods_are_the_hooks(install: Any) -> None:
    source = """
    import hvcore.plugin as hv
    class Plus:
        @hv.hookimpl
        def check(self, instance):
            return [hv.Problem(path="name", what=f"is {instance.name}")]
    """
    install("hv-plus", EXTENSIONS.format("plus", ":Plus"), source)
    assert len(load("fake").problems(Instance(name="w", driver="fake"))[1]) == 1


WAITS = "os.read({fd}, 1)  # until the test closes its end\n"
TEMPLATES: Any = {
    "driver": ("acme", "import os\n" + WAITS, "driver acme (hv-acme 1.0)"),
    "extension": ("fake", "import os\n" + WAITS, "extension fake.plus (hv-plus 1.0)"),
    "hook": (
        "fake",
        "import os\nimport hvcore.plugin as hv\n@hv.hookimpl\ndef params():\n    "
        + WAITS
        + "    return hv.ParamGroup('plus')\n",
        "driver fake (hv-fake",
    ),
}


@pytest.mark.parametrize("what", TEMPLATES)
def test_a_plugin_that_takes_too_long_is_reported_and_tried_again_when_it_goes_on(
    install: Any, driver_source: str, run_dir: Path, what: str
) -> None:
    name, source, owner = TEMPLATES[what]
    reader, writer = os.pipe()
    if what == "driver":
        install("hv-acme", DRIVERS.format("acme"), driver_source.format(name="acme") + source.format(fd=reader))
    else:
        install("hv-plus", EXTENSIONS.format("plus", ""), source.format(fd=reader))
    node = hvcore.Node(run_dir, load_s=0.3)
    instance = Instance(name="web1", driver=name)
    for operation in (
        node.driver,
        lambda _: node.check({"name": "web1", "driver": name}),
        lambda _: node.start(instance),
    ):
        with pytest.raises(DriverLoadError) as caught:
            operation(name)
        assert str(caught.value).startswith(f"{owner}")
        assert re.search(
            r": did not finish loading within 0\.3 s \(at \S*hv_\w+\.py:\d+\); report this", str(caught.value)
        )
    with pytest.raises(DriverLoadError) as caught:
        node.driver(name)
    cause = caught.value.__cause__
    assert isinstance(cause, StillLoadingError)
    os.close(writer)
    cause.thread.join(60)
    assert node.driver(name).name == name
    os.close(reader)


@pytest.mark.parametrize("load_s", [float("nan"), -1, "5"])
def test_the_limit_is_a_number_of_seconds(run_dir: Path, load_s: Any) -> None:
    with pytest.raises(hvcore.InputError, match="load_s: must be a number of seconds"):
        hvcore.Node(run_dir, load_s=load_s)
