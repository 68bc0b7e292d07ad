"""How Sphinx makes the site out of the pages here: ``./dev docs``. The pages are plain Markdown, for code hosts too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

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
smartquotes = False  # 'enabled' is what a person copies
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
html_theme_options = {"navigation_with_keys": True}

_SECTION: Final = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_PAGE: Final = re.compile(r"\]\(([\w/-]+)\.md\)")
_OUTSIDE: Final = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[A-Z][^)/]*\)")  # ../../ARCHITECTURE.md is no page of the site
_INCLUDE: Final = re.compile(r"<!-- include (\S+) -->")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("doctree-read", _keep_anchors)


def _read(_app: Sphinx, name: str, source: list[str]) -> None:
    """Fill in what a code host shows by a link: the navigation on the front page, and files from the repository's top."""
    source[0] = _INCLUDE.sub(lambda found: _from_top(found[1]), _OUTSIDE.sub(r"`\1`", source[0]))
    if name == "index":
        source[0] += navigation((HERE / "README.md").read_text(encoding="utf-8"))


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
    """The pages that the index for code hosts links to, as one list for the side bar to a section."""
    parts = []
    for title, body in _SECTION.findall(index):
        pages = "\n".join(_PAGE.findall(body))
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n")
    return "".join(parts)
