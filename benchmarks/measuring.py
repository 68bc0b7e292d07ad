"""What all instances use, measured over QMP for all of them at once: with guests that answer, and with two that hang.

Fifty QEMUs without a machine answer in place of guests: each has the monitors of a guest, and the record of a real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import hvcore.plugin as hv
from benchmarks.guests import Bench, bench, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import connect
from hvcore.resources.node_files import listening_socket
from hvcore.state.store import Store

__all__ = ["usages"]

_MANY = 50
_DEADLINE_S = 0.5
_PATIENCE_S = 60.0


def usages(repeat: int) -> Iterator[Report]:
    """One report."""
    where = on_tmpfs() or on_disk()
    if where is None:
        return
    with bench(where) as real, bench(where) as many:
        real.kvm.start(real.instance("vm000"))
        with _monitors(real, many, _MANY) as pids:
            many.node.usage(deadline_s=_PATIENCE_S)  # loads the driver
            found = alternate(
                {
                    "list": lambda: elapsed_ms(many.node.instances),
                    "one": lambda: elapsed_ms(lambda: _answered(many, 1, "vm000")),
                    "many": lambda: elapsed_ms(lambda: _answered(many, _MANY)),
                    "each": lambda: elapsed_ms(lambda: _in_turn(many)),
                },
                repeat=repeat,
            )
            for pid in pids[:2]:
                os.kill(pid, signal.SIGSTOP)
            hung = [elapsed_ms(lambda: _hung(many)) for _ in range(min(repeat, 5))]
            for pid in pids[:2]:
                os.kill(pid, signal.SIGCONT)
    each = Row(name=f"{_MANY} guests, one query-blockstats to each in turn", samples=found["each"])
    yield Report(
        title="Node.usage(): memory, disks and NICs of all running instances",
        rows=[
            Row(name=f"{_MANY} guests, from /proc only (Node.instances)", samples=found["list"]),
            Row(name="1 guest, with QMP", samples=found["one"]),
            each,
            Row(name=f"{_MANY} guests, with QMP", samples=found["many"], goal=Goal(60), against=each),
            Row(name=f"{_MANY} guests, two hang, deadline {_DEADLINE_S * 1000:.0f} ms", samples=hung),
        ],
        notes=(
            "real: the monitors of QEMU, the records, and the reading of /proc and of control groups",
            f"not real: the {_MANY} QEMUs have no machine, so their answers are short",
        ),
    )


def _answered(made: Bench, count: int, *names: str) -> None:
    found = made.node.usage(*names, deadline_s=_PATIENCE_S)
    wrong = [one for one in found if one.problem is not None and "balloon" not in one.problem]
    if len(found) != count or wrong:
        raise RuntimeError(f"{len(found)} instances, {wrong[:1]}")


def _hung(made: Bench) -> None:
    found = made.node.usage(deadline_s=_DEADLINE_S)
    late = [one.name for one in found if one.problem is not None and "QEMU " in one.problem]
    if late != ["vm000", "vm001"]:
        raise RuntimeError(f"late: {late}")


def _in_turn(made: Bench) -> None:
    for number in range(_MANY):
        with connect(str(GuestPaths(Store(made.node.run_dir).dir(f"vm{number:03}")).recovery)) as client:
            client.execute("query-blockstats")


@contextmanager
def _monitors(source: Bench, target: Bench, count: int) -> Iterator[list[int]]:
    """Instances in ``target`` like the one of ``source``, each with a QEMU that only answers; the pids of these."""
    template, store = Store(source.node.run_dir).load("vm000"), Store(target.node.run_dir)
    if template is None:
        raise RuntimeError("vm000: not started")
    spec = {**template.spec, "devices": [one for one in template.spec["devices"] if one["kind"] != "Balloon"]}
    with ExitStack() as stack:
        pids = []
        for number in range(count):
            name = f"vm{number:03}"
            paths = GuestPaths(store.create(name))
            paths.guest.mkdir(mode=0o700)
            fds = {key: listening_socket(path) for key, path in (("qmp", paths.commands), ("oob", paths.recovery))}
            words = [
                word
                for key, fd in fds.items()
                for word in ("-chardev", f"socket,id={key},fd={fd},server=on,wait=off", "-qmp", f"chardev:{key}")
            ]
            argv = [template.spec["qemu"], "-machine", "none", "-nodefaults", "-display", "none", *words]
            process = subprocess.Popen(argv, pass_fds=tuple(fds.values()), stdin=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            for fd in fds.values():
                os.close(fd)
            pids.append(process.pid)
            identity = hv.identify(process.pid)
            instance = replace(template.instance, name=name, uuid="")
            store.save(
                replace(
                    template,
                    name=name,
                    instance=instance,
                    spec=spec,
                    process=identity,
                    monitor=identity,
                    ledger=(),
                    started_at=template.started_at + number,
                )
            )
            paths.journal.write_bytes(GuestPaths(Store(source.node.run_dir).dir("vm000")).journal.read_bytes())
        yield pids
        for number in range(count):
            store.remove(f"vm{number:03}")
