"""How fast a guest on a tap is, beside a QEMU that was started by hand with the same options on a tap made by hand."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import hvcore
import hvcore.plugin as hv
from benchmarks.measure import Goal, Report, Row
from benchmarks.transfers import MIB, from_guest_s, to_guest_s
from hv_kvm.qmp import commands, connect
from hvcore.host.cgroups.group import Group
from hvcore.host.cgroups.hierarchy import group_name
from hvcore.host.environment import default_uid_pool
from hvcore.host.network.links import set_link, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.tap_device import open_tap, open_vhost
from hvcore.model.limits import NO_LIMITS
from hvcore.resources.node_files import listening_socket

__all__ = ["tap_speeds"]

_NODE: Final = "198.51.100.1"
_ADDRESSES: Final = {"bare": "198.51.100.2", "hvcore": "198.51.100.3"}
_BARE_TAP: Final = "bare0"
_BOOT_S: Final = 120.0
_LEAST: Final = 0.97  # of the throughput of the bare QEMU


def tap_speeds(repeat: int) -> Iterator[Report]:
    """One report. Both guests are at bridge ``br0``, and send and receive by turns; one is idle while the other is measured."""
    subprocess.run(["ip", "addr", "add", f"{_NODE}/24", "dev", "br0"], check=True)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lib"))
    from linux_guest import LinuxGuest, guest_params, linux_guests  # noqa: PLC0415 - of the tests, which are no package

    sent: dict[str, list[float]] = {kind: [] for kind in _ADDRESSES}
    got: dict[str, list[float]] = {kind: [] for kind in _ADDRESSES}
    with tempfile.TemporaryDirectory(prefix="hvcore-bench-") as name:
        folder = Path(name)
        node = hvcore.Node(folder / "run")
        params: dict[str, Any] = guest_params(folder, "virtio_pci", "virtio_net")
        nics = (hvcore.Nic(mode="bridged", link="br0"),)
        instance = hvcore.Instance(name="tap", driver="kvm", memory_mib=192, nics=nics, params=params)
        argv = [
            {"/kernel": params["kernel_path"], "/initrd": params["initrd_path"]}.get(token, token)
            for token in node.driver("kvm").plan(instance).argv
        ]
        try:
            with _bare(argv, folder) as console, linux_guests(node, instance) as (ours,):
                guests = {"bare": LinuxGuest(console), "hvcore": ours}
                guests["bare"].boot()
                for kind, guest in guests.items():
                    guest.run(f"ip link set eth0 up; ip addr add {_ADDRESSES[kind]}/24 dev eth0")
                for _ in range(repeat):
                    for kind, guest in guests.items():
                        sent[kind].append(from_guest_s(guest, _NODE))
                        got[kind].append(to_guest_s(guest, _NODE))
        finally:
            node.stop("tap", force=True)
    goal = Goal(1 / _LEAST, ratio=True)
    out = Row(name="bare QEMU, from the guest", samples=sent["bare"], unit="s")
    back = Row(name="bare QEMU, to the guest", samples=got["bare"], unit="s")
    yield Report(
        title=f"{MIB} MiB over a tap at a bridge, under software emulation",
        rows=[
            out,
            Row(name="hvcore, from the guest", samples=sent["hvcore"], unit="s", against=out, goal=goal),
            back,
            Row(name="hvcore, to the guest", samples=got["hvcore"], unit="s", against=back, goal=goal),
        ],
        notes=(
            "the same options of QEMU; the bare one is not confined, and in a control group beside that of the other",
        ),
    )


@contextmanager
def _in_group(pid: int, run_dir: Path) -> Iterator[None]:
    """A control group beside those of guests: on a busy node, a process outside gets much more of the processors."""
    host = hv.Host(run_dir=run_dir, privileged=True, uid_pool=default_uid_pool())
    if not host.cgroups.usable:
        yield
        return
    group = Group(group_name(run_dir, "bare"), host.cgroups)
    group.create(NO_LIMITS)
    try:
        group.enter(pid)
        yield
    finally:
        group.kill(_BOOT_S)
        group.remove()


@contextmanager
def _bare(argv: list[str], folder: Path) -> Iterator[socket.socket]:
    """A QEMU with the arguments of a plan, and its serial console."""
    folder = folder / "bare"
    folder.mkdir()
    os.mkfifo(folder / "events")
    with ExitStack() as stack:
        fds = {"tap-nic0": open_tap(_BARE_TAP)[0]}
        try:
            fds["vhost-nic0"] = open_vhost()
        except OSError:  # as a start does without vhost-net
            argv = [token.replace(",vhost=on,vhostfd={fd:vhost-nic0}", "") for token in argv]
        for name in ("qmp", "qmp-oob", "serial"):
            fds[name] = listening_socket(folder / name)
        fds["serial.history"] = os.open(os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        fds["events"] = os.open(folder / "events", os.O_RDWR | os.O_CLOEXEC)
        for fd in fds.values():
            stack.callback(os.close, fd)
        with Netlink() as netlink:
            index, master = the_link(netlink, _BARE_TAP).index, the_link(netlink, "br0").index
            set_link(netlink, index, address="fe:00:00:4b:c1:01", mtu=1500, master=master, up=True)
        command = [
            re.sub(r"\{fd:([^}]*)\}", lambda found: str(fds[found[1]]), token.replace("/guest/", f"{folder}/"))
            for token in argv
        ]
        # Another address than that of the other guest.
        command = [re.sub(r",mac=[^,]*", ",mac=aa:00:00:4b:c1:01", token) for token in command]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=tuple(fds.values()))
        stack.callback(process.wait)
        stack.callback(process.kill)
        stack.enter_context(_in_group(process.pid, folder))
        console = stack.enter_context(socket.socket(socket.AF_UNIX))
        console.connect(str(folder / "serial"))
        with connect(str(folder / "qmp"), deadline_s=_BOOT_S) as client:
            commands.cont(client)
        yield console
