"""One entry for everything that a driver mounts below the instance's directory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hvcore.host.mount_table import mounts
from hvcore.plugin import Job, Mounts

AtWork = Callable[..., Job]


def test_everything_below_the_directory_is_unmounted(at_work: AtWork, mount: Callable[..., None]) -> None:
    job = at_work()
    job.acquire(Mounts(key="root"))
    assert [(entry.kind, entry.key, entry.data) for entry in job.record.ledger] == [("mount", "root", {})]
    outer, inner = job.dir / "root", job.dir / "root" / "proc"
    outer.mkdir()
    mount("none", outer, "tmpfs")
    inner.mkdir()
    mount("none", inner, "tmpfs")
    job.release("root")
    assert not any(str(job.dir) in str(found) for found in mounts())
    job.release()


@pytest.mark.parametrize("disk", [None, "/srv/root.img"])
def test_the_ledger_has_the_disk_that_has_to_be_unused_afterwards(at_work: AtWork, disk: str | None) -> None:
    job = at_work()
    job.acquire(Mounts(key="root", disk=disk))
    assert job.record.ledger[0].data == ({} if disk is None else {"disk": disk})
