"""The documentation is complete and matches the code, and its links and examples work."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from distributions import installed

import generate
import hv_kvm.hookspecs
import hv_kvm.plugin
import hvcore
import hvcore.errors
import hvcore.plugins.hookspecs
import hvcore.testing
from hvcore.cli.app import COMMANDS

TOP: Final = Path(__file__).resolve().parents[2]
REFERENCE: Final = TOP / "docs/reference"
WRITTEN: Final = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
INVENTORY: Final = TOP / "examples/hv-inventory"
DRIVERS: Final = [entry.name for entry in hvcore.catalogue() if entry.name in ("kvm", "chroot", "fake")]

FENCE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


def pages() -> list[Path]:
    """Every page that a reader may open."""
    return [*(TOP / name for name in WRITTEN), *sorted((TOP / "docs").rglob("*.md"))]


def text_of(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", generate.PAGES)
def test_reference_page_is_what_the_code_says(name: str) -> None:
    written = (TOP / name).read_text(encoding="utf-8")
    assert written == generate.page(name), "run: .venv/bin/python docs/generate.py"


@pytest.mark.parametrize("path", generate.quoting_pages(), ids=lambda path: path.relative_to(TOP).as_posix())
def test_page_quotes_files_as_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert generate.quoted(text) == text, "run: .venv/bin/python docs/generate.py"


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("api*.md")), ids=lambda path: path.name)
def test_no_name_has_the_docstring_of_a_built_in_type(page: Path) -> None:
    """A constant has no docstring, so Python gives that of its type, such as ``str(object='')``."""
    built_in = {str(kind.__doc__).splitlines()[0] for kind in (str, int, float, tuple, list, dict, frozenset, range)}
    text = page.read_text(encoding="utf-8")
    assert [first for first in sorted(built_in) if first in text] == []


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("api*.md")), ids=lambda path: path.name)
def test_values_of_an_enumeration_can_be_written_in_a_program(page: Path) -> None:
    """The numbers of an `IntEnum` say nothing: a program names its members."""
    assert re.findall(r"Values: [^|]*`\d+`[^|]*", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("api*.md")), ids=lambda path: path.name)
def test_a_page_for_authors_names_no_private_module(page: Path) -> None:
    private = r"hvcore\.(?:api|cli|host|model|operations|params|plugins|resources|state)\b"
    assert re.findall(rf"`{private}[\w.]*`", page.read_text(encoding="utf-8")) == []


def test_a_changed_file_makes_its_quote_stale() -> None:
    text = "<!-- quote tox.ini -->\nold\n<!-- end of quote -->\n"
    assert "env_list" in generate.quoted(text)


def test_the_guide_shows_the_whole_fake_driver() -> None:
    guide = (TOP / "docs/how-to/write-a-driver.md").read_text(encoding="utf-8")
    for name in ("plugins/hv-fake/src/hv_fake/plugin.py", "plugins/hv-fake/pyproject.toml"):
        assert (TOP / name).read_text(encoding="utf-8").strip() in guide


@pytest.mark.parametrize(
    ("role", "page"),
    [
        (hvcore, "api.md"),
        (hvcore.plugin, "api-plugin.md"),
        (hvcore.testing, "api-testing.md"),
        (hv_kvm.plugin, "api-kvm.md"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_public_name_is_documented(role: ModuleType, page: str) -> None:
    names = getattr(role, "__all__", dir(role))
    assert names
    assert [name for name in names if not re.search(rf"^\| `{re.escape(name)}\b", text_of(page), re.MULTILINE)] == []


@pytest.mark.parametrize("module", [hvcore.plugins.hookspecs, hv_kvm.hookspecs], ids=lambda module: module.__name__)
def test_every_hook_is_documented(module: ModuleType) -> None:
    names = [name for name, item in vars(module).items() if hasattr(item, f"{hvcore.plugins.hookspecs.PROJECT}_spec")]
    assert names
    page = text_of("hooks.md")
    assert [name for name in names if f"\n### {name}\n" not in page] == []


@pytest.mark.parametrize("module", [hvcore.plugins.hookspecs, hv_kvm.hookspecs], ids=lambda module: module.__name__)
def test_examples_of_hooks_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_parameter_is_documented(driver: str, tmp_path: Path) -> None:
    schema = hvcore.Node(tmp_path).driver(driver).schema
    page = text_of(f"params-{driver}.md")
    assert [key for key in schema.params if f"\n### `{key}`\n" not in page] == []


def test_every_error_is_documented() -> None:
    names = [name for name in hvcore.errors.__all__ if not issubclass(getattr(hvcore.errors, name), hvcore.Problem)]
    page = text_of("errors.md")
    assert [name for name in names if f"\n### `{name}`\n" not in page] == []
    tree = page.partition("```text")[2].partition("```")[0]
    assert [name for name in names if not re.search(rf"\b{name}\b", tree)] == []


def test_every_subcommand_is_documented() -> None:
    page = text_of("cli.md")
    names = [name for section in COMMANDS.values() for name in section]
    assert [name for name in names if f"\n### hv {name}\n" not in page] == []


def test_every_state_and_operation_is_documented() -> None:
    page = text_of("state-table.md")
    assert [state for state in hvcore.State if f"\n| `{state}` |" not in page] == []
    assert [op for op in hvcore.Op if f"| `{op}` |" not in page] == []


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    headings = HEADING.findall(FENCE.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.relative_to(TOP).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    assert list(broken_links(path)) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](page.md#one) [b](none.md) [c](#two)\n", encoding="utf-8")
    assert list(broken_links(page)) == ["none.md", "#two"]


def test_every_page_can_be_reached_from_the_index() -> None:
    index = TOP / "docs/README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text("utf-8"))}
    assert [path for path in (TOP / "docs").rglob("*.md") if path not in {index, *linked}] == []


def test_every_synonym_of_the_search_leads_to_a_heading() -> None:
    synonyms = tomllib.loads((TOP / "docs/synonyms.toml").read_text(encoding="utf-8"))
    for page, headings in synonyms.items():
        found = HEADING.findall(FENCE.sub("", (TOP / f"docs/{page}.md").read_text(encoding="utf-8")))
        assert [heading for heading in headings if heading not in found] == [], page


OUR_WORDS: Final = re.compile(r"\b(?:ledger|life lock|run directory|reservation|spec)\b")
WRITTEN_PAGES: Final = [
    path for path in generate.quoting_pages() if path.name not in ("README.md", "index.md", "glossary.md")
]


@pytest.mark.parametrize("path", WRITTEN_PAGES, ids=lambda path: path.relative_to(TOP).as_posix())
def test_a_page_that_uses_our_words_links_to_the_glossary(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for word in set(OUR_WORDS.findall(text)):
        anchor = word.replace(" ", "-")
        assert f"glossary.md#{anchor})" in text, f"link the first {word!r}"


def test_the_examples_of_the_embedding_tutorial_run() -> None:
    page = TOP / "docs/tutorial/embed.md"
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    result = doctest.DocTestRunner().run(examples)
    assert result.attempted > 0
    assert result.failed == 0


def run(program: list[str], tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A program with its own run directory. ``more`` is added to its environment."""
    environment = {**os.environ, "HVCORE_RUN_DIR": str(tmp_path / "run"), **more}
    command = [sys.executable, *program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.heavy
def test_the_program_of_the_readme_runs_an_instance(tmp_path: Path) -> None:
    file = tmp_path / "web1.toml"
    file.write_text('name = "web1"\ndriver = "fake"\nmemory_mib = 64\n', encoding="utf-8")
    ended = run([str(TOP / "examples/run_instance.py"), str(file)], tmp_path)
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-2:] == ["web1 fake running 64 1", "stopped by powerdown"]


