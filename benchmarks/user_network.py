"""The user network: what passt adds to a start, beside QEMU's own stack (slirp)."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import hvcore
from benchmarks.guests import Bench, bench, file_system_of, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms

__all__ = ["user_networks"]

_NAME: Final = "web1"
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_OUTSIDE: Final = "198.51.100.1"
_KINDS: Final = ("slirp", "passt")
_MTUS: Final = {"slirp": 1500, "passt": 65520}  # what each announces


def user_networks(repeat: int) -> Iterator[Report]:
    """One report, in a separate network; none without root, passt and the program ip."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("passt", "ip"))):
        return
    where = on_tmpfs() or on_disk()
    if where is None:
        return
    with _network(), bench(where) as made:
        yield _start(made, repeat)


def _start(made: Bench, repeat: int) -> Report:
    def start(kind: str) -> float:
        one = replace(made.instance(), nics=(hvcore.Nic(),))
        instance = replace(one, params={**one.params, "user_network": kind})
        took = elapsed_ms(lambda: made.kvm.start(instance, paused=True))
        made.node.stop(_NAME, force=True)
        return took

    found = alternate({kind: lambda kind=kind: start(kind) for kind in _KINDS}, repeat=repeat)
    slirp = Row(name="Node.start with slirp", samples=found["slirp"])
    added = [passt - before for passt, before in zip(found["passt"], found["slirp"], strict=True)]
    return Report(
        title=f"start with a user network; run directory on {file_system_of(made.directory)}",
        rows=[
            slirp,
            Row(name="Node.start with passt", samples=found["passt"], against=slirp),
            Row(name="passt adds, pair by pair", samples=added, goal=Goal(12)),
        ],
        notes=("passt starts before QEMU and is proved to be ready and confined beside the start of QEMU",),
    )


@contextmanager
def _network() -> Iterator[None]:
    """This thread in a new network with a default route that leads to another one."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 36000"], stdout=subprocess.PIPE)
    try:
        if other.stdout is None or not other.stdout.readline() or libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "a new network")
        for words in (
            "link set lo up",
            f"link add hv-node type veth peer name hv-wire netns {other.pid}",
            "addr add 198.51.100.2/24 dev hv-node",
            "link set hv-node up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        for words in (f"addr add {_OUTSIDE}/24 dev hv-wire", "link set hv-wire up"):
            subprocess.run(["nsenter", f"--net=/proc/{other.pid}/ns/net", "ip", *words.split()], check=True)
        subprocess.run(["ip", "route", "add", "default", "via", _OUTSIDE], check=True)
        yield
    finally:
        other.kill()
        other.communicate()
        if libc.setns(before, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(before)
