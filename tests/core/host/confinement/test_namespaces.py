"""Namespaces made before their process, and a sandbox that joins them."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixture_types import Eventually

from hvcore import NodeError
from hvcore.host.launching.launch import Child, launch, life_lock
from hvcore.plugin import AsRoot, Command, HeldNamespaces, Sandbox, View, hold_namespaces, uid_ranges, weaknesses

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0 or not uid_ranges(), reason="needs root, and uids to give to others"),
]

USERS = range(uid_ranges()[5], uid_ranges()[6]) if uid_ranges() else range(0)
# struct sock_filter: BPF_RET | BPF_K, SECCOMP_RET_ALLOW (linux/seccomp.h)
ALLOW_ALL = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
INSIDE = Sandbox(who=AsRoot(users=USERS), view=View(root="/", proc=True), filter=ALLOW_ALL, reaper=True)


@pytest.fixture
def held() -> Iterator[HeldNamespaces]:
    with hold_namespaces(users=USERS, network=True) as made:
        assert made is not None
        yield made


def started(tmp_path: Path, sandbox: Sandbox, held: HeldNamespaces | None) -> Child:
    with life_lock(tmp_path / "alive") as life_fd:
        command = Command(argv=("cat", "/proc/self/uid_map", "/proc/net/dev", "-"), sandbox=sandbox, held=held)
        return launch(command, life_fd=life_fd, status=tmp_path / "status", log=tmp_path / "log")


def test_root_inside_has_no_rights_outside(tmp_path: Path, held: HeldNamespaces) -> None:
    child = started(tmp_path, INSIDE, held)
    ended = child.wait(60)
    child.close()
    output = (tmp_path / "log").read_text()
    assert ended is not None
    assert ended.code == 0, output
    mapping, *devices = output.splitlines()
    assert mapping.split() == ["0", str(USERS.start), "65536"]
    assert [line.split(":")[0].strip() for line in devices[2:]] == ["lo"]


def test_the_uid_map_is_read_back(tmp_path: Path, held: HeldNamespaces, eventually: Eventually) -> None:
    with life_lock(tmp_path / "alive") as life_fd:
        command = Command(argv=("sh", "-c", "echo up; exec sleep 1000"), sandbox=INSIDE, held=held)
        child = launch(command, life_fd=life_fd, status=tmp_path / "status", log=tmp_path / "log")
    eventually(lambda: (tmp_path / "log").read_text() == "up\n")
    init = child.process()
    assert init is not None
    try:
        # bubblewrap's init installs the filter after it has started the program.
        eventually(lambda: weaknesses(INSIDE, init.pid) == [])
        assert f"Uid:\t{USERS.start}\t" in Path(f"/proc/{init.pid}/status").read_text()
        assert len(weaknesses(replace(INSIDE, who=AsRoot(users=range(65536))), init.pid)) == 2
    finally:
        os.kill(init.pid, signal.SIGKILL)
        child.wait(60)
        child.close()


def test_namespaces_end_without_processes() -> None:
    with hold_namespaces(users=USERS, network=True) as made:
        assert made is not None
        inside = Path(f"/proc/{made.pid}/ns/user").readlink()
        assert inside != Path("/proc/self/ns/user").readlink()
    assert not Path(f"/proc/{made.pid}").exists()


def test_without_users_and_network_no_namespace_is_made() -> None:
    with hold_namespaces(users=None, network=False) as made:
        assert made is None


def test_a_node_that_allows_no_namespaces_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        pytest.raises(NodeError, match="unshare --user failed on this node"),
        hold_namespaces(users=USERS, network=False),
    ):
        pass
