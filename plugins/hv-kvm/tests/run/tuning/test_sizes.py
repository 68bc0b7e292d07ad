"""Memory and processors of running guests: within the maximum of their start, kept for a reboot, and what a guest refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from linux_guest import guest_params, linux_guests
from world import PATIENCE_S, World, unreached

import hvcore
import hvcore.plugin as hv
from hv_kvm.machine.resource import NumaNodes
from hv_kvm.qmp import commands, connect, size_commands
from hv_kvm.resources.requirements import NumaNodesKind


def size_of(world: World) -> int:
    with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S) as client:
        return len(commands.query_cpus_fast(client, deadline_s=PATIENCE_S))


@pytest.mark.live
def test_vcpus_come_are_kept_for_a_reboot_and_stay_with_a_guest_that_keeps_them(world: World) -> None:
    last = str(max(os.sched_getaffinity(0)))
    world.start(vcpus=1, vcpus_max=3, emulator_mask=last)
    outcome = world.node.resize_vcpus("web1", 3, deadline_s=PATIENCE_S)
    assert (outcome.changed, outcome.before, outcome.after, outcome.reached) == (True, 1, 3, True)
    assert (size_of(world), world.info().vcpus) == (3, 3)
    assert world.info().details["pins"] == f"vcpus all:all:all, emulator {last}, iothreads all"
    assert not world.node.resize_vcpus("web1", 3, deadline_s=PATIENCE_S).changed
    with pytest.raises(hvcore.InputError, match="vcpus: at most 3, the maximum of its start, got 4"):
        world.node.resize_vcpus("web1", 4)
    assert world.info().vcpus == 3
    # A guest whose ACPI has not begun cannot release one.
    with pytest.raises(hvcore.OperationError, match=r"vcpus: 3 cannot become 2, QEMU refused it: .*; stop and start"):
        world.node.resize_vcpus("web1", 2, deadline_s=PATIENCE_S)
    assert (size_of(world), world.info().vcpus) == (3, 3)
    world.node.reboot("web1", force=True, deadline_s=PATIENCE_S)
    assert (size_of(world), world.info().vcpus) == (3, 3)


@pytest.mark.live
def test_without_a_maximum_the_number_stays(world: World) -> None:
    world.start(vcpus=2)
    assert not world.node.resize_vcpus("web1", 2, deadline_s=PATIENCE_S).changed
    with pytest.raises(hvcore.InputError, match="vcpus: at most 2, the maximum of its start, got 3; give less, or set"):
        world.node.resize_vcpus("web1", 3)
    assert not world.node.resize_memory("web1", 32, deadline_s=PATIENCE_S).changed
    with pytest.raises(hvcore.OperationError, match="memory: cannot become 64 MiB, it was started without memory_max"):
        world.node.resize_memory("web1", 64)
    assert (world.info().vcpus, world.info().memory_mib) == (2, 32)


@pytest.mark.live
def test_memory_that_the_guest_does_not_take_is_said(world: World) -> None:
    world.start(memory_max=96, memory_nodes="0")
    for size, message in (
        (98, "at most 96 MiB, the maximum of its start, got 98"),
        (30, "at least 32 MiB, the memory of its start, got 30; give more, or use 'hv balloon'"),
        (63, "must be 32 MiB and a multiple of 2 MiB, got 63; give 64 or 62"),
    ):
        with pytest.raises(hvcore.InputError, match=message):
            world.node.resize_memory("web1", size)
    outcome = unreached(world.node.resize_memory, "web1", 64)
    assert (outcome.asked, outcome.before, outcome.after, outcome.reached) == (64, 32, 32, False)
    assert world.info().memory_mib == 32
    (found,) = world.node.usage(deadline_s=PATIENCE_S)
    assert (found.memory_mib, found.problem) == (32, None)


@pytest.mark.live
def test_more_than_the_node_has_is_refused_before_anything_changes(world: World) -> None:
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("this kernel lets no guest have a maximum of more than the memory of the node")
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    most = sum(int(rows[key].split()[0]) for key in ("MemTotal", "SwapTotal")) // 2048 * 2
    world.start(memory_max=most)
    unreached(world.node.balloon, "web1", 16)
    before = world.record()
    with pytest.raises(hvcore.VerifyError, match=r"memory: is more than the [0-9]+ MiB .*, got [0-9]+; give less") as e:
        world.node.resize_memory("web1", most)
    (problem,) = e.value.problems
    assert (problem.path, problem.got) == ("memory", str(most - 16))
    assert replace(world.record(), spec={}) == replace(before, spec={})
    assert world.record().spec == before.spec
    world.save(replace(before, instance=replace(before.instance, memory_mib=most)))
    with pytest.raises(hvcore.VerifyError, match=r"balloon: is more than the [0-9]+ MiB"):
        world.node.balloon("web1", most)
    assert world.record().spec == before.spec


@pytest.mark.live
def test_a_vcpu_that_could_not_be_pinned_is_not_added(world: World) -> None:
    first = min(os.sched_getaffinity(0))
    world.start(vcpus=1, vcpus_max=3, cpu_mask=str(first))
    before = world.record()
    devices = [one | ({"mask": f"{first}:8191"} if one["kind"] == "Cpu" else {}) for one in before.spec["devices"]]
    world.save(replace(before, spec={**before.spec, "devices": devices}))  # as if the CPU had gone offline since
    with pytest.raises(hvcore.OperationError, match="CPUs 8191 are not online on this node"):
        world.node.resize_vcpus("web1", 2, deadline_s=PATIENCE_S)
    assert (size_of(world), world.info().vcpus, world.record().spec["vcpus"]) == (1, 1, 1)


@pytest.mark.live
def test_a_guest_that_hangs_keeps_its_size_in_the_record(world: World) -> None:
    world.start(vcpus=1, vcpus_max=2, memory_max=96)
    os.kill(pid := world.pid(), signal.SIGSTOP)
    for act, size in ((world.node.resize_vcpus, 2), (world.node.resize_memory, 64), (world.node.balloon, 16)):
        with pytest.raises(hvcore.DeadlineError):
            act("web1", size, deadline_s=0.4)
    os.kill(pid, signal.SIGCONT)
    assert (world.info().vcpus, world.info().memory_mib) == (1, 32)
    assert world.node.resize_vcpus("web1", 2, deadline_s=PATIENCE_S).reached


@pytest.mark.live
def test_a_guest_that_is_killed_in_between_is_an_error(world: World) -> None:
    world.start(memory_max=64)

    def kill(_name: str, _operation: str, _text: str) -> None:
        os.kill(world.pid(), signal.SIGKILL)

    with pytest.raises(hvcore.HvError):
        world.node.resize_memory("web1", 64, deadline_s=PATIENCE_S, progress=kill)
    assert world.node.stop("web1", force=True).state is hvcore.State.STOPPED


KILLED = """
import os, sys, hvcore
node = hvcore.Node(sys.argv[1])
act, size = getattr(node, sys.argv[2]), int(sys.argv[3])
act("web1", size, deadline_s=300, progress=lambda *_: os.kill(os.getpid(), 9))
"""


@pytest.mark.live
def test_a_caller_that_is_killed_in_between_leaves_what_it_asked_for(world: World) -> None:
    world.start(memory_max=96)
    for act, size in (("resize_memory", 64), ("balloon", 40)):
        argv = [sys.executable, "-c", KILLED, str(world.run_dir), act, str(size)]
        assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
        assert (world.info().state, world.info().memory_mib) == (hvcore.State.RUNNING, 64)
    assert world.info().details["balloon_mib"] == 8  # of the 32 MiB of its start: 32 MiB more make 40
    assert world.node.balloon("web1", 64, deadline_s=PATIENCE_S).reached
    assert world.node.resize_memory("web1", 32, deadline_s=PATIENCE_S).reached
    world.node.reboot("web1", force=True, deadline_s=PATIENCE_S)
    assert (world.info().memory_mib, world.info().details.get("balloon_mib")) == (32, None)


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_linux_guest_takes_and_releases_memory_and_vcpus(world: World) -> None:
    params: dict[str, Any] = guest_params(world.root, "virtio_pci", "virtio_mem", "virtio_balloon")
    params |= {"vcpus_max": 3, "memory_max": 512, "kernel_args": "quiet panic=1 memhp_default_state=online_movable"}
    instance = replace(world.instance(disks=[]), memory_mib=256, params=params)
    with linux_guests(world.node, instance) as (guest,):
        total_kib = int(guest.run("grep MemTotal /proc/meminfo").split()[1])
        assert world.node.resize_vcpus("web1", 3, deadline_s=PATIENCE_S).reached
        guest.run("for cpu in 1 2; do echo 1 > /sys/devices/system/cpu/cpu$cpu/online; done; true", code=None)
        assert guest.run("nproc").split()[0] == "3"
        assert world.node.resize_memory("web1", 384, deadline_s=PATIENCE_S).reached
        # The guest has the memory; its kernel makes use of it a moment later.
        enough = f"[ $(grep MemTotal /proc/meminfo | tr -dc 0-9) -ge {total_kib + 120 * 1024} ]"
        guest.run(f"until {enough}; do sleep 1; done")
        assert world.node.usage(deadline_s=PATIENCE_S)[0].memory_mib == 384
        assert world.node.balloon("web1", 300, deadline_s=PATIENCE_S).reached
        assert world.node.balloon("web1", 384, deadline_s=PATIENCE_S).reached
        less = world.node.resize_memory("web1", 256, deadline_s=PATIENCE_S)
        assert (less.before, less.after) == (384, 256)
        fewer = world.node.resize_vcpus("web1", 2, deadline_s=PATIENCE_S)
        assert (fewer.before, fewer.after, fewer.notes) == (3, 2, ())
        assert guest.run("nproc").split()[0] == "2"
        assert world.node.resize_memory("web1", 320, deadline_s=PATIENCE_S).reached
    world.node.reboot("web1", force=True, deadline_s=PATIENCE_S)
    assert (size_of(world), world.info().memory_mib) == (2, 320)
    with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S) as client:
        while size_commands.query_size_of(client, "hot-memory", deadline_s=PATIENCE_S) != 64 << 20:
            client.wait_event("MEMORY_DEVICE_SIZE_CHANGE", deadline_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("has", "wanted", "problem"),
    [
        ("0-1", "0-1", None),
        ("0", "1", "names NUMA nodes without memory: 1, got '1'; with memory are 0"),
        ("0,2", "0-3", "names NUMA nodes without memory: 1, 3, got '0-3'; with memory are 0,2"),
        (None, "0", None),
        (None, "1", "names NUMA nodes without memory: 1, got '1'; with memory are 0"),
    ],
)
def test_numa_nodes_that_the_node_lacks_are_refused(
    tmp_path: Path, has: str | None, wanted: str, problem: str | None
) -> None:
    file = tmp_path / "has_memory"
    if has is not None:
        file.write_text(f"{has}\n")
    host = hv.Host(run_dir=tmp_path, privileged=False, uid_pool=range(0))
    resource = NumaNodes(key="memory_nodes", given_by="params.memory_nodes", nodes=wanted)
    site = hv.Site(name="web1", host=host, level=hv.Level.USER)
    found = [str(each) for each in NumaNodesKind(str(file)).verify(resource, site)]
    assert found == ([] if problem is None else [f"params.memory_nodes: {problem}"])
