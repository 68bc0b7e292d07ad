"""Files that hand-written pages quote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from generator.words import TOP

__all__ = ["quoted"]

# A page quotes a file between these two lines; everything between them is replaced.
_QUOTE: Final = re.compile(r"(<!-- quote (\S+) -->\n).*?(<!-- end of quote -->)", re.DOTALL)
_LANGUAGES: Final[Mapping[str, str]] = {".py": "python", ".toml": "toml", ".sh": "sh"}


def quoted(text: str) -> str:
    """The text of a hand-written page with the present contents of every quoted file."""

    def fresh(match: re.Match[str]) -> str:
        path = TOP / match[2]
        body = path.read_text(encoding="utf-8").rstrip("\n")
        return f"{match[1]}```{_LANGUAGES.get(path.suffix, 'text')}\n{body}\n```\n{match[3]}"

    return _QUOTE.sub(fresh, text)
