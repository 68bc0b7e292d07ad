"""The guest's vCPUs run on the CPUs of cpu_mask: set before the guest runs, on threads that are proved to be QEMU's."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from world import PATIENCE_S, World

import hvcore
import hvcore.plugin
from hv_kvm.machine.resource import OnlineCpus
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import commands, connect, size_commands
from hv_kvm.resources.requirements import OnlineCpusKind
from hvcore.model.record import Phase
from hvcore.plugins.loader import load

LAST: Final = max(os.sched_getaffinity(0))
two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")


def spec_of(mask: str, vcpus: int = 1) -> KvmSpec:
    kvm = load("kvm")
    instance = hvcore.Instance(name="web1", driver="kvm", vcpus=vcpus, params={"cpu_mask": mask})
    spec = kvm.driver.plan(instance, kvm.check(instance))
    assert isinstance(spec, KvmSpec)
    return spec


@pytest.mark.parametrize(
    ("mask", "vcpus", "missing"),
    [
        ("all", 1, ""),
        ("0-1,3", 1, ""),
        ("2", 1, "2"),
        ("0:all:3-9", 3, "4, 5, 6, 7, 8, 9"),
        ("0-63", 1, "2, 4, 5, 6, 7, 8, 9, 10 and 53 more"),
    ],
)
def test_cpus_that_are_not_online_are_refused(tmp_path: Path, mask: str, vcpus: int, missing: str) -> None:
    (tmp_path / "online").write_text("0-1,3\n")
    host = hvcore.plugin.Host(run_dir=tmp_path, privileged=False, uid_pool=range(0))
    kind, site = (
        OnlineCpusKind(str(tmp_path / "online")),
        hvcore.plugin.Site(name="x", host=host, level=hvcore.plugin.Level.USER),
    )
    wanted_cpus = spec_of(mask, vcpus).resources_of(OnlineCpus)
    found = [str(problem) for cpus in wanted_cpus for problem in kind.verify(cpus, site)]
    wanted = (
        f"params.cpu_mask: names CPUs that this node does not have online: {missing}, got {mask!r}; online are 0-1,3"
    )
    assert found == ([wanted] if missing else [])


def allowed(pid: int, thread: int | str) -> str:
    lines = Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


def by_number(pid: int, *, without: str | None = None) -> dict[int, str]:
    """The CPUs of each thread, by its number in its pid namespace. Threads that have the name ``without`` are left out."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            lines = Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue  # workers come and go
        fields = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        if fields["Name"] != [without]:
            found[int(fields["NSpid"][-1])] = fields["Cpus_allowed_list"][0]
    return found


def vcpus(world: World) -> list[int]:
    with connect(str(world.dir() / "qmp"), deadline_s=10) as client:
        return [vcpu.thread_id for vcpu in commands.query_cpus_fast(client, deadline_s=10)]


@pytest.mark.live
@pytest.mark.parametrize("confinement", ["auto", "off"])
def test_one_mask_is_for_the_whole_process(world: World, confinement: str) -> None:
    world.start(vcpus=2, cpu_mask=str(LAST), confinement=confinement, iothreads=1)
    assert set(by_number(world.pid()).values()) == {str(LAST)}


@two
@pytest.mark.live
def test_each_processor_has_its_own(world: World) -> None:
    first = min(os.sched_getaffinity(0))
    world.start(vcpus=3, cpu_mask=f"{LAST}:{first}:all")
    found, numbers = by_number(world.pid()), vcpus(world)
    everything = allowed(os.getpid(), os.getpid())
    assert [found.pop(number) for number in numbers] == [str(LAST), str(first), everything]
    assert set(found.values()) == {everything}


@two
@pytest.mark.live
def test_a_start_that_is_finished_after_a_crash_pins_as_well(world: World) -> None:
    world.start(cpu_mask=str(LAST))
    pid = world.pid()
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), os.sched_getaffinity(0))
    world.save(replace(world.record(), phase=Phase.STARTING))
    assert [found.what for found in world.node.recover()] == ["finished"]
    assert set(by_number(pid).values()) == {str(LAST)}


@pytest.mark.live
def test_a_cpu_that_this_node_does_not_have_is_refused_before_the_start(world: World) -> None:
    with pytest.raises(hvcore.VerifyError, match=r"cpu_mask: names CPUs .* online: 8191"):
        world.start(cpu_mask="0,8191")
    assert world.leftovers() == []


@two
@pytest.mark.live
def test_pins_change_while_the_guest_runs_and_are_kept_for_a_reboot(world: World) -> None:
    first, everything = str(min(os.sched_getaffinity(0))), allowed(os.getpid(), os.getpid())
    world.start(vcpus=2, iothreads=1, serial_console=True)
    assert world.node.pin("web1", str(LAST)).changed
    assert set(by_number(world.pid()).values()) == {str(LAST)}
    assert world.info().details["pins"] == f"all threads {LAST}"
    assert not world.node.pin("web1", str(LAST)).changed
    assert world.node.pin("web1", vcpus={0: first}, iothreads="all").changed
    # Without the workers of pools: one that the I/O thread has made since has its CPUs.
    found, numbers = by_number(world.pid(), without="worker"), vcpus(world)
    assert [found.pop(number) for number in numbers] == [first, str(LAST)]
    with connect(str(world.dir() / "qmp"), deadline_s=10) as client:
        (iothread,) = size_commands.query_iothreads(client).values()
    assert found.pop(iothread) == everything
    assert set(found.values()) == {str(LAST)}
    text = f"vcpus {first}:{LAST}, emulator {LAST}, iothreads all"
    assert world.info().details["pins"] == text
    with pytest.raises(hvcore.OperationError, match="CPUs 8191 are not online on this node"):
        world.node.pin("web1", "0,8191")
    assert world.info().details["pins"] == text
    world.node.reboot("web1", force=True, deadline_s=PATIENCE_S)
    found, numbers = by_number(world.pid()), vcpus(world)
    assert [found.pop(number) for number in numbers] == [first, str(LAST)]
    assert world.info().details["pins"] == text
    assert world.node.pin("web1", "all").changed
    assert set(by_number(world.pid()).values()) == {everything}
    assert "pins" not in world.info().details


@two
@pytest.mark.live
def test_threads_have_their_cpus_again_if_one_cannot_be_pinned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start(vcpus=2, cpu_mask=str(LAST))
    before, record, pinned = by_number(world.pid()), world.record(), []
    pin = os.sched_setaffinity

    def fails_at_the_third(thread: int, cpus: frozenset[int]) -> None:
        pinned.append(thread)
        if len(pinned) == 3:
            raise OSError(errno.EINVAL, "Invalid argument")
        pin(thread, cpus)

    monkeypatch.setattr(os, "sched_setaffinity", fails_at_the_third)
    with pytest.raises(hvcore.OperationError, match="cannot be pinned to its CPUs, got Invalid argument"):
        world.node.pin("web1", str(min(os.sched_getaffinity(0))))
    assert len(pinned) == 5, "two were pinned, and have their CPUs again"
    assert set(by_number(world.pid()).values()) == set(before.values()) == {str(LAST)}
    assert (world.record().spec, world.info().details["pins"]) == (record.spec, f"all threads {LAST}")
