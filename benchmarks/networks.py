"""A tap at a bridge by the kinds of the core, beside the bare calls to the kernel; and the import for them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import hvcore.plugin as hv
from benchmarks.locks import locks
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms
from benchmarks.tap_speed import tap_speeds
from hvcore.host.environment import default_uid_pool
from hvcore.host.network.links import set_link, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.resources.bridge_port import BridgePortKind
from hvcore.resources.held import Held
from hvcore.resources.tap import TapKind

__all__ = ["network_locks", "networks"]

_TAP: Final = hv.Tap(key="nic0.tap", mac="aa:00:00:4b:c1:01")
_PORT: Final = hv.BridgePort(key="nic0.port", link=_TAP, bridge="br0")
_BEFORE: Final = "import hvcore.resources.network, hvcore.resources.unique_value"  # what a start imports anyway
_IMPORT: Final = "import hvcore.host.network.links, hvcore.host.network.tap_device"


def networks(repeat: int) -> Iterator[Report]:
    """What a tap adds to a start, and how fast it is; nothing without root. All links are in a network namespace."""
    return _in_network(lambda: [_report(repeat), *tap_speeds(max(1, repeat // 2))])


def network_locks(_: int) -> Iterator[Report]:
    """The locks of starts with NICs; nothing without root."""
    return _in_network(lambda: list(locks()))


def _in_network(measure: Callable[[], list[Report]]) -> Iterator[Report]:
    """The reports that a thread makes in a new network, with a bridge and default routes."""
    if os.geteuid() != 0:
        return iter(())
    with ThreadPoolExecutor(1) as pool:  # only its thread enters the namespace

        def entered() -> list[Report]:
            _enter_network()
            return measure()

        return iter(pool.submit(entered).result())


def _enter_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:  # CLONE_NEWNET, linux/sched.h
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    for words in (
        "link set lo up",
        "link add br0 type bridge",
        "link set br0 up",
        "link add up0 type veth peer name wire0",
        "link set wire0 up",
        "link set up0 up",
        "addr add 203.0.113.2/24 dev up0",
        "route add default via 203.0.113.1",
    ):
        subprocess.run(["ip", *words.split()], check=True)


def _report(repeat: int) -> Report:
    with tempfile.TemporaryDirectory() as run_dir:
        host = hv.Host(run_dir=Path(run_dir), privileged=True, uid_pool=default_uid_pool())
        site = hv.Site(name="web1", host=host, level=hv.Level.STRICT)
        samples = alternate({"bare": _bare_ms, "kinds": lambda: _kinds_ms(site)}, repeat=repeat)
    bare = Row(name="open, ioctl and one request", samples=samples["bare"])
    added = [kinds - least for kinds, least in zip(samples["kinds"], samples["bare"], strict=True)]
    rows = [
        bare,
        Row(name="tap and bridge port", samples=samples["kinds"], against=bare),
        Row(name="the difference of both", samples=added, goal=Goal(5)),
        *_imports(repeat),
    ]
    return Report(title="a tap at a bridge, for one NIC", rows=rows)


def _bare_ms() -> float:
    fds: list[int] = []

    def work() -> None:
        fds.append(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
        fcntl.ioctl(fds[0], 0x400454CA, struct.pack("16sH22x", b"bare0", 0x2 | 0x1000 | 0x4000))  # linux/if_tun.h
        with Netlink() as netlink:
            index, master = the_link(netlink, "bare0").index, the_link(netlink, "br0").index
            set_link(netlink, index, address="fe:00:00:4b:c1:01", mtu=1500, master=master, up=True)

    took = elapsed_ms(work)
    os.close(fds[0])
    return took


def _kinds_ms(site: hv.Site) -> float:
    owner: Any = SimpleNamespace(name="web1", progress=lambda _: None)
    held = Held(cast("hv.Owner", owner), site)

    def work() -> None:
        with held.acquiring(_TAP.key):
            held[_TAP] = TapKind().acquire(_TAP, held)
        BridgePortKind().acquire(_PORT, held)

    took = elapsed_ms(work)
    held.close()
    return took


def _imports(repeat: int) -> Iterator[Row]:
    """Processor time of a Python that imports the kinds' modules of the node."""
    candidates: dict[str, Callable[[], float]] = {
        "python": lambda: _python_ms(_BEFORE),
        "ours": lambda: _python_ms(f"{_BEFORE}; {_IMPORT}"),
    }
    found = alternate(candidates, repeat=repeat)
    python = Row(name="processor time of a Python with other kinds", samples=found["python"])
    return iter((python, Row(name="the same with the modules for links", samples=found["ours"], against=python)))


def _python_ms(code: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system) * 1000
