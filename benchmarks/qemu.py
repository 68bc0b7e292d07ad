"""Plan, render and probe: the work of the kvm driver before a start."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hvcore
import hvcore.plugin as hv
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms
from hv_kvm.machine.render import render
from hv_kvm.qemu import probe as probing
from hv_kvm.qemu.accelerator import Accel
from hv_kvm.run.startup.describe import symbols
from hvcore.plugins.loader import load

__all__ = ["plans", "probes"]

_QEMU: Final = "/usr/bin/qemu-system-x86_64"
_LOOPS: Final = 50
# The commands of a probe, in its order.
_COMMANDS: Final = (
    {"execute": "qmp_capabilities"},
    {"execute": "query-commands"},
    {"execute": "query-qmp-schema"},
    {"execute": "query-kvm"},
    {"execute": "query-command-line-options"},
    {"execute": "query-machines"},
    {"execute": "qom-list-types", "arguments": {"abstract": False}},
    {"execute": "query-cpu-definitions"},
)


def plans(repeat: int) -> Iterator[Report]:
    """One report: from checked parameters to a command line, with the facts of QEMU known."""
    kvm = load("kvm")
    facts = probing.probe(_QEMU, cache_dir=None)
    instance = hvcore.Instance(
        name="web1",
        driver="kvm",
        memory_mib=512,
        vcpus=2,
        disks=(hvcore.Disk(path="/srv/web1.img"), hvcore.Disk(path="/srv/data.img")),
        nics=(hvcore.Nic(mode="bridged", link="br0"),),
        params={"vnc_bind_address": "127.0.0.1", "cdrom_image_path": "/srv/cd.iso", "machine_version": "q35"},
    )
    params = kvm.check(instance)
    node = hv.Host(run_dir=Path("/run"), privileged=True, uid_pool=range(0), cgroups=hv.ControlGroups())
    site = hv.Site(name="web1", host=node, level=hv.Level.STRICT, pure=True)

    def work() -> None:
        spec = probing.pin(kvm.driver.plan(instance, params), facts)
        render(kvm.hooks, spec, facts, symbols(kvm.hooks, spec, site, Accel("tcg", "")))

    found = alternate({"plan": lambda: timeit.timeit(work, number=_LOOPS) / _LOOPS * 1000}, repeat=repeat)
    row = Row(name="plan and render", samples=found["plan"], goal=Goal(1))
    notes = (f"two disks, a NIC, a cdrom, a display; each sample is the mean of {_LOOPS} calls",)
    return iter([Report(title="plan and render, without probes", rows=[row], notes=notes)])


def probes(repeat: int) -> Iterator[Report]:
    """One report: a cold probe beside the same commands sent by hand, and probes from the caches."""
    with tempfile.TemporaryDirectory() as cache:
        probing.probe(_QEMU, cache_dir=cache)
        found = alternate(
            {
                "bare": lambda: elapsed_ms(_bare),
                "cold": lambda: elapsed_ms(lambda: probing.probe(_QEMU, cache_dir=None)),
                "warm": lambda: _warm_ms(cache),
                "known": lambda: elapsed_ms(lambda: probing.probe(_QEMU, cache_dir=cache)),
            },
            repeat=repeat,
        )
    bare = Row(name="the same commands, by hand", samples=found["bare"])
    cold = Row(name="probe, nothing cached", samples=found["cold"], against=bare, goal=Goal(1.2, ratio=True))
    warm = Row(name="probe, cached on disk", samples=found["warm"], goal=Goal(1))
    known = Row(name="probe, cached in this process", samples=found["known"], goal=Goal(1))
    return iter([Report(title="probe of a QEMU binary", rows=[bare, cold, warm, known])])


def _bare() -> None:
    """QEMU with a monitor, the commands one after the other, the answers read as JSON, and its end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monitor = ("-chardev", f"socket,id=m,fd={theirs.fileno()}", "-qmp", "chardev:m")
        bare = ("-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S")
        process = subprocess.Popen([_QEMU, *bare, *monitor], pass_fds=(theirs.fileno(),))
        theirs.close()
        with ours.makefile("rwb", buffering=0) as stream:
            answers = ours.makefile("rb")
            json.loads(answers.readline())
            for command in _COMMANDS:
                stream.write(json.dumps(command).encode() + b"\n")
                json.loads(answers.readline())
            answers.close()
        process.kill()
        process.wait()


def _warm_ms(cache: str) -> float:
    """As in a new process: the cache of this one is cleared."""
    probing._known.clear()  # noqa: SLF001
    return elapsed_ms(lambda: probing.probe(_QEMU, cache_dir=cache))
