"""The user network: what passt and its rules add to a start, and how fast packets are, each beside QEMU's own stack."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import hvcore
import hvcore.plugin as hv
from benchmarks.guests import Bench, bench, file_system_of, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate
from benchmarks.transfers import MIB, from_guest_s, to_guest_s
from benchmarks.user_namespace import start_of_user
from hvcore.host.confinement.bubblewrap import sandboxed
from hvcore.host.confinement.proof import has_filter
from hvcore.host.environment import default_uid_pool
from hvcore.host.libc import libc_call
from hvcore.host.processes.launched import read_status
from hvcore.host.processes.process import wait_readable

__all__ = ["user_networks"]

_NAME: Final = "web1"
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_OUTSIDE: Final = "198.51.100.1"
_NODE: Final = "198.51.100.2"
_MTUS: Final = {"slirp": 1500, "passt": 65520}  # what each announces


def user_networks(repeat: int) -> Iterator[Report]:
    """Three reports, in a separate network; none without root, passt, nft and the program ip."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("passt", "nft", "ip"))):
        return
    where = on_tmpfs() or on_disk()
    if where is None:
        return
    with _network():
        with bench(where) as made:
            yield _start(made, repeat)
        yield start_of_user(repeat)
        yield from _speed(max(1, repeat // 4))


def _start(made: Bench, repeat: int) -> Report:
    """The policy none of slirp needs no rule, so the first row has neither passt nor nft."""
    cases = {"slirp": ("slirp", "none"), "passt": ("passt", "none")}
    own: dict[str, list[float]] = {name: [] for name in cases}
    bare: dict[str, list[float]] = {"passt": [], "nft": []}

    def start(kind: str) -> float:
        network, egress = cases[kind]
        one = replace(made.instance(), nics=(hvcore.Nic(egress=egress),))
        instance = replace(one, params={**one.params, "user_network": network})
        processor, begun = time.process_time(), time.perf_counter()
        made.kvm.start(instance, paused=True)
        took = (time.perf_counter() - begun) * 1000
        own[kind].append((time.process_time() - processor) * 1000)
        made.node.stop(_NAME, force=True)
        return took

    def command(name: str, run: Callable[[], None]) -> float:
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        bare[name].append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
        return (time.perf_counter() - begun) * 1000

    with _rules():
        candidates = {
            **{name: (lambda name=name: start(name)) for name in cases},
            "bare passt": lambda: command("passt", lambda: _passt(made.directory)),
            "bare nft": lambda: command("nft", _add_element),
        }
        found = alternate(candidates, repeat=repeat)
    slirp = Row(name="Node.start with slirp", samples=found["slirp"])
    pairs = [passt - before for passt, before in zip(found["passt"], found["slirp"], strict=True)]
    both = [passt + nft for passt, nft in zip(found["bare passt"], found["bare nft"], strict=True)]
    bare_row = Row(name="the bare passt and the bare nft, one after the other", samples=both)
    added = [passt - before for passt, before in zip(own["passt"], own["slirp"], strict=True)][-repeat:]
    return Report(
        title=f"start with a user network; run directory on {file_system_of(made.directory)}",
        rows=[
            slirp,
            Row(name="Node.start with passt and egress", samples=found["passt"], against=slirp),
            Row(name="the bare passt, until it is ready and ended", samples=found["bare passt"]),
            Row(name="processor time of that", samples=bare["passt"][-repeat:]),
            Row(name="the bare nft, one element", samples=found["bare nft"]),
            Row(name="processor time of that", samples=bare["nft"][-repeat:]),
            bare_row,
            Row(name="passt and egress add, pair by pair", samples=pairs, against=bare_row),
            Row(name="processor time that both add to hvcore", samples=added, goal=Goal(18)),
        ],
        notes=("passt starts before QEMU, and is proved to be ready and confined beside the start of QEMU",),
    )


def _passt(directory: Path) -> None:
    """Run passt below bubblewrap and setpriv with the options of a start, until it has its filter; then it ends."""
    options = ("--foreground", "--quiet", "-4", "-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2", "--no-map-gw")
    sandbox = hv.Sandbox(
        who=hv.AsUser(default_uid_pool()[-1]),
        view=hv.View(proc=True, empty=("/tmp",)),  # noqa: S108 - in its sandbox, where it mounts an empty root
        seccomp=True,
        share_network=True,
        own_users=True,
    )
    status = directory / "bare-passt"
    ours, theirs = socket.socketpair()
    with ours, theirs, status.open("wb") as written:
        argv = sandboxed(sandbox, ("/usr/bin/passt", *options, "--fd", str(theirs.fileno())), written.fileno()).argv
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(written.fileno(), theirs.fileno())
        )
        end = os.pidfd_open(process.pid)
        while ((pid := read_status(status).pid) is None or not has_filter(pid)) and not wait_readable(end, 0.001):
            pass
        os.close(end)
    process.wait()  # it ends with the connection
    status.unlink()


@contextmanager
def _rules() -> Iterator[None]:
    """A table to add elements to."""
    _nft("add table inet bare\nadd set inet bare uids { type uid; }\n")
    try:
        yield
    finally:
        _nft("delete table inet bare\n")


def _add_element() -> None:
    _nft("add element inet bare uids { 5 }\n")


def _nft(text: str) -> None:
    subprocess.run([shutil.which("nft") or "nft", "-f", "-"], input=text.encode(), check=True)


def _speed(repeat: int) -> Iterator[Report]:
    """Seconds for a transfer between a Linux guest and a program of the node, both ways."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lib"))
    from linux_guest import LinuxGuest, guest_params, linux_guests  # noqa: PLC0415 - of the tests, which are no package
    from transfers import configure  # noqa: PLC0415 - the same

    sent: dict[str, list[float]] = {kind: [] for kind in _MTUS}
    got: dict[str, list[float]] = {kind: [] for kind in _MTUS}

    def transfer(guest: LinuxGuest, kind: str) -> None:
        # Out first: passt of 2023 may reset it while the other way ends.
        sent[kind].append(from_guest_s(guest, _NODE))
        got[kind].append(to_guest_s(guest, _NODE))

    with tempfile.TemporaryDirectory(prefix="hvcore-bench-") as name:
        node = hvcore.Node(Path(name, "run"))
        params: dict[str, Any] = guest_params(Path(name), "virtio_pci", "virtio_net")
        for _ in range(repeat):
            for kind, mtu in _MTUS.items():  # one guest at a time has the processors
                instance = hvcore.Instance(
                    name=kind,
                    driver="kvm",
                    memory_mib=192,
                    nics=(hvcore.Nic(),),
                    params={**params, "user_network": kind},
                )
                try:
                    with linux_guests(node, instance) as (guest,):
                        configure(guest, mtu=mtu)
                        transfer(guest, kind)
                finally:
                    node.stop(kind, force=True)
    out = Row(name="slirp, from the guest", samples=sent["slirp"], unit="s")
    back = Row(name="slirp, to the guest", samples=got["slirp"], unit="s")
    yield Report(
        title=f"{MIB} MiB over a user network, under software emulation",
        rows=[
            out,
            Row(name="passt, from the guest", samples=sent["passt"], unit="s", against=out, goal=Goal(0.5, ratio=True)),
            back,
            Row(name="passt, to the guest", samples=got["passt"], unit="s", against=back),
        ],
        notes=("MTU as announced: 65520 with passt, 1500 with slirp",),
    )


@contextmanager
def _network() -> Iterator[None]:
    """This thread in a new network with a default route that leads to another one."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 36000"], stdout=subprocess.PIPE)
    try:
        if other.stdout is None or not other.stdout.readline():
            raise OSError("unshare: no new network")
        libc_call("unshare", _CLONE_NEWNET)
        for words in (
            "link set lo up",
            f"link add hv-node type veth peer name hv-wire netns {other.pid}",
            f"addr add {_NODE}/24 dev hv-node",
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
        libc_call("setns", before, _CLONE_NEWNET)
        os.close(before)
