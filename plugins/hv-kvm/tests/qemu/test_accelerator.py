"""Whether KVM runs guests: the verdict on every sort of node and binary."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hv_kvm.qemu import accelerator, facts_cache
from hv_kvm.qemu.accelerator import KVM_DEADLINE_S, guest_runs, kvm_works
from hv_kvm.qemu.boot_sector import assemble
from hv_kvm.qemu.trial import StatusTakenError

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"
needs_kvm_node = pytest.mark.skipif(facts_cache.kvm_opens() is not None, reason="/dev/kvm cannot be opened here")


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def entries(cache: Path) -> list[tuple[str, int, int]]:
    """The entries of a cache. A trial replaces its entry."""
    return [(file.name, file.stat().st_ino, file.stat().st_mtime_ns) for file in cache.glob("*")]


@pytest.mark.live
def test_software_emulation_runs_the_trial_guest_to_its_end() -> None:
    verdict, hung = guest_runs(QEMU, accel="tcg", deadline_s=120)
    assert verdict.usable, verdict.reason
    assert not hung


@pytest.mark.live
def test_this_node_gets_a_verdict_in_time_which_is_cached(tmp_path: Path) -> None:
    fds = os.listdir("/proc/self/fd")
    started = time.monotonic()
    verdict = kvm_works(QEMU, cache_dir=str(tmp_path))
    assert time.monotonic() - started < KVM_DEADLINE_S + 60  # a guest that hangs would hang for ever
    assert verdict.reason
    assert os.listdir("/proc/self/fd") == fds
    stored = entries(tmp_path)
    assert kvm_works(QEMU, cache_dir=str(tmp_path)) == verdict
    assert entries(tmp_path) == stored  # a second trial would be stored as well


@pytest.mark.parametrize(
    ("text", "reason", "hung"),
    [
        ("sleep 300", r"KVM does not work here: a test guest made no progress in \d+\.\d s", True),
        ("sleep 300 & wait", r"KVM does not work here: a test guest made no progress in \d+\.\d s", True),
        ("kill -ABRT $$", "qemu was killed by SIGABRT and printed nothing", False),
        ("echo 'failed to set MSR' >&2; kill -ABRT $$", 'was killed by SIGABRT: "failed to set MSR"', False),
        ("exit 0", "qemu exited with 0 and printed nothing", False),
        ("echo no module >&2; exit 1", 'qemu exited with 1: "no module"', False),
    ],
)
def test_every_other_end_of_the_binary_means_not_usable(text: str, reason: str, hung: object, tmp_path: Path) -> None:
    verdict, did_hang = guest_runs(script(tmp_path / "qemu", text), accel="kvm", deadline_s=0.2 if hung else 60)
    assert not verdict.usable
    assert re.search(reason, verdict.reason)
    assert did_hang is hung


def test_only_the_answer_of_the_guest_means_usable(tmp_path: Path) -> None:
    verdict, _hung = guest_runs(script(tmp_path / "qemu", "exit 33"), accel="kvm", deadline_s=60)
    assert verdict.usable


def test_a_missing_binary_is_a_verdict_and_not_an_error(tmp_path: Path) -> None:
    verdict, hung = guest_runs(str(tmp_path / "none"), accel="kvm", deadline_s=60)
    assert not verdict.usable
    assert "no such file" in verdict.reason
    assert not hung
    assert not kvm_works(str(tmp_path / "none")).usable


@needs_kvm_node
def test_a_hang_is_cached_until_a_caller_waits_longer(tmp_path: Path) -> None:
    binary, cache = script(tmp_path / "qemu", "sleep 300"), tmp_path / "cache"
    tried = []
    for deadline_s in (0.2, 0.2, 0.1, 0.3):
        before = entries(cache)
        assert not kvm_works(binary, cache_dir=str(cache), deadline_s=deadline_s).usable
        tried.append(entries(cache) != before)  # the script cannot count: it may be killed before it runs
    assert tried == [True, False, False, True]


@needs_kvm_node
def test_a_broken_cache_means_a_new_trial(tmp_path: Path) -> None:
    count = tmp_path / "count"
    binary = script(tmp_path / "qemu", f"echo x >>{count}; exit 33")
    folder = tmp_path / "cache"
    assert kvm_works(binary, cache_dir=str(folder), deadline_s=60).usable
    (file,) = folder.iterdir()
    file.write_text(file.read_text(encoding="ascii").replace("[true", "[7"), encoding="ascii")
    assert kvm_works(binary, cache_dir=str(folder), deadline_s=60).usable
    assert count.read_text(encoding="ascii") == "x\n" * 2


def test_the_trial_guest_fits_a_boot_sector() -> None:
    sector = assemble((*accelerator._TRIAL_GUEST, *accelerator._GDT_ROWS))
    assert len(sector) == 512
    assert sector.endswith(b"\x55\xaa")


@pytest.mark.parametrize("when", ["while it is waited for", "before it can be waited for"])
def test_an_exit_status_that_the_host_application_takes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    binary, before = script(tmp_path / "qemu", "exit 33"), signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if when.startswith("before"):
        monkeypatch.setattr(os, "pidfd_open", opened_late)
    try:
        with pytest.raises(StatusTakenError, match="the host application took the exit status"):
            guest_runs(binary, accel="kvm", deadline_s=60)
    finally:
        signal.signal(signal.SIGCHLD, before)


def opened_late(pid: int, flags: int = 0, *, open_now: Callable[[int, int], int] = os.pidfd_open) -> int:
    """``os.pidfd_open`` as on a busy machine: the process, whose exit status nobody keeps, has exited before."""
    fd = open_now(pid, flags)
    try:
        assert select.select([fd], [], [], 60)[0]
    finally:
        os.close(fd)
    return open_now(pid, flags)
