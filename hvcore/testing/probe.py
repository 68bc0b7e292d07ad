"""A script for an interpreter of its own: ``probe.py VERB WORDS`` does one thing and prints what it saw as JSON.

Run by its path and not as a module, so that nothing of the kit is imported there.
"""

from __future__ import annotations

import importlib
import importlib.abc
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_BEGAN_S = time.process_time()

import hvcore  # noqa: E402 - how long that takes is measured
import hvcore.plugin  # noqa: E402
import hvcore.plugins.catalogue  # noqa: E402

_PUBLIC = [(module, name) for module in (hvcore, hvcore.plugin) for name in dir(module) if name != "impl"]
_ALL_NAMES = [getattr(module, name) for module, name in _PUBLIC]  # each is imported when it is used
_CORE_S = time.process_time() - _BEGAN_S

__all__ = ["main"]

_CODE = (".py", ".pyc", ".so", ".pth", "__pycache__", ".dist-info", ".egg-info")


class _Hidden(importlib.abc.MetaPathFinder):
    """Makes one package look as if it were not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse the package and all that is in it."""
        if fullname == self.name or fullname.startswith(f"{self.name}."):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def listing(module: str) -> Any:
    """Whether listing the drivers imports the driver's module."""
    hvcore.catalogue()
    return {"imported": module in sys.modules}


def importing(module: str) -> Any:
    """What importing a module costs, which modules it brings, and what it does to the node.

    ``cpu_s`` are seconds of cpu, ``core_s`` those of hvcore itself.
    """
    seen: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and _is_deed(event, arguments):
            seen.append(f"{event}: {', '.join(repr(word)[:80] for word in arguments[:2])}")

    before = set(sys.modules)
    sys.dont_write_bytecode = True  # what Python itself writes is no deed of the module
    sys.addaudithook(hook)
    began = time.process_time()
    with redirect_stdout(io.StringIO()) as said:
        importlib.import_module(module)
    took_s = time.process_time() - began
    watching = False
    if said.getvalue():
        seen.append(f"print: {said.getvalue()!r:.80}")
    return {"cpu_s": took_s, "core_s": _CORE_S, "modules": sorted(set(sys.modules) - before), "deeds": seen}


def _is_deed(event: str, arguments: tuple[Any, ...]) -> bool:
    """A file that is written, a program that is started, the network: not what the import itself reads."""
    if event == "open":
        path, mode = arguments[0], arguments[1]
        return bool(mode) and any(sign in str(mode) for sign in "wax+") and not str(path).endswith(_CODE)
    return event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.mkdir", "os.remove"))


def hidden(driver: str, name: str) -> Any:
    """What loading the driver says when a package that it needs is not there, and which drivers are still listed."""
    sys.meta_path.insert(0, _Hidden(name))
    listed = [entry.name for entry in hvcore.catalogue()]
    return {"listed": listed, **_loaded(driver)}


def judged(driver: str, version: str) -> Any:
    """What the catalogue and the loader say of the driver when hvcore is of another version."""
    vars(sys.modules["hvcore.plugins.catalogue"])["__version__"] = version
    (entry,) = [entry for entry in hvcore.catalogue() if entry.name == driver]
    said = _loaded(driver)
    module = entry.target.partition(":")[0]
    return {"verdict": str(entry.verdict), "reason": entry.reason, "imported": module in sys.modules, **said}


def _loaded(driver: str) -> dict[str, str | None]:
    try:
        with tempfile.TemporaryDirectory(prefix="hvcore-kit-") as directory:
            hvcore.Node(directory).driver(driver)
    except Exception as error:  # noqa: BLE001 - the type is what is asked for
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None, "message": None}


def planned(driver: str, text: str, run_dir: str) -> Any:
    """The plan of an instance, or its spec where the node cannot describe one."""
    instance = hvcore.plugin.decode(hvcore.Instance, json.loads(text))
    handle = hvcore.Node(run_dir, config_dir=f"{run_dir}/none").driver(driver)
    try:
        return handle.plan(instance).to_json()
    except hvcore.HvError:
        from hvcore.plugins.loader import load  # noqa: PLC0415 - a probe of imports has none that it does not need

        return hvcore.plugin.encode(load(driver).driver.plan(instance, handle.check(instance)))


def main(argv: list[str]) -> int:
    """Do what the first word says and print it."""
    verbs: dict[str, Callable[..., Any]] = {
        "listing": listing,
        "importing": importing,
        "hidden": hidden,
        "judged": judged,
        "planned": planned,
    }
    with redirect_stdout(sys.stderr):  # a driver that prints is another check's affair
        answer = verbs[argv[0]](*argv[1:])
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
