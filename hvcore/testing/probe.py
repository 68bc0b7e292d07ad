"""A script for a new interpreter: ``probe.py VERB WORDS`` does one thing and prints what it found as JSON.

It is run by its path and not as a module, so that it imports nothing of the kit.
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

import hvcore  # noqa: E402 - the import is timed
import hvcore.plugin  # noqa: E402
import hvcore.plugins.catalogue  # noqa: E402

_PUBLIC = [(module, name) for module in (hvcore, hvcore.plugin) for name in dir(module) if name != "impl"]
_ALL_NAMES = [getattr(module, name) for module, name in _PUBLIC]  # imported at first use
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
        """Refuse the package and everything in it."""
        if fullname == self.name or fullname.startswith(f"{self.name}."):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def listing(module: str) -> Any:
    """Whether listing the drivers imports the driver's module."""
    hvcore.catalogue()
    return {"imported": module in sys.modules}


def importing(module: str) -> Any:
    """The cost of importing a module, the modules that it imports, and its effects on the node.

    ``cpu_s`` is the CPU time in seconds, ``core_s`` that of importing hvcore itself.
    """
    seen: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and _is_effect(event, arguments):
            seen.append(f"{event}: {', '.join(repr(word)[:80] for word in arguments[:2])}")

    before = set(sys.modules)
    sys.dont_write_bytecode = True  # Python's own caches are not an effect of the module
    sys.addaudithook(hook)
    began = time.process_time()
    with redirect_stdout(io.StringIO()) as said:
        importlib.import_module(module)
    took_s = time.process_time() - began
    watching = False
    if said.getvalue():
        seen.append(f"print: {said.getvalue()!r:.80}")
    return {"cpu_s": took_s, "core_s": _CORE_S, "modules": sorted(set(sys.modules) - before), "effects": seen}


def _is_effect(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether the event writes a file, starts a program or uses the network. The files that an import reads do not count."""
    if event == "open":
        path, mode = arguments[0], arguments[1]
        return bool(mode) and any(sign in str(mode) for sign in "wax+") and not str(path).endswith(_CODE)
    return event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.mkdir", "os.remove"))


def hidden(driver: str, name: str) -> Any:
    """The error of loading the driver without a package that it needs, and the drivers that are still listed."""
    sys.meta_path.insert(0, _Hidden(name))
    listed = [entry.name for entry in hvcore.catalogue()]
    return {"listed": listed, **_loaded(driver)}


def fits(driver: str, version: str) -> Any:
    """The verdict of the catalogue and of the loader on the driver under another version of hvcore."""
    vars(sys.modules["hvcore.plugins.catalogue"])["__version__"] = version
    (entry,) = [entry for entry in hvcore.catalogue() if entry.name == driver]
    answer = _loaded(driver)
    module = entry.target.partition(":")[0]
    return {"verdict": str(entry.verdict), "reason": entry.reason, "imported": module in sys.modules, **answer}


def _loaded(driver: str) -> dict[str, str | None]:
    try:
        with tempfile.TemporaryDirectory(prefix="hvcore-kit-") as directory:
            hvcore.Node(directory).driver(driver)
    except Exception as error:  # noqa: BLE001 - the type is part of the answer
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None, "message": None}


def planned(driver: str, text: str, run_dir: str) -> Any:
    """The plan of an instance, or its spec if the node cannot describe a plan."""
    instance = hvcore.plugin.decode(hvcore.Instance, json.loads(text))
    handle = hvcore.Node(run_dir, config_dir=f"{run_dir}/none").driver(driver)
    try:
        return handle.plan(instance).to_json()
    except hvcore.HvError:
        from hvcore.plugins.loader import load  # noqa: PLC0415 - a probe of imports has none that it does not need

        return hvcore.plugin.encode(load(driver).driver.plan(instance, handle.check(instance)))


def main(argv: list[str]) -> int:
    """Call the function that the first word names, with the others, and print its result."""
    verbs: tuple[Callable[..., Any], ...] = (listing, importing, hidden, fits, planned)
    with redirect_stdout(sys.stderr):  # whether a driver prints, another check says
        answer = {verb.__name__: verb for verb in verbs}[argv[0]](*argv[1:])
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
