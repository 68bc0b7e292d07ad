"""Namespaces made before the process that will live in them: with a range of users, and with a network to set up.

bubblewrap can make a user namespace for one uid only, and a network only together with the program. So a *holder* makes
both: util-linux's unshare, waiting as ``cat`` on a pipe of ours. The holder ends with us, and the namespaces end with the
last process in them.
"""

from __future__ import annotations

import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.frozen import dataclass
from hvcore.host.confinement.own_root import with_own_root

__all__ = ["UID_RANGE_SIZE", "HeldNamespaces", "hold_namespaces", "uid_ranges"]

UID_RANGE_SIZE: Final = 65_536
_FIRST: Final = 1_900_019_712  # above the pool of single uids, a multiple of the size as systemd likes them
_LAST: Final = 2_147_483_648  # numbers from here on are negative to some programs
_READY_S: Final = 30.0  # it takes milliseconds; on a busy node seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNamespaces:
    """The pid of a living process in a network namespace, a user namespace, or both.

    With users, the network belongs to them: root among them may set it up and listen on every port of it.
    """

    pid: int
    users: bool
    network: bool


def uid_ranges() -> range:
    """The first uid of each range that an instance can have for its users, each `UID_RANGE_SIZE` long.

    Only ranges within our user namespace; empty in a small container.
    """
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= _FIRST and first + count >= _LAST:
            return range(_FIRST, _LAST, UID_RANGE_SIZE)
    return range(0)


@contextmanager
def hold_namespaces(*, users: range | None, network: bool) -> Iterator[HeldNamespaces | None]:
    """New namespaces until the end of the block, then while a process is in them; None for neither.

    ``users`` are the node's uids, and gids, that appear as 0 and the following inside. Raises `NodeError`.
    """
    if users is None and not network:
        yield None
        return
    kinds = [*(["--user"] if users is not None else []), *(["--net"] if network else [])]
    try:
        process = subprocess.Popen(
            [*with_own_root(), "unshare", *kinds, "--", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            bufsize=0,
        )
    except FileNotFoundError as error:
        raise NodeError("unshare: not found on this node; install util-linux") from error
    try:
        _wait_ready(process, kinds)
        if users is not None:
            for kind in ("uid", "gid"):
                _write(f"/proc/{process.pid}/{kind}_map", f"0 {users.start} {len(users)}\n")
        yield HeldNamespaces(pid=process.pid, users=users is not None, network=network)
    finally:
        process.kill()
        process.communicate()


def _wait_ready(process: subprocess.Popen[bytes], kinds: list[str]) -> None:
    # If cat answers, unshare is done.
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - for the type checker
    try:
        process.stdin.write(b"\n")
    except BrokenPipeError:
        answered = False
    else:
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        answered = bool(poll.poll(_READY_S * 1000)) and process.stdout.read(1) == b"\n"
    if not answered:
        what = f"namespaces: unshare {' '.join(kinds)} failed on this node"
        raise NodeError(f"{what}; check user.max_user_namespaces and user.max_net_namespaces in sysctl")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "wb", buffering=0) as file:  # in one write(2), or the kernel refuses it: user_namespaces(7)
            file.write(text.encode())
    except OSError as error:
        raise NodeError(f"{path}: cannot be set, got {error.strerror}; this may be a limit of a container") from error
