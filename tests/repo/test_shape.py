"""Budgets and habits without a ruff rule. An exception is a line in a table here, with its reason."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
SHIPPED: Final = ("hvcore", "docs", "plugins/hv-kvm/src", "plugins/hv-chroot/src", "plugins/hv-fake/src")

MODULE_LINES: Final = 400
CLASS_METHODS: Final = 15

LONGER_MODULES: Final[dict[str, str]] = {}  # path: why it may be longer
BIGGER_CLASSES: Final[dict[str, str]] = {}  # path:Class: why it may have more methods
SLEEPERS: Final[dict[str, str]] = {  # path: which event does not exist there
    "hvcore/host/lock.py": "flock() has no deadline, and the signal that could end it belongs to the host application",
    "hvcore/host/cgroups/group_files.py": "the freezer of cgroup v1 reports no event when the last process is frozen",
    "hvcore/host/output_reader.py": "the kernel reports each byte in a pipe, and no event that there are many",
    "hvcore/operations/inspection/wait.py": "a driver reports no event when its instance changes its state",
    "hvcore/cli/access/ssh_place.py": "a guest reports no event to the node when its ssh server listens",
    "plugins/hv-kvm/src/hv_kvm/run/access/agent_exec.py": "the guest agent reports no event when a program has ended",
    "hvcore/host/processes/launched.py": "the kernel reports no event when a process whose descriptors are gone frees its locks",
    "hvcore/host/disks/wait_unused.py": "the kernel reports no event when a file system has released its device after the unmount",
}
QUIRK_TABLES: Final[dict[str, str]] = {}  # path: why it has to branch on a QEMU version (R7); one at most, none so far

SHELL_CALLS: Final = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}

Found = Iterator[tuple[str, str]]
FUNCTION: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Module:
    """One shipped module; `name` is its path from the top of the repository."""

    name: str
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)
    nodes: tuple[ast.AST, ...] = field(repr=False)  # of the tree: four rules look at each
    calls: tuple[tuple[ast.Call, str], ...] = field(repr=False)  # each with its name in the source

    @property
    def public(self) -> bool:
        parts = self.name.removesuffix(".py").split("/")
        return not any(part.startswith("_") and part != "__init__" for part in parts)


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    paths = [path for folder in SHIPPED for path in sorted((TOP / folder).rglob("*.py"))]
    return [parsed(path.relative_to(TOP).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def parsed(name: str, text: str) -> Module:
    tree = ast.parse(text, name)
    nodes = tuple(ast.walk(tree))
    return Module(name, text, tree, nodes, tuple(calls(nodes)))


# Each rule yields what it finds as the name that an exception would have, and the words.


def at(module: Module, node: ast.stmt | ast.expr, what: str) -> tuple[str, str]:
    return module.name, f"{module.name}:{node.lineno}: {what}"


def lines(module: Module) -> Found:
    count = len(module.text.splitlines())
    if count > MODULE_LINES:
        yield module.name, f"{module.name}: {count} lines, the budget is {MODULE_LINES}"


def methods(module: Module) -> Found:
    for node in module.nodes:
        if isinstance(node, ast.ClassDef):
            count = len({child.name for child in node.body if isinstance(child, FUNCTION)})
            if count > CLASS_METHODS:
                what = f"class {node.name} has {count} methods, the budget is {CLASS_METHODS}"
                yield f"{module.name}:{node.name}", f"{module.name}:{node.lineno}: {what}"


def defined_names(module: Module) -> set[str]:
    """The public names a module defines or imports at its top level."""
    names: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_") or name == "__all__"}


def exports(module: Module) -> Found:
    if module.public and defined_names(module) and "__all__" not in defined_names(module):
        yield module.name, f"{module.name}: has no __all__"


def docstrings(module: Module) -> Found:
    if not module.public:
        return
    if ast.get_docstring(module.tree) is None:
        yield module.name, f"{module.name}: has no docstring"
    for node in module.tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
            overload = any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)
            if ast.get_docstring(node) is None and not overload:
                yield at(module, node, f"{node.name} has no docstring")


def calls(nodes: tuple[ast.AST, ...]) -> Iterator[tuple[ast.Call, str]]:
    """Every call with its name in the source; `from time import sleep` counts as `time.sleep`."""
    origin = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in nodes:
        if isinstance(node, ast.Call):
            written = dotted(node.func)
            yield node, origin.get(written, written)


def dotted(node: ast.expr) -> str:
    """The name in the source, such as ``os.path.join``. Of an expression without names, only its end."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def sleeps(module: Module) -> Found:
    for node, name in module.calls:
        if name == "time.sleep":
            yield at(module, node, "time.sleep; wait for an event, a pidfd or a deadline (R13)")


def shells(module: Module) -> Found:
    for node, name in module.calls:
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg in {"shell", "preexec_fn"} and not off:
                yield at(module, node, f"{keyword.arg}=; no shell (R6), and the launcher is a program")
        if name in SHELL_CALLS:
            yield at(module, node, f"{name}; no shell (R6)")