@pytest.fixture
def with_inventory(tmp_path: Path) -> dict[str, str]:
    """An environment in which the example extension is installed: its package, and the metadata that pip would write."""
    project = tomllib.loads((INVENTORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in points.items())])
        for group, points in project["entry-points"].items()
    ]
    site, text = tmp_path / "site", "\n".join(groups)
    installed(site, project["name"], text, requires=project["dependencies"], version=project["version"])
    path = [str(INVENTORY / "src"), str(site), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("memory_mib = 2048\n", 2, "params.owner: is required above 1024 MiB"),
        ('[params]\nowner = "No Such"\n', 2, "params.owner: "),
        ('[params]\nowner = "nobody-of-that-name"\n', 1, "has no account on this node"),
        ('[params]\nowner = "root"\n', 0, "web1: running"),
    ],
)
def test_the_example_extension_works(
    with_inventory: dict[str, str], tmp_path: Path, text: str, code: int, said: str
) -> None:
    file = tmp_path / "web1.toml"
    file.write_text(f'name = "web1"\ndriver = "fake"\n{text}', encoding="utf-8")
    ended = run(["-c", "import hvcore.cli; hvcore.cli.main()", "start", str(file)], tmp_path, **with_inventory)
    assert said in ended.stdout + ended.stderr
    assert ended.returncode == code
    instances = tmp_path / "run/instances"
    assert [path.name for path in instances.iterdir()] == ["web1"] if code == 0 else not list(instances.glob("*"))


@pytest.mark.live
def test_the_example_extension_adds_to_the_command_of_kvm(with_inventory: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "web1.toml"
    text = 'name = "web1"\ndriver = "kvm"\n[params]\nkvm_flag = "disabled"\nasset_tag = "A-1,x"\n'
    file.write_text(text, encoding="utf-8")
    ended = run(["-c", "import hvcore.cli; hvcore.cli.main()", "explain", str(file)], tmp_path, **with_inventory)
    assert ended.returncode == 0, ended.stderr
    line = next(line for line in ended.stdout.splitlines() if "-smbios" in line)
    assert " ".join(line.split()) == "-smbios type=3,asset=A-1,,x # kvm.asset <- asset_tag (instance): the inventory"
