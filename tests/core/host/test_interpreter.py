"""A program whose interpreter is missing, or whose first line no interpreter understands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.host.interpreter import executable_problem

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


def test_a_script_of_the_node_is_told_from_one_in_a_root() -> None:
    for head, what, todo in (
        (
            b"#!/opt/python\n",
            "needs the interpreter '/opt/python', which is not a program of this node",
            "install '/opt/python'",
        ),
        (
            b"#!/usr/bin/env perl\n",
            f"needs the interpreter 'perl', which is not in the PATH of scripts ({PATH})",
            "install 'perl'",
        ),
    ):
        assert executable_problem(head, PATH, INSIDE.get, of_root=False) == (what, todo)


def test_a_loader_of_the_node_is_told_from_one_in_a_root() -> None:
    """What is missing is named where it is missing, and so is what has to be installed."""
    shell, machine = Path("/bin/sh").read_bytes()[:4096], os.uname().machine
    other = b"\x7fELF\2\1\1".ljust(18, b"\0") + (243).to_bytes(2, "little") + bytes(44)
    for of_root, where, todo in (
        (True, "in the root", "install the C library there"),
        (False, "on this node", "install the C library"),
    ):
        found = executable_problem(shell, PATH, INSIDE.get, machine=machine, of_root=of_root)
        assert found is not None
        assert found[0].endswith(f"which is not {where}")
        assert found[1] == todo
        wrapped = executable_problem(
            b"#!/bin/program\n", PATH, {"/bin/program": shell}.get, machine=machine, of_root=of_root
        )
        assert wrapped == found
    foreign = executable_problem(other, PATH, INSIDE.get, machine="x86_64", of_root=False)
    assert foreign is None or "root" not in " ".join(foreign)


def test_the_loader_of_a_program() -> None:
    shell = Path("/bin/sh").read_bytes()[:4096]
    machine = os.uname().machine
    found = executable_problem(shell, PATH, INSIDE.get, machine=machine)
    assert found is not None
    assert found[0].startswith("needs the loader '/lib")
    assert executable_problem(shell, PATH, lambda path: b"", machine=machine) is None


def test_a_program_of_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hvcore.host.interpreter._BINFMT", tmp_path)
    header = b"\x7fELF\2\1\1".ljust(18, b"\0") + (243).to_bytes(2, "little") + bytes(44)
    found = executable_problem(header, PATH, INSIDE.get, machine="x86_64")
    assert found is not None
    assert "another machine (ELF machine 243, this node is x86_64)" in found[0]
    (tmp_path / "qemu-riscv64").touch()
    assert executable_problem(header, PATH, INSIDE.get, machine="x86_64") is None


@given(st.binary(max_size=300), st.sampled_from([b"#!", b"\x7fELF\2\1", b"\x7fELF\1\1", b""]))
def test_no_bytes_raise(data: bytes, magic: bytes) -> None:
    executable_problem(magic + data, PATH, INSIDE.get, machine="x86_64")
