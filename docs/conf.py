"""The configuration of Sphinx for ``./dev docs``. The pages are plain Markdown, so they also work on code hosts."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from sphinx.application import Sphinx

import hvcore

__all__ = ["setup"]

HERE: Final = Path(__file__).resolve().parent

project = "hvcore"
author = "the hvcore contributors"
release = version = hvcore.__version__
extensions = ["myst_parser"]
exclude_patterns = ["README.md", "generator"]
myst_heading_anchors = 4
smartquotes = False  # quotes in commands have to stay as typed
nitpicky = True

html_theme = "furo"
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_title = f"hvcore {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options: dict[str, Any] = {"navigation_with_keys": True}
if edit_link := os.environ.get("HVCORE_EDIT_LINK"):  # such as https://HOST/PATH/edit/main/docs/{filename}
    html_theme_options["source_edit_link"] = edit_link

_SECTION: Final = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_PAGE: Final = re.compile(r"\]\(([\w/-]+)\.md\)")
_OUTSIDE: Final = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+[A-Z][^)/]*\)"
)  # ../../ARCHITECTURE.md is not a page of the site
_CAPTION: Final = re.compile(
    r'<p class="caption"[^>]*><span class="caption-text">(.*?)</span></p>\n(<ul.*?)(?=<p class|\Z)', re.DOTALL
)
_INCLUDE: Final = re.compile(r"<!-- include (\S+) -->")
# What people type into the search, by the page and the heading that answers it.
_SYNONYMS: Final[Mapping[str, Mapping[str, list[str]]]] = tomllib.loads((HERE / "synonyms.toml").read_text("utf-8"))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("doctree-read", _keep_anchors)
    app.connect("html-page-context", _fold, priority=900)  # after furo has made its navigation


def _read(_app: Sphinx, name: str, source: list[str]) -> None:
    """Add what code hosts have as links: the navigation on the front page, and files from the top of the repository."""
    source[0] = _INCLUDE.sub(lambda found: _from_top(found[1]), _OUTSIDE.sub(r"`\1`", source[0]))
    source[0] = with_synonyms(source[0], _SYNONYMS.get(name, {}))
    if name == "index":
        source[0] += navigation((HERE / "README.md").read_text(encoding="utf-8"))


def with_synonyms(page: str, synonyms: Mapping[str, list[str]]) -> str:
    """The page with index entries before the headings that have synonyms. Raises ValueError for one without its heading."""
    for heading, words in synonyms.items():
        # "!" makes it a main entry: the search ranks other index entries below every page that has the word.
        entries = "".join(f"```{{index}} ! {word}\n```\n\n" for word in words)
        page, count = re.subn(rf"^(#+ {re.escape(heading)})$", rf"{entries}\1", page, count=1, flags=re.MULTILINE)
        if not count:
            raise ValueError(f"synonyms.toml: no heading {heading!r}")
    return page


def _fold(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Fold each section of the sidebar, except the one with this page."""
    del app, name, template, tree
    context["furo_navigation_tree"] = _CAPTION.sub(
        lambda found: (
            f"<details{' open' if 'current-page' in found[2] else ''}>"
            f'<summary class="caption"><span class="caption-text">{found[1]}</span></summary>\n{found[2]}</details>\n'
        ),
        context.get("furo_navigation_tree", ""),
    )


def _keep_anchors(_app: Sphinx, tree: nodes.document) -> None:
    """Give each heading the anchor that it has on a code host as well, such as ``#kvm_path`` beside ``#kvm-path``."""
    for section in tree.findall(nodes.section):
        slug = section.get("slug")
        if slug and slug not in section["ids"]:
            section["ids"].append(slug)


def _from_top(name: str) -> str:
    """A file of the repository's top without its heading, its links as seen from a folder of docs."""
    text = (HERE.parent / name).read_text(encoding="utf-8").partition("\n")[2]
    text = re.sub(r"\]\(docs/README\.md#\w+\)", "](../index.md)", text)
    return re.sub(r"\]\(docs/", "](../", text)


def navigation(index: str) -> str:
    """The links of the index for code hosts, as one list of the sidebar for each section."""
    parts = []
    for title, body in _SECTION.findall(index):
        pages = "\n".join(_PAGE.findall(body))
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n")
    return "".join(parts)