def version_branches(module: Module) -> Found:
    """Uses of a QEMU version in hv_kvm other than showing it: comparing it, splitting it, or passing it on to other code."""
    if not module.name.startswith("plugins/hv-kvm/"):
        return
    parents = {child: parent for parent in module.nodes for child in ast.iter_child_nodes(parent)}
    for node in module.nodes:
        if isinstance(node, ast.Name | ast.Attribute) and is_qemu_version(node) and not is_shown(parents[node]):
            yield at(module, node, "compares a version; probe the feature or use the quirk table (R7)")


def is_qemu_version(node: ast.Name | ast.Attribute) -> bool:
    """``facts.version``, ``client.greeting.package``, ``qemu_version``."""
    if isinstance(node, ast.Name):
        return node.id == "qemu_version"
    holder = ast.unparse(node.value).rpartition(".")[2]
    return node.attr == "qemu_version" or (
        node.attr in {"version", "release", "package"} and holder.endswith(("facts", "greeting"))
    )


def is_shown(above: ast.AST) -> bool:
    """Whether the parents of a version in the tree only show it, store it, or pass it on by its name."""
    text = isinstance(above, ast.Call) and isinstance(above.func, ast.Name) and above.func.id == "str"
    return text or isinstance(above, ast.FormattedValue | ast.keyword | ast.Dict | ast.Return)


RULES: Final[list[tuple[Callable[[Module], Found], dict[str, str]]]] = [
    (lines, LONGER_MODULES),
    (methods, BIGGER_CLASSES),
    (exports, {}),
    (docstrings, {}),
    (sleeps, SLEEPERS),
    (shells, {}),
    (version_branches, QUIRK_TABLES),
]


@pytest.mark.parametrize(("rule", "exceptions"), RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_every_module_keeps_to(
    rule: Callable[[Module], Found], exceptions: dict[str, str], modules: list[Module]
) -> None:
    found = [each for module in modules for each in rule(module)]
    problems = [words for name, words in found if name not in exceptions]
    assert not problems, "\n".join(["", *problems])
    needless = exceptions.keys() - {name for name, _ in found}
    assert not needless, "needs no exception any more"


def test_files_are_found(modules: list[Module]) -> None:
    assert {module.name.split("/")[0] for module in modules} == {"hvcore", "docs", "plugins"}


def same_names(paths: Iterable[str]) -> list[str]:
    """Names that two modules of one of `SHIPPED` have, so that the name alone is ambiguous."""
    seen = Counter(
        (folder, path.rpartition("/")[2])
        for path in paths
        for folder in SHIPPED
        if path.startswith(f"{folder}/") and not path.endswith("/__init__.py")
    )
    return [f"{folder}: {count} modules are called {name}" for (folder, name), count in seen.items() if count > 1]


def test_no_two_modules_of_a_distribution_have_one_name(modules: list[Module]) -> None:
    assert same_names(module.name for module in modules) == []
    assert same_names(["hvcore/a/spec.py", "hvcore/b/spec.py", "hvcore/b/__init__.py", "hvcore/a/__init__.py"]) == [
        "hvcore: 2 modules are called spec.py"
    ]


BROKEN: Final = [
    (lines, "x = 1\n" * 401, "401 lines"),
    (methods, "class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(16)), "C has 16 methods"),
    (exports, '"""Doc."""\ndef f(): ...\n', "no __all__"),
    (docstrings, '"""Doc."""\n__all__ = ["f"]\ndef f(): ...\n', "f has no docstring"),
    (docstrings, "__all__ = ()\n", "hv_kvm/x.py: has no docstring"),
    (sleeps, "import time\ntime.sleep(1)\n", "time.sleep"),
    (sleeps, "from time import sleep as nap\nnap(1)\n", "time.sleep"),
    (shells, "run(['true'], shell=True)\n", "shell="),
    (shells, "Popen(['true'], preexec_fn=f)\n", "preexec_fn="),
    (shells, "import os\nos.system('true')\n", "os.system"),
    (version_branches, "new = facts.qemu_version >= (8, 2)\n", "compares a version"),
    (version_branches, "new = '8.2' < facts.version\n", "compares a version"),
    (version_branches, "new = facts.version == '8.2.0'\n", "compares a version"),
    (version_branches, "new = facts.version.startswith('8.')\n", "compares a version"),
    (version_branches, "new = facts.version[0] in '89'\n", "compares a version"),
    (version_branches, "new = parse(client.greeting.version)\n", "compares a version"),
    (version_branches, "match self.facts.version:\n    case '8.2.0': pass\n", "compares a version"),
    (version_branches, "new = 'Debian' in facts.package\n", "compares a version"),
]


@pytest.mark.parametrize(("rule", "text", "message"), BROKEN, ids=[f"{row[0].__name__}-{row[2]}" for row in BROKEN])
def test_a_planted_violation_is_reported(rule: Callable[[Module], Found], text: str, message: str) -> None:
    ((_, words),) = rule(parsed("plugins/hv-kvm/src/hv_kvm/x.py", text))
    assert message in words
