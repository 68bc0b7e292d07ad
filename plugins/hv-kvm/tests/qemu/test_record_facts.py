"""Recording the features of a QEMU: the file that the golden corpus is rendered from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hv_kvm.machine.facts import Facts
from hv_kvm.qemu.probe import probe
from hv_kvm.qemu.record_facts import main, recording


def test_a_recording_is_read_back_without_the_facts_of_the_node(recorded: dict[str, Facts]) -> None:
    for facts in recorded.values():
        there = replace(facts, kvm_present=True, kvm_enabled=True)
        assert Facts.from_json(json.loads(recording(there))) == facts


def test_another_program_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/bin/true", "--to", str(tmp_path)]) == 1
    assert main([str(tmp_path / "none")]) == 1
    assert list(tmp_path.iterdir()) == []
    output = capsys.readouterr()
    assert output.out == ""
    assert [line.split(":")[0] for line in output.err.splitlines()] == ["/bin/true", str(tmp_path / "none")]


@pytest.mark.live
def test_the_installed_qemu_is_recorded_under_its_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("no qemu-system-x86_64 on this machine: ./dev setup")
    assert main([qemu, "--to", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    facts = Facts.from_json(json.loads(path.read_text(encoding="utf-8")))
    assert path.name == f"facts-{facts.release}.json"
    assert facts == replace(probe(qemu, cache_dir=None), kvm_present=False, kvm_enabled=False)
    assert capsys.readouterr().out.startswith(f"{path}: QEMU {facts.version}, ")
    assert main([qemu, "--to", str(tmp_path / "none")]) == 1
    assert "name an existing directory" in capsys.readouterr().err
