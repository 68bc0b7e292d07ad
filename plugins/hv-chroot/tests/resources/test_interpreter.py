"""A program whose interpreter is missing, or whose first line no interpreter understands."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_chroot.resources import root_files
from hv_chroot.resources.interpreter import executable_problem
from hv_chroot.resources.root_files import script_problem
from hvcore.plugin import system_call

PATH = "/usr/bin:/bin"
INSIDE = {"/bin/sh": b"", "/usr/bin/env": b"", "/bin/python3": b"", "/bin/wrapper": b"#!/bin/gone\n"}


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"#!/bin/sh\necho\r\n", None),
        (b"#! /bin/sh -e\n", None),
        (b"#!/usr/bin/env python3\n", None),
        (b"#!/usr/bin/env -S perl -w\n", None),
        (b"#!/usr/bin/env A=1 perl\n", None),
        (b"", None),
        (b"#!/bin/sh\r\necho\r\n", "has Windows line ends (CRLF)"),
        (b"#!/bin/sh -e\r\n", "has Windows line ends (CRLF)"),
        (b"#!/usr/bin/python3\n", "needs the interpreter '/usr/bin/python3', which is not a program in the root"),
        (b"#!/usr/bin/env perl\n", "needs the interpreter 'perl', which is not in the PATH of the root"),
        (b"#!/bin/wrapper\n", "needs the interpreter '/bin/gone'"),
        (b"#!\n", "names no interpreter"),
    ],
)
def test_the_first_line_of_a_script(head: bytes, what: str | None) -> None:
    found = executable_problem(head, PATH, INSIDE.get)
    assert (found is None) if what is None else (found is not None and found[0].startswith(what))


def test_the_loader_of_a_program() -> None:
    shell = Path("/bin/sh").read_bytes()[:4096]
    machine = os.uname().machine
    found = executable_problem(shell, PATH, INSIDE.get, machine=machine)
    assert found is not None
    assert found[0].startswith("needs the loader '/lib")
    assert executable_problem(shell, PATH, lambda path: b"", machine=machine) is None


def test_a_program_of_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hv_chroot.resources.interpreter._BINFMT", tmp_path)
    header = b"\x7fELF\2\1\1".ljust(18, b"\0") + (243).to_bytes(2, "little") + bytes(44)
    found = executable_problem(header, PATH, INSIDE.get, machine="x86_64")
    assert found is not None
    assert "another machine (ELF machine 243, this node is x86_64)" in found[0]
    (tmp_path / "qemu-riscv64").touch()
    assert executable_problem(header, PATH, INSIDE.get, machine="x86_64") is None


def test_links_in_the_root_are_followed_inside_it(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("/usr/bin")
    script = tmp_path / "init"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o755)
    found = script_problem(tmp_path, "/init", PATH)
    assert found is not None
    assert "'/bin/sh', which is not a program" in found[0]
    (tmp_path / "usr/bin/sh").touch(mode=0o755)
    assert script_problem(tmp_path, "/init", PATH) is None


def test_a_rename_elsewhere_during_the_walk_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "init"
    script.touch(mode=0o755)
    unsure = iter([True, True])

    def call(*arguments: Any) -> int:
        if next(unsure, False):
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return system_call(*arguments)

    monkeypatch.setattr(root_files, "system_call", call)
    assert script_problem(tmp_path, "/init", PATH) is None


@given(st.binary(max_size=300), st.sampled_from([b"#!", b"\x7fELF\2\1", b"\x7fELF\1\1", b""]))
def test_no_bytes_raise(data: bytes, magic: bytes) -> None:
    executable_problem(magic + data, PATH, INSIDE.get, machine="x86_64")
