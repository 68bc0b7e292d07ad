"""A program of ten lines that imports nothing but hvcore starts and stops a guest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hvcore
from hv_kvm.qemu.boot_sector import boot_sector, write_disk

PROGRAM = Path(__file__).resolve().parents[2] / "examples/ten_lines.py"


def test_it_has_ten_lines_and_one_import() -> None:
    lines = [line for line in PROGRAM.read_text().splitlines() if line.strip()]
    assert len(lines) <= 10
    assert [line for line in lines if "import" in line] == ["import hvcore"]


@pytest.mark.live
def test_it_starts_and_stops_a_guest(node: hvcore.Node, tmp_path: Path) -> None:
    write_disk(str(tmp_path / "web1.img"), boot_sector())
    (tmp_path / "web1.toml").write_text(
        f"""
        name = "web1"
        driver = "kvm"
        memory_mib = 64
        [[disks]]
        path = "{tmp_path}/web1.img"
        [params]
        kvm_flag = "disabled"
        """
    )
    environment = {**os.environ, "HVCORE_RUN_DIR": str(node.run_dir)}
    done = subprocess.run(
        [sys.executable, PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["running", "web1 running 64 MiB 1 vcpus", "stopped by powerdown", "0 left"]
    assert done.returncode == 0
