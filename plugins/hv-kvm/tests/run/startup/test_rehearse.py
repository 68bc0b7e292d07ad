"""Options of extensions that define one id twice are found at load; a plugin that cannot be compared is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from hv_kvm import hookspecs
from hv_kvm.driver import KvmDriver
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.run.startup.describe import rehearse
from hvcore import DriverLoadError
from hvcore.plugin import Hooks, Host, hookimpl
from hvcore.plugins import hookspecs as core_hookspecs


def hooks(**plugins: Any) -> Hooks:
    manager = pluggy.PluginManager(core_hookspecs.PROJECT)
    manager.add_hookspecs(core_hookspecs)
    manager.add_hookspecs(hookspecs)
    for name, plugin in {**dict(KvmDriver.plugins), **plugins}.items():
        manager.register(plugin, name)
    return Hooks(manager, {name: f"kvm.{name} (hv-{name} 1.0)" for name in plugins})


def extension(**implementations: Any) -> Any:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in implementations.items()})


def clashing() -> Any:
    return [Opt(name="-chardev", head="null", props={"id": "qmp"})]


def failing() -> Any:
    raise LookupError("no such bridge")


def test_what_the_driver_has_itself_is_compared_completely() -> None:
    assert rehearse(hooks()) == ()


def test_a_clash_names_both() -> None:
    with pytest.raises(
        DriverLoadError, match=r"'-chardev qmp': defined by both monitor at .* and kvm\.one \(hv-one 1\.0\) at"
    ):
        rehearse(hooks(one=extension(render=clashing)))


@pytest.mark.parametrize("hook", ["plan", "render"])
def test_a_plugin_that_cannot_be_rehearsed_is_named_and_hides_no_clash_of_others(hook: str) -> None:
    unready = extension(**{hook: failing})
    (why,) = rehearse(hooks(one=unready))
    assert f"plugin kvm.one (hv-one 1.0), hook {hook}" in why
    assert "raised LookupError: no such bridge" in why
    with pytest.raises(DriverLoadError, match="'-chardev qmp': defined by both"):
        rehearse(hooks(one=unready, two=extension(render=clashing)))


def test_a_device_that_fails_while_it_is_placed_is_named() -> None:
    class Broken(Device):
        def resources(self, spec: KvmSpec) -> Any:
            return failing()

    (why,) = rehearse(hooks(one=extension(plan=lambda: [Broken()])))
    assert why == "its devices cannot be placed, got LookupError: no such bridge"


def test_the_doctor_lists_what_was_not_compared(tmp_path: Path) -> None:
    driver = KvmDriver(hooks(one=extension(render=failing)))
    found = next(iter(driver.examine(Host(run_dir=tmp_path, privileged=False, uid_pool=range(0)))))
    assert (found.subject, str(found.severity)) == ("option ids", "note")
    assert "could not be compared with those of other plugins" in found.what
    assert "no such bridge" in found.what
