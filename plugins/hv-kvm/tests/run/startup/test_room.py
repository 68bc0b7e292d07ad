"""Memory and room on disks that a start needs are checked before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hv_kvm.machine.spec import KvmSpec
from hv_kvm.run.startup.room import available_mib, memory_problems, more_memory_problems, room_problems, too_little
from hvcore import Disk, Instance
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.model.record import Phase
from hvcore.plugin import Host, Level, Record, Site, encode
from hvcore.plugins.loader import load

MEMINFO = "MemTotal:       24683520 kB\nMemFree:  1000 kB\nMemAvailable:   2097152 kB\nSwapFree:  1048576 kB\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(name="web1", host=Host(run_dir=tmp_path, privileged=True, uid_pool=range(1, 2)), level=Level.STRICT)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., KvmSpec]:
    """``spec(memory_mib=..., key=value)``: a guest with those parameters."""

    def make(memory_mib: int = 64, **params: Any) -> KvmSpec:
        kvm = load("kvm")
        instance = Instance(
            name="web1",
            driver="kvm",
            memory_mib=memory_mib,
            disks=(Disk(path=str(tmp_path / "a")),),
            params={"kvm_flag": "disabled", **params},
        )
        planned = kvm.plan(instance, kvm.check(instance))
        assert isinstance(planned, KvmSpec)
        return planned

    return make


def test_swap_counts_and_the_page_cache_too() -> None:
    assert available_mib(MEMINFO) == 3072
    assert available_mib("") == 0


def test_more_memory_than_there_is(spec: Callable[..., KvmSpec], site: Site, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(MEMINFO)
    assert list(memory_problems(spec(3072), site, meminfo)) == []
    (problem,) = memory_problems(spec(3073), site, meminfo)
    assert str(problem) == (
        "memory_mib: is more than the 3072 MiB of memory and swap that this node has available, got 3073; give less, "
        "stop another instance, or set memory_overcommit = true"
    )
    assert list(memory_problems(spec(640000, memory_overcommit=True), site, meminfo)) == []
    assert list(memory_problems(spec(640000, mem_path=str(tmp_path)), site, meminfo)) == []


class Limited(ControlGroups):
    """A node whose callers have a memory limit of 2 GiB."""

    def memory_limit(self, pid: int | None = None) -> tuple[str, int] | None:
        return "/sys/fs/cgroup/user.slice/memory.max", 2 << 30


def test_the_limit_of_its_control_group_counts_too(spec: Callable[..., KvmSpec], site: Site, tmp_path: Path) -> None:
    meminfo, limited = tmp_path / "meminfo", replace(site, host=replace(site.host, cgroups=Limited()))
    meminfo.write_text("MemAvailable: 100000000 kB\nSwapFree:  1048576 kB\n")
    assert list(memory_problems(spec(3072), limited, meminfo)) == []
    (problem,) = memory_problems(spec(3073), limited, meminfo)
    assert str(problem) == (
        "memory_mib: is more than the 3072 MiB of memory and swap that its control group allows "
        "(/sys/fs/cgroup/user.slice/memory.max), got 3073; give less, raise that limit, or start it from another control "
        "group"
    )
    assert list(memory_problems(spec(3073, memory_overcommit=True), limited, meminfo)) == []
    assert list(memory_problems(spec(3073), site, meminfo)) == []


@pytest.mark.parametrize(
    ("params", "wanted_mib", "limited", "said"),
    [
        ({}, 3072, False, None),
        (
            {},
            3073,
            False,
            "3072 MiB of memory and swap that this node has available, got 3073; give less, or stop",
        ),
        ({}, 3072, True, None),
        ({}, 3074, True, "3072 MiB of memory and swap that its control group allows"),
        ({"memory_overcommit": True}, 9999, True, None),
        ({"mem_path": "/dev/hugepages"}, 9999, False, None),
    ],
)
def test_a_running_guest_gets_no_more_memory_than_a_start_would(
    spec: Callable[..., KvmSpec],
    site: Site,
    *,
    params: dict[str, Any],
    wanted_mib: int,
    limited: bool,
    said: str | None,
) -> None:
    (meminfo := site.host.run_dir / "meminfo").write_text(MEMINFO)
    planned = spec(**params)
    instance = Instance(name="web1", driver="kvm")
    record = Record(name="web1", driver="kvm", phase=Phase.RUNNING, boot_id="", instance=instance, spec=encode(planned))
    there = replace(site, host=replace(site.host, cgroups=Limited() if limited else ControlGroups()))
    found = [str(problem) for problem in more_memory_problems(record, wanted_mib, "memory", there, meminfo)]
    assert len(found) == (said is not None)
    assert all(text.startswith("memory: is more than the ") and str(said) in text for text in found)


def test_files_that_are_copied_need_room_together(
    spec: Callable[..., KvmSpec], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    for path in (kernel, initrd):
        with path.open("wb") as file:
            file.truncate(1 << 43)
        path.chmod(0o600)
    (problem,) = room_problems(spec(kernel_path=str(kernel), initrd_path=str(initrd)), site)
    assert "a start writes 16777217.0 MiB there" in str(problem)
    kernel.chmod(0o644)
    initrd.chmod(0o644)
    wanted = spec(kernel_path=str(kernel), initrd_path=str(initrd))
    assert list(room_problems(wanted, site)) == []
    assert list(room_problems(wanted, replace(site, level=Level.OFF))) == []


def test_variables_are_made_in_their_own_directory(spec: Callable[..., KvmSpec], site: Site, tmp_path: Path) -> None:
    template = tmp_path / "template"
    with template.open("wb") as file:
        file.truncate(1 << 43)
    place = tmp_path / "nvram"
    place.mkdir()
    given = {"boot_firmware": "uefi", "uefi_vars_template": str(template), "uefi_vars_path": str(place / "v")}
    assert len(list(room_problems(spec(**given), site))) == 1
    (place / "v").touch()
    assert list(room_problems(spec(**given), site)) == []


@pytest.mark.parametrize(
    ("size_bytes", "free_bytes", "said"),
    [
        ((1 << 20), (1 << 20) - 4096, "1.0 MiB there, and 0.9 MiB"),
        ((1 << 20) + 1, 1 << 20, "1.1 MiB there, and 1.0 MiB"),
        (4096, 0, "0.1 MiB there, and 0.0 MiB"),
    ],
)
def test_too_little_room_never_looks_sufficient(size_bytes: int, free_bytes: int, said: str) -> None:
    assert said in too_little(size_bytes, free_bytes)
