"""The check of an instance's parameters, which host applications make for every instance, again and again."""

from __future__ import annotations

import tempfile
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import hvcore
from benchmarks.measure import Goal, Report, Row, alternate

__all__ = ["checks"]

_LOOPS: Final = 2000
_PARAMS: Final = {
    "kvm_flag": "enabled",
    "cpu_type": "host",
    "boot_order": "disk",
    "disk_type": "paravirtual",
    "disk_cache": "none",
    "disk_aio": "native",
    "serial_console": True,
    "serial_speed": 115200,
    "vnc_bind_address": "127.0.0.1",
    "use_localtime": False,
}


def checks(repeat: int) -> Iterator[Report]:
    """One report."""
    with tempfile.TemporaryDirectory() as directory:
        kvm = hvcore.Node(Path(directory, "run")).driver("kvm")
        disk, nic = hvcore.Disk(path="/srv/web1.img"), hvcore.Nic(mode="user")
        instance = hvcore.Instance(
            name="web1", driver="kvm", memory_mib=512, vcpus=2, disks=(disk,), nics=(nic,), params=_PARAMS
        )
        params = dict(instance.params)
        found = alternate(
            {
                "schema": lambda: _each_us(lambda: kvm.schema.check(params, "web1")),
                "check": lambda: _each_us(lambda: kvm.check(instance)),
            },
            repeat=repeat,
        )
    schema = Row(name="the schema alone", samples=found["schema"], unit="us")
    check = Row(name="DriverHandle.check", samples=found["check"], unit="us", against=schema, goal=Goal(10))
    title = f"check of a kvm instance with {len(_PARAMS)} of {len(kvm.schema.params)} parameters set"
    note = f"each sample is the mean of {_LOOPS} calls; the difference is the rules across parameters"
    return iter([Report(title=title, rows=[schema, check], notes=(note,))])


def _each_us(work: Callable[[], object]) -> float:
    return timeit.timeit(work, number=_LOOPS) / _LOOPS * 1e6
