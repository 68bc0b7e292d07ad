"""The findings of ``hv doctor`` about chroot instances, on a node with faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from hv_chroot.run.verify import examine
from hvcore import Severity
from hvcore.plugin import Host


def test_an_ordinary_user_reads_that_it_needs_root(tmp_path: Path) -> None:
    host = Host(run_dir=tmp_path, privileged=False, uid_pool=range(100, 200))
    found = {finding.subject: finding for finding in examine(host)}
    assert (found["privileges"].severity, found["privileges"].todo) == (Severity.PROBLEM, "run it as root")


def test_missing_tools_are_reported_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    host = Host(run_dir=tmp_path, privileged=True, uid_pool=range(100, 200))
    found = {finding.subject: finding.todo for finding in examine(host) if finding.severity is Severity.PROBLEM}
    assert found == {"bwrap": "install bubblewrap", "mount": "install mount", "setpriv": "install util-linux"}
