"""Probing a QEMU binary: real ones, other programs, and the cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hv_kvm.machine.facts import FACTS_FORMAT, Facts, MachineType, resolve_machine
from hv_kvm.qemu import facts_cache
from hv_kvm.qemu.probe import ProbeError, probe

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"

PC = MachineType(name="pc-i440fx-7.2", alias="pc", deprecated=False, is_default=True, cpu_max=255)
Q35 = MachineType(name="pc-q35-7.2", alias="q35", deprecated=False, is_default=False, cpu_max=288)
FACTS = Facts(
    version="7.2.22",
    package="Debian",
    commands=frozenset({"query-status", "yank"}),
    options={"vnc": frozenset({"password", "password-secret"}), "name": frozenset()},
    machines=(PC, Q35),
    types=frozenset({"virtio-blk-pci", "secret"}),
    cpu_models=frozenset({"qemu64"}),
    cpu_features=frozenset({"aes", "vmx"}),
    block_drivers=frozenset({"file", "raw"}),
    aio=frozenset({"threads", "native"}),
    kvm_present=True,
    kvm_enabled=False,
)


def test_facts_survive_json() -> None:
    assert Facts.from_json(json.loads(json.dumps(FACTS.to_json()))) == FACTS


def test_facts_answer_by_name() -> None:
    assert FACTS.has_command("yank")
    assert not FACTS.has_command("dream")
    assert FACTS.has_option("vnc")
    assert FACTS.has_option("vnc", "password-secret")
    assert not FACTS.has_option("vnc", "sasl")
    assert not FACTS.has_option("run-with", "user")
    assert FACTS.has_type("secret")


def test_an_alias_resolves_to_the_machine_that_it_means() -> None:
    assert resolve_machine(FACTS, "pc") == "pc-i440fx-7.2"
    assert resolve_machine(FACTS, "pc-q35-7.2") == "pc-q35-7.2"
    assert resolve_machine(FACTS, "microvm") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(format=FACTS_FORMAT + 1),
        lambda body: body.pop("types"),
        lambda body: body.update(types="abc"),
        lambda body: body.update(types=[1]),
        lambda body: body.update(commands=None),
        lambda body: body.update(options=[]),
        lambda body: body.update(machines=[["pc"]]),
        lambda body: body.update(machines=[["pc", None, False, False, "255"]]),
        lambda body: body.update(version=7),
        lambda body: body.update(kvm=True),
    ],
)
def test_facts_in_another_shape_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    body = FACTS.to_json()
    change(body)
    with pytest.raises(ValueError, match="not in format"):
        Facts.from_json(body)


@pytest.mark.parametrize("body", [None, [], 7, "x", {}])
def test_json_that_is_not_facts_is_refused(body: Any) -> None:
    with pytest.raises(ValueError, match="not in format"):
        Facts.from_json(body)


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split())


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def odd_binary(kind: str, folder: Path) -> str:
    """A program or file that is not QEMU."""
    path = folder / "qemu"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path, 0o755)
        case "not-executable":
            path.touch(mode=0o644)
        case "empty":
            path.touch(mode=0o755)
        case "not-a-program":
            path.write_bytes(b"\x7fELF garbage")
            path.chmod(0o755)
        case "long-name":
            return str(folder / ("q" * 300))
        case "nul":
            return "/usr/bin/qemu\0"
        case _:
            return script(path, kind)
    return str(path)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", None),
        ("directory", "is not a file"),
        ("fifo", "is not a file"),
        ("not-executable", "cannot be executed: permission denied"),
        ("empty", "cannot be executed: exec format error"),
        ("not-a-program", "cannot be executed: exec format error"),
        ("long-name", "file name too long"),
        ("nul", "null (byte|character)"),
        ("exit 0", "exited with 0 and printed nothing"),
        ("echo no such option >&2; exit 3", 'exited with 3: "no such option"'),
        ("printf 'a\\033[2J\\n' >&2; exit 1", r'exited with 1: "a\?\[2J"'),
        ("kill -ABRT $$", "was killed by SIGABRT"),
        ("sleep 300", "no answer to greeting within 0.3 s"),
        ("echo waiting >&2; sleep 300 & wait", 'no answer to greeting within 3.0 s: "waiting"'),
        ("while :; do echo x >&2; done", "no answer to greeting within 0.3 s"),
        ("while :; do echo garbage; done", "no answer to greeting within 0.3 s"),
    ],
)
def test_another_program_gets_one_clear_error_in_time_and_leaves_nothing(
    kind: str, message: str | None, tmp_path: Path
) -> None:
    fds, before = os.listdir("/proc/self/fd"), children()
    binary = str(tmp_path / "none") if kind == "missing" else odd_binary(kind, tmp_path)
    within = re.search(r"within ([0-9.]+) s", message or "")
    started = time.monotonic()
    with pytest.raises(ProbeError, match=message or "no such file") as caught:
        probe(binary, cache_dir=str(tmp_path / "cache"), deadline_s=float(within[1]) if within else 60.0)
    assert time.monotonic() - started < 50  # those that hang do so for 300 s
    assert "\n" not in str(caught.value)
    assert os.listdir("/proc/self/fd") == fds
    assert children() <= before
    assert not (tmp_path / "cache").exists()


def test_garbage_on_the_monitor_and_silence_are_different_errors(tmp_path: Path) -> None:
    path = tmp_path / "qemu"
    path.write_text(
        f"#!{sys.executable}\nimport os, sys, time\n"
        "fd = next(int(word.partition('fd=')[2]) for word in sys.argv if 'fd=' in word)\n"
        "os.write(fd, b'220 mail\\r\\n')\ntime.sleep(30)\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    with pytest.raises(ProbeError, match=r"did not answer like qemu .*220 mail"):
        probe(str(path), cache_dir=None, deadline_s=25)


def test_a_cache_gives_back_what_was_stored_for_the_same_key_only(tmp_path: Path) -> None:
    folder = str(tmp_path / "deep" / "cache")
    assert facts_cache.load(folder, "facts", ["/q", 1]) is None
    facts_cache.store(folder, "facts", ["/q", 1], {"a": [1]})
    assert facts_cache.load(folder, "facts", ["/q", 1]) == {"a": [1]}
    assert facts_cache.load(folder, "facts", ["/q", 2]) is None
    assert facts_cache.load(folder, "kvm", ["/q", 1]) is None
    (file,) = Path(folder).iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert Path(folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["empty", "torn", "list", "writable", "link", "fifo", "deep"])
def test_a_damaged_or_foreign_cache_file_is_ignored(damage: str, tmp_path: Path) -> None:
    folder = str(tmp_path)
    facts_cache.store(folder, "facts", ["/q"], 1)
    (file,) = tmp_path.iterdir()
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "torn":
            file.write_bytes(file.read_bytes()[:-3])
        case "list":
            file.write_bytes(b"[]")
        case "deep":
            file.write_bytes(b"[" * 100_000)
        case "writable":
            file.chmod(0o666)
        case "link":
            file.rename(tmp_path / "other")
            file.symlink_to(tmp_path / "other")
        case "fifo":
            file.unlink()
            os.mkfifo(file)
    assert facts_cache.load(folder, "facts", ["/q"]) is None
    facts_cache.store(folder, "facts", ["/q"], 2)
    if damage != "writable":
        assert facts_cache.load(folder, "facts", ["/q"]) == 2


def test_a_cache_directory_that_is_a_link_gets_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "cache").symlink_to("mine")
    facts_cache.store(str(tmp_path / "cache"), "facts", ["/q"], 1)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_cache_file_of_another_user_is_ignored(tmp_path: Path) -> None:
    facts_cache.store(str(tmp_path), "facts", ["/q"], 1)
    (file,) = tmp_path.iterdir()
    os.chown(file, 65534, 65534)
    assert facts_cache.load(str(tmp_path), "facts", ["/q"]) is None


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    facts_cache.store(str(tmp_path / "file" / "cache"), "facts", ["/q"], 1)
    facts_cache.store("/proc/self/cache", "facts", ["/q"], 1)


@pytest.mark.live
def test_a_real_qemu_is_probed_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    fds, before = os.listdir("/proc/self/fd"), children()
    facts = probe(QEMU, cache_dir=folder)
    assert os.listdir("/proc/self/fd") == fds
    assert children() <= before
    assert {"query-status", "system_powerdown", "device_add"} <= facts.commands
    assert facts.has_option("vnc", "password")
    assert {"virtio-blk-pci", "isa-debug-exit", "memory-backend-memfd"} <= facts.types
    assert "qemu64" in facts.cpu_models
    assert {"file", "host_device", "raw", "qcow2"} <= facts.block_drivers
    assert {"threads", "native"} <= facts.aio
    machine = resolve_machine(facts, "pc")
    assert machine is not None
    assert [known.name for known in facts.machines if known.is_default] == [machine]
    assert machine.startswith("pc-i440fx-")
    started = time.process_time()
    assert probe(QEMU, cache_dir=folder) == facts
    assert time.process_time() - started < 0.05


@pytest.mark.live
def test_a_binary_that_changes_is_probed_again(tmp_path: Path) -> None:
    count = tmp_path / "count"
    binary = script(tmp_path / "qemu", f'echo x >>{count}; exec {QEMU} "$@"')
    folder = str(tmp_path / "cache")
    for _ in range(2):
        probe(binary, cache_dir=folder)
    assert count.read_text(encoding="ascii") == "x\n"
    Path(binary).chmod(0o700)  # moves ctime
    probe(binary, cache_dir=folder)
    assert count.read_text(encoding="ascii") == "x\n" * 2


@pytest.mark.live
def test_a_qemu_that_dies_half_way_is_a_clear_error(tmp_path: Path) -> None:
    binary = script(tmp_path / "qemu", f'{QEMU} "$@" & sleep 0.01; kill -KILL $!; wait $!; exit 4')
    with pytest.raises(ProbeError, match="exited with 4"):
        probe(binary, cache_dir=None)
