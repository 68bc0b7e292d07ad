"""The line of a program's output that names the cause of its failure. Pure.

Programs print hints after the cause, and warnings before it. QEMU and mount put their own name before the cause; a hint has
no name before it. The options that QEMU repeats can be longer than any message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

__all__ = ["headline"]

_CHARACTERS: Final = 300
# Patterns are compiled when they are used: most commands print no output of a failed program.
_HINTS: Final = (
    r"(?i)dmesg\(1\) may have more information|Is another process using the image|\(?(?:hint|note): "
    r"|(?:Try|Use|See|Run) .*(?:--help|-help|for (?:more )?(?:information|details|help))|Aborted\b|Usage: "
)
_NO_CAUSE: Final = r"(?i)(?:[^ ]+: )*?(?:warning|info): |.*terminating on signal \d+"
_ID: Final = r"""(?:node-name|\bid)["']?[=:]\s*["']?([\w.#-]+)"""
_WRAPPERS: Final = ("bwrap",)


def headline(output: str, argv: Sequence[str] = ()) -> str:
    """The line that names the cause, at most 300 characters; the empty string without output.

    It is the first line with the program's name that is not a warning, else the last line that is neither a hint nor a
    warning, else the last line. An option of ``argv`` that the line repeats is cut to its name and the id in it.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if not re.match(_HINTS, line) and not re.match(_NO_CAUSE, line)]
    program = argv[0].rpartition("/")[2] if argv else ""
    named = [line for line in causes if line.partition(": ")[0].rpartition("/")[2] in (program, *_WRAPPERS)]
    found = next(iter(named or causes[-1:] or lines[-1:]), "")
    return _shortened(_without_option(found, argv))


def _without_option(line: str, argv: Sequence[str]) -> str:
    """``qemu: -blockdev driver=raw,node-name=disk0,...: cause`` as ``qemu: -blockdev disk0: cause``."""
    for option, value in pairwise(argv):
        repeated = f"{option} {value}: "
        if option.startswith("-") and repeated in line:
            found = re.search(_ID, value)
            return line.replace(repeated, f"{option} {found[1]}: " if found else f"{option}: ", 1)
    return line


def _shortened(line: str) -> str:
    """The beginning and the end: the cause is at the end."""
    if len(line) <= _CHARACTERS:
        return line
    return f"{line[:80]} ... {line[80 + 5 - _CHARACTERS :]}"
