"""The findings of ``hv doctor`` about QEMU on a node with problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from hv_kvm.run.startup.verify import examine
from hvcore import Node, Severity
from hvcore.plugin import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(run_dir=tmp_path / "run", privileged=False, uid_pool=range(100, 200))


def test_a_missing_binary_is_a_finding_with_its_package(host: Host) -> None:
    (finding,) = examine("/nonexistent/qemu", host)
    assert finding.severity is Severity.PROBLEM
    assert "install qemu-system-x86, or set kvm_path for this node" in str(finding.todo)


def test_a_binary_that_is_not_qemu_is_a_problem_and_nothing_is_cached(host: Host) -> None:
    (finding,) = examine("/usr/bin/true", host)
    assert finding.severity is Severity.PROBLEM
    assert "/usr/bin/true" in finding.what
    assert not host.run_dir.exists()


@pytest.mark.heavy
@pytest.mark.parametrize(("binary", "severity"), [("/nonexistent/qemu", Severity.PROBLEM), (None, None)])
def test_the_qemu_that_the_node_names_is_examined(
    tmp_path: Path, binary: str | None, severity: Severity | None
) -> None:
    (tmp_path / "config").mkdir()
    if binary is not None:
        (tmp_path / "config/node.toml").write_text(f'[params.kvm]\nkvm_path = "{binary}"\n')
    node = Node(tmp_path / "run", config_dir=tmp_path / "config")
    found = {finding.subject: finding.severity for finding in node.driver("kvm").examine()}
    assert found.get("/nonexistent/qemu") is severity
