"""A socket that listens before its program is there."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable

from hvcore.plugin import Job, Site, UnixSocket
from hvcore.resources.node_files import UnixSocketKind

AtWork = Callable[..., Job]


def test_it_listens_in_the_instances_directory_for_the_caller_alone(at_work: AtWork) -> None:
    job, wanted = at_work("a-name-that-is-as-long-as-it-may-be-" + "x" * 20), UnixSocket(key="monitor")
    before = os.umask(0)
    try:
        fd = int(job.acquire(wanted)[wanted])
    finally:
        os.umask(before)
    path = job.dir / "monitor"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(fileno=os.dup(fd)) as served, socket.socket(socket.AF_UNIX) as client:
        directory = os.open(job.dir, os.O_PATH)
        client.connect(f"/proc/self/fd/{directory}/monitor")
        os.close(directory)
        peer, _ = served.accept()
        peer.close()
    assert job.record.ledger == ()  # it goes with the directory


def test_steps_of_a_plan(site: Callable[..., Site]) -> None:
    there = site()
    (step,) = UnixSocketKind().describe(UnixSocket(key="monitor"), there)
    assert str(step.what) == f"listen on {there.host.run_dir}/instances/web1/monitor"
