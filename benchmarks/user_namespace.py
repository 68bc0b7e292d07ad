"""The user network of a user who is not root: what its namespace and the rules in it add to a start."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import hvcore
import hvcore.plugin as hv
from benchmarks.guests import Bench, bench, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms
from hvcore.host.confinement.bubblewrap import sandboxed
from hvcore.host.confinement.proof import has_filter
from hvcore.host.network.pasta import child_of, set_rules_inside
from hvcore.host.processes.launched import read_status
from hvcore.host.processes.process import wait_readable
from hvcore.model.network.passt_arguments import NodeNetwork
from hvcore.model.network.pasta_network import namespace_rules, pasta_arguments

__all__ = ["start_of_user"]

_NAME: Final = "web1"
_USER: Final = 65_533
_GOAL_MS: Final = 80
_CLONE_NEWNS: Final = 0x20000  # linux/sched.h
_MS_PRIVATE_REC: Final = 0x40000 | 0x4000  # linux/mount.h
_TUN: Final = "/dev/net/tun"
_NODE: Final = NodeNetwork(families=frozenset((4,)))
_PASST: Final = (
    *("setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"),
    *("/usr/bin/passt", "--foreground", "--quiet", "-4", "-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2"),
    *("--no-map-gw", "--fd", "0"),
)


def start_of_user(repeat: int) -> Report:
    """Measured in a process that becomes that user, in the network of this thread. Needs root."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            _become_user()
            with open(write, "w", encoding="ascii") as output:
                json.dump(_samples(repeat), output)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, encoding="ascii") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    if not text:
        raise OSError("the benchmark of a user who is not root failed: see above")
    return _report(json.loads(text))


def _become_user() -> None:
    """A user who can open /dev/net/tun, as on most nodes."""
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.stat(_TUN).st_rdev
    done = libc.unshare(_CLONE_NEWNS) or libc.mount(None, b"/", None, ctypes.c_ulong(_MS_PRIVATE_REC), None)
    if done != 0 or libc.mount(b"none", b"/dev/net", b"tmpfs", ctypes.c_ulong(0), b"mode=755") != 0:
        raise OSError(ctypes.get_errno(), "cannot show another /dev/net")
    os.mknod(_TUN, stat.S_IFCHR | 0o666, device)
    os.chmod(_TUN, 0o666)  # noqa: S103 - as on most nodes, and only in this mount namespace
    os.setgroups([])
    os.setresgid(_USER, _USER, _USER)
    os.setresuid(_USER, _USER, _USER)


def _samples(repeat: int) -> dict[str, list[float]]:
    where = on_tmpfs()
    if where is None:
        raise OSError("a user who is not root can write to no tmpfs")
    own: dict[str, list[float]] = {"slirp": [], "passt": []}
    with bench(where) as made:

        def start(kind: str, egress: str) -> float:
            one = replace(made.instance(), nics=(hvcore.Nic(egress=egress),))
            instance = replace(one, params={**one.params, "user_network": kind})
            processor = time.process_time()
            took = elapsed_ms(lambda: made.kvm.start(instance, paused=True))
            own[kind].append((time.process_time() - processor) * 1000)
            made.node.stop(_NAME, force=True)
            return took

        candidates: dict[str, Callable[[], float]] = {
            "slirp": lambda: start("slirp", "none"),
            "passt": lambda: start("passt", "none"),
            "bare": lambda: _bare(made),
        }
        found = alternate(candidates, repeat=repeat)
    return found | {f"processor {kind}": times[-repeat:] for kind, times in own.items()}


def _bare(made: Bench) -> float:
    """Pasta with passt in it below bubblewrap, and one transaction of nft inside, until all is ready."""
    sandbox = hv.Sandbox(
        who=hv.AsCaller(),
        view=hv.View(proc=True, empty=("/tmp",), devices=((_TUN, _TUN),)),  # noqa: S108 - in its sandbox
        seccomp=True,
        share_network=True,
        own_users=True,
    )
    pasta = pasta_arguments(options=frozenset(), node=_NODE, forwards=(), command=_PASST)
    rules = namespace_rules("none", node=_NODE, udp=(), addresses=())
    status = Path(made.directory, "bare-pasta")
    ours, theirs = socket.socketpair()
    with ours, theirs, status.open("wb") as written:
        argv = sandboxed(sandbox, ("/usr/bin/pasta", *pasta), written.fileno()).argv
        begun = time.perf_counter()
        process = subprocess.Popen(argv, stdin=theirs, stderr=subprocess.DEVNULL, pass_fds=(written.fileno(),))
        end = os.pidfd_open(process.pid)

        def until(ready: Callable[[hv.ProcessId], bool]) -> tuple[hv.ProcessId, hv.ProcessId]:
            while True:
                pid = read_status(status).pid
                first = None if pid is None else hv.identify(pid)
                child = None if first is None else child_of(first)
                if first is not None and child is not None and ready(child):
                    return first, child
                if wait_readable(end, 0.001):
                    raise OSError("pasta ended")

        set_rules_inside(*until(lambda child: child.pid > 0), rules)
        until(lambda child: has_filter(child.pid))
        took = (time.perf_counter() - begun) * 1000
        os.close(end)
    process.wait()  # it ends with the connection
    status.unlink()
    return took


def _report(found: dict[str, list[float]]) -> Report:
    slirp = Row(name="Node.start with slirp", samples=found["slirp"])
    bare = Row(name="the bare pasta, passt and nft, until all are ready", samples=found["bare"])
    pairs = [passt - before for passt, before in zip(found["passt"], found["slirp"], strict=True)]
    own = [passt - before for passt, before in zip(found["processor passt"], found["processor slirp"], strict=True)]
    return Report(
        title="start with a user network, as a user who is not root",
        rows=[
            slirp,
            Row(name="Node.start with passt and egress", samples=found["passt"], against=slirp),
            bare,
            Row(name="passt and egress add, pair by pair", samples=pairs, against=bare, goal=Goal(_GOAL_MS)),
            Row(name="processor time that both add to hvcore", samples=own),
        ],
        notes=(
            "passt runs in a network namespace of pasta; its rules are made before QEMU starts, and read back after",
        ),
    )
