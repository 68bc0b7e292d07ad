"""The list of many instances with figures.

500 real QEMU processes need more memory than a test machine has. So the 500 records are copies of a real one, each
with a stand-in process (``cat``, waiting on a pipe) and the files of a real guest that the list reads. A few real
guests are listed beside as many stand-ins, to show that both cost the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import hvcore
import hvcore.plugin as hv
from benchmarks.guests import Bench, bench, file_system_of, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms
from hvcore.state.store import Store

__all__ = ["lists"]

_MANY = 500
_REAL = 20


def lists(repeat: int) -> Iterator[Report]:
    """One report, with the run directory on tmpfs where there is one."""
    where = on_tmpfs() or on_disk()
    if where is None:
        return
    with bench(where) as real, bench(where) as few, bench(where) as many:
        for number in range(_REAL):
            real.kvm.start(real.instance(f"vm{number:03}"))
        with stand_ins(real, few, _REAL), stand_ins(real, many, _MANY):
            yield _report(real, few, many, repeat)


def _report(real: Bench, few: Bench, many: Bench, repeat: int) -> Report:
    def cold(made: Bench) -> float:
        """A node that has read no record yet; the driver is loaded."""
        node = hvcore.Node(made.node.run_dir)
        node.driver("kvm")
        return elapsed_ms(lambda: _all_with_figures(node))

    found = alternate(
        {
            "real": lambda: elapsed_ms(lambda: _all_with_figures(real.node)),
            "few": lambda: elapsed_ms(lambda: _all_with_figures(few.node)),
            "many": lambda: elapsed_ms(lambda: _all_with_figures(many.node)),
            "cold": lambda: cold(many),
        },
        repeat=repeat,
    )
    guests = Row(name=f"{_REAL} real guests", samples=found["real"])
    warm = Row(name=f"{_MANY} stand-ins, again by the same node", samples=found["many"], goal=Goal(15))
    return Report(
        title=f"Node.instances(), each with state and figures; run directory on {file_system_of(many.directory)}",
        rows=[
            guests,
            Row(name=f"{_REAL} stand-ins", samples=found["few"], against=guests),
            warm,
            Row(name=f"{_MANY} stand-ins, first time for a new node", samples=found["cold"], against=warm),
        ],
        notes=(
            f"real: the {_REAL} guests, all records, journals, pid files and status files, and the /proc entries read",
            f"not real: the {_MANY} processes are small ones that wait, in place of QEMU",
        ),
    )


def _all_with_figures(node: hvcore.Node) -> None:
    for info in node.instances():
        if info.state is not hvcore.State.RUNNING or info.resident_mib is None:
            raise RuntimeError(f"{info.name}: {info.state}, {info.reason}")


@contextmanager
def stand_ins(source: Bench, target: Bench, count: int) -> Iterator[None]:
    """Instances in ``target`` like the first of ``source``, each with a process that ends with the block or with us."""
    template = Store(source.node.run_dir).load("vm000")
    if template is None:
        raise RuntimeError("vm000: not started")
    store = Store(target.node.run_dir)
    read, write = os.pipe()
    processes = []
    try:
        for number in range(count):
            process = subprocess.Popen(["cat"], stdin=read, stdout=subprocess.DEVNULL)
            processes.append(process)
            identity = hv.identify(process.pid)
            name = f"vm{number:03}"
            shutil.copytree(
                source.node.run_dir / "instances/vm000", store.create(name), ignore=_no_sockets, dirs_exist_ok=True
            )
            instance = replace(template.instance, name=name, uuid="")
            store.save(replace(template, name=name, instance=instance, process=identity, monitor=identity, ledger=()))
        yield
    finally:
        for made in (read, write):
            os.close(made)  # they exit at the end of their input
        for process in processes:
            process.wait()
        shutil.rmtree(target.node.run_dir / "instances", ignore_errors=True)


def _no_sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(directory, name).is_file() or Path(directory, name).is_dir())]
