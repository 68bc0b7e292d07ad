"""The documentation builds as a site without a warning; links, search and sidebar of the site work."""

from __future__ import annotations

import html.parser
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("sphinx", reason="the site needs hvcore[docs]")
pytestmark = pytest.mark.slow  # half a minute; test_docs.py looks at the links between the sources
TOP: Final = Path(__file__).resolve().parents[2]
EDIT_LINK: Final = "https://code.example/hvcore/edit/main/docs/{filename}"


class Page(html.parser.HTMLParser):
    """The ids and the links of a page of the site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in {"href", "src"} and value:
                self.links.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--fail-on-warning", "--keep-going", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(TOP / "docs"), str(folder / "html")]
    environment = {**os.environ, "HVCORE_EDIT_LINK": EDIT_LINK}
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment)
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_every_page_is_on_the_site(pages: dict[str, Page]) -> None:
    written = {path.relative_to(TOP / "docs").with_suffix(".html").as_posix() for path in TOP.glob("docs/**/*.md")}
    assert written - {"README.html"} - set(pages) == set()


def test_every_page_can_be_reached_from_the_front_page(pages: dict[str, Page]) -> None:
    front = {link.partition("#")[0] for link in pages["index.html"].links}
    assert {name for name in pages if "/" in name} - front == set()


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    dead = []
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if "://" in link or link.startswith(("data:", "mailto:")) or name == "genindex.html":
                continue
            there = (site / name).parent / target.partition("?")[0] if target else site / name
            other = pages.get(there.resolve().relative_to(site).as_posix())
            if not there.exists() or (anchor and other and anchor not in other.ids):
                dead.append(f"{name}: {link}")
    assert dead == []


def test_nothing_is_fetched_from_elsewhere_to_show_a_page(pages: dict[str, Page], site: Path) -> None:
    assert '<script src="http' not in (site / "index.html").read_text(encoding="utf-8")
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "@import url(http" not in styles


def test_a_page_links_to_its_source(pages: dict[str, Page]) -> None:
    assert EDIT_LINK.format(filename="how-to/install.md") in pages["how-to/install.html"].links


def test_only_the_section_of_the_page_is_open_in_the_sidebar(site: Path) -> None:
    page = (site / "how-to/install.html").read_text(encoding="utf-8")
    assert page.count("<details open>") == 1
    assert page.count('<summary class="caption">') == page.count("<details") == 5
    assert "How-to guides" in page.partition("<details open>")[2].partition("</summary>")[0]


# What people type, and the page that the search has to show first: the page of a main entry of the index.
WORDS: Final = {
    "vm": "tutorial/first-instance",
    "virtual machine": "tutorial/first-instance",
    "network": "tutorial/networks",
    "bridge": "how-to/connect-to-a-bridge",
    "tap": "how-to/connect-to-a-bridge",
    "vlan": "how-to/connect-to-a-bridge",
    "port forward": "how-to/reach-a-guest",
    "open vswitch": "how-to/use-open-vswitch",
    "macvtap": "how-to/use-macvtap",
    "bandwidth": "how-to/limit-bandwidth",
    "ssh": "how-to/reach-a-guest",
    "dns": "how-to/reach-a-guest",
    "firewall": "explanation/network-security",
    "console": "reference/cli",
    "shutdown": "reference/cli",
    "restart": "reference/cli",
    "uefi": "reference/params-kvm",
    "windows 11": "reference/params-kvm",
    "virsh": "explanation/coming-from-libvirt",
    "proxmox": "explanation/coming-from-proxmox",
    **dict.fromkeys(["cloud-init", "snapshot", "backup"], "explanation/limits"),
    **dict.fromkeys(["migration", "windows"], "explanation/limits"),
    **dict.fromkeys(["hot-plug", "resize"], "how-to/attach-devices"),
    "autostart": "how-to/keep-instances",
}


@pytest.mark.parametrize("words", WORDS)
def test_search_leads_from_the_words_that_people_type_to_their_page(site: Path, words: str) -> None:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    main = {index["docnames"][page] for page, _anchor, is_main in index["indexentries"][words] if is_main}
    assert WORDS[words] in main


@pytest.mark.parametrize("path", sorted((TOP / "docs/tutorial").glob("*.md")), ids=lambda path: path.stem)
def test_a_tutorial_says_what_comes_next(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\nNext: [") == 1
