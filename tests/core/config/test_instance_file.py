"""Instances from TOML files, and files that are not instances."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hvcore import Disk, InstanceFileError, ParamsError, load_instance

GOOD = """
name = "web1"
driver = "fake"
memory_mib = 512
[[disks]]
path = "/srv/web1,='.img"
[params]
motd = "hello"
"""


def test_a_file_becomes_an_instance_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "web1.toml").write_text(GOOD)
    (tmp_path / "link").symlink_to("web1.toml")
    instance = load_instance(tmp_path / "link")
    assert (instance.memory_mib, instance.disks) == (512, (Disk(path="/srv/web1,='.img"),))
    assert load_instance(str(tmp_path / "web1.toml")) == instance


def test_every_problem_of_a_file_is_reported_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "web1.toml"
    path.write_text('name = "../x"\ndriver = "fake"\nmemroy_mib = 1\n[[disks]]\npath = "/srv/../x"\n')
    with pytest.raises(ParamsError, match="3 problems") as caught:
        load_instance(path)
    assert str(path) in str(caught.value)
    assert "did you mean 'memory_mib'?" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "is not TOML"),
        (b"name = 'a'\nname = 'b'\n", "is not TOML"),
        (b"name = '\xff'\n", "is not UTF-8 at byte 8; see docs"),
        (b"#" * (1024 * 1024 + 1), "is larger than 1 MiB"),
        (b"x = " + b"[" * 100_000, "is nested too deeply"),
        (b"a." * 100_000 + b"a = 1", "has a key of more than 200 parts"),
        (b"[" + b"'a' . " * 100_000 + b"a]", "has a key of more than 200 parts"),
        (b"x = {" + b'"a b".' * 100_000 + b"a = 1}", "has a key of more than 200 parts"),
        (b"\x7fELF\0\0", "is not TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_an_error_and_not_a_traceback(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(InstanceFileError, match=message) as caught:
        load_instance(tmp_path / "x.toml")
    assert caught.value.exit_code == 2


def test_an_unreadable_file_is_an_error_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("none", "fifo", ".", "loop", "a\0b", "x" * 300):
        with pytest.raises(
            InstanceFileError, match=r"cannot be read|is not a path|is a directory|is not a regular file"
        ):
            load_instance(f"{tmp_path}/{name}")


def test_a_byte_order_mark_of_an_editor_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "web1.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "web1"\ndriver = "fake"\n')
    assert load_instance(path).name == "web1"
