"""The documentation builds as a site without a warning, and the site has what its readers need."""

from __future__ import annotations

import html.parser
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("sphinx", reason="the site needs hvcore[docs]")
pytestmark = pytest.mark.heavy
TOP: Final = Path(__file__).resolve().parents[2]


class Page(html.parser.HTMLParser):
    """The ids on a page of the site, and where it links to."""

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
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
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
