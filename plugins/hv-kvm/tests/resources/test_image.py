"""Images that are copied from a template, and the headers of qcow2 images."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.resources.image import copy_template, qcow2_problem


def test_a_template_is_copied_once_and_whole(tmp_path: Path) -> None:
    template, path = tmp_path / "template", tmp_path / "new"
    template.write_bytes(b"first" * 1000)
    copy_template(str(template), str(path))
    assert path.read_bytes() == template.read_bytes()
    template.write_bytes(b"second")
    copy_template(str(template), str(path))
    assert path.read_bytes() == b"first" * 1000
    assert sorted(tmp_path.iterdir()) == [path, template]


def header(version: int = 3, backing: int = 0, features: int = 0, magic: bytes = b"QFI\xfb") -> bytes:
    return (magic + struct.pack(">IQ", version, backing)).ljust(72, b"\0") + struct.pack(">Q", features).ljust(
        32, b"\0"
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (header(), None),
        (header(version=2), None),
        (header(features=1), None),
        (header(version=2, features=4), None),
        (header(backing=104), "a backing file"),
        (header(version=2, backing=104), "a backing file"),
        (header(features=4), "data are in another file"),
        (header(features=2), "marked as corrupt"),
        (header(version=4), "version 4"),
        (header(magic=b"\x7fELF"), "not a qcow2 image"),
        (b"", "not a qcow2 image"),
    ],
)
def test_the_problem_of_a_qcow2_header(data: bytes, what: str | None) -> None:
    found = qcow2_problem(data)
    assert (found is None) if what is None else (found is not None and what in found[0])


@given(st.binary(max_size=120))
def test_no_header_raises(data: bytes) -> None:
    qcow2_problem(b"QFI\xfb" + data)
