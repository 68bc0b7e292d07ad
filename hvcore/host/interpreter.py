"""Why the kernel would not execute a program: its interpreter, named by the first line of a script or by an ELF header."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Found", "executable_problem"]

Found = Callable[[str], bytes | None]
"""The first bytes of the program at a path, None when it does not exist or cannot be executed."""

_LINE_BYTES: Final = 256  # BINPRM_BUF_SIZE, linux/binfmts.h
_DEEPEST: Final = 4
_PT_INTERP: Final = 3  # elf.h
_MOST_HEADERS: Final = 64
_MACHINES: Final = {"x86_64": (62, 3), "aarch64": (183, 40)}  # EM_X86_64 and EM_386, EM_AARCH64 and EM_ARM
_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
_UNIX_LINES: Final = r"convert it with sed -i 's/\r$//'"


def executable_problem(
    head: bytes, search: str, found: Found, *, machine: str | None = None, of_root: bool = True
) -> tuple[str, str] | None:
    """What is wrong with a program that begins with ``head``, and what to do; None if nothing is known.

    ``search`` is the PATH that it gets, for a script that is run by env. ``machine`` is that of the node. ``of_root`` says
    that the program runs in the root of an instance, else on the node.
    """
    for _ in range(_DEEPEST):
        if head[:4] == b"\x7fELF":
            return _elf_problem(head, found, machine or os.uname().machine, of_root=of_root)
        if head[:2] != b"#!":
            return None
        line = head[2:_LINE_BYTES].partition(b"\n")[0]
        problem = _line_problem(line, search, found, of_root=of_root)
        if problem is not None:
            return problem
        head = found(_words(line)[0]) or b""
    return None


def _words(line: bytes) -> list[str]:
    return line.decode("utf-8", "backslashreplace").split()


def _line_problem(line: bytes, search: str, found: Found, *, of_root: bool) -> tuple[str, str] | None:
    """What is wrong with the line after ``#!``."""
    words = _words(line)
    if line.endswith(b"\r"):
        return "has Windows line ends (CRLF), which its interpreter does not understand", _UNIX_LINES
    if not words:
        return "names no interpreter after '#!'", "correct its first line, for example to '#!/bin/sh'"
    if found(words[0]) is None:
        what = (
            f"needs the interpreter {words[0]!r}, which is not a program {'in the root' if of_root else 'of this node'}"
        )
        return what, f"install {words[0]!r}{' there' if of_root else ''}"
    by_env = os.path.basename(words[0]) == "env" and len(words) > 1 and not re.search("^-|[=/]", words[1])
    if by_env and not any(found(f"{place.rstrip('/')}/{words[1]}") is not None for place in search.split(":")):
        what = f"needs the interpreter {words[1]!r}, which is not in the PATH of {'the root' if of_root else 'scripts'} ({search})"
        return what, f"install {words[1]!r}{' there, or set PATH in params.environment' if of_root else ''}"
    return None


def _elf_problem(head: bytes, found: Found, machine: str, *, of_root: bool) -> tuple[str, str] | None:
    if len(head) < 64 or head[5] != 1:
        return None
    (kind,) = struct.unpack_from("<H", head, 18)
    if machine in _MACHINES and kind not in _MACHINES[machine] and not _other_machines():
        what = f"is a program for another machine (ELF machine {kind}, this node is {machine})"
        instead = "a root of this machine" if of_root else "a program of this machine"
        return what, f"use {instead}, or install qemu-user-static on the node"
    interpreter = _elf_interpreter(head)
    if interpreter is None or found(interpreter) is not None:
        return None
    where, todo = ("in the root", " there") if of_root else ("on this node", "")
    return f"needs the loader {interpreter!r}, which is not {where}", f"install the C library{todo}"


def _elf_interpreter(head: bytes) -> str | None:
    """The path of the dynamic loader; None for a static program, or when it is not in the first bytes."""
    wide = head[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", head, 32 if wide else 28)
    size, count = struct.unpack_from("<HH", head, 54 if wide else 42)
    for index in range(min(count, _MOST_HEADERS)):
        header = head[table + index * size : table + index * size + (56 if wide else 32)]
        if len(header) < (56 if wide else 32) or struct.unpack_from("<I", header)[0] != _PT_INTERP:
            continue
        offset = struct.unpack_from("<Q" if wide else "<I", header, 8 if wide else 4)[0]
        length = struct.unpack_from("<Q" if wide else "<I", header, 32 if wide else 16)[0]
        text = head[offset : offset + length]
        return text.rstrip(b"\0").decode("utf-8", "backslashreplace") if len(text) == length and text else None
    return None


def _other_machines() -> bool:
    """Whether the node may run programs of other machines (binfmt_misc)."""
    try:
        return bool(set(os.listdir(_BINFMT)) - {"register", "status"})
    except OSError:
        return False
