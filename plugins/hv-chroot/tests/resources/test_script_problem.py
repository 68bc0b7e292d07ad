"""A script in a root whose interpreter is found as a process inside finds it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from hv_chroot.resources import root_files
from hv_chroot.resources.root_files import script_problem
from hvcore.plugin import system_call

PATH = "/usr/bin:/bin"


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
