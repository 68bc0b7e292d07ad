"""A disk has one user on the node, or readers only; a detached one is free while the rest stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.plugin import DiskClaim, DiskInUse, DiskInUseError, Job, Problem, Site, VerifyError
from hvcore.resources.disks import DiskClaimKind

AtWork = Callable[..., Job]


@pytest.fixture
def disk(tmp_path: Path) -> Callable[..., DiskClaim]:
    """``disk("disk0", write=False)``: a claim of the file ``disk0``, which is made."""

    def make(key: str = "disk0", *, write: bool = True, lock: bool = True, file: str | None = None) -> DiskClaim:
        path = tmp_path / (file or key)
        path.touch()
        return DiskClaim(key=key, path=str(path), write=write, lock=lock)

    return make


def test_its_handle_is_what_the_program_inherits(at_work: AtWork, disk: Callable[..., DiskClaim]) -> None:
    job, wanted, unlocked = at_work(), disk(), disk("disk1", lock=False)
    (fd,) = job.acquire(wanted)[wanted]
    assert int(fd) in job.held.for_program
    assert int(fd) not in job.held.for_companion
    assert job.acquire(unlocked)[unlocked] == ()


def test_it_has_one_writer_or_readers(at_work: AtWork, disk: Callable[..., DiskClaim]) -> None:
    at_work("web1").acquire(disk(write=False))
    at_work("web2").acquire(disk(write=False))
    with pytest.raises(DiskInUseError, match="already in use by instance web1"):
        at_work("web3").acquire(disk())


def test_in_another_run_directory_it_is_in_use_too(
    at_work: AtWork, disk: Callable[..., DiskClaim], tmp_path: Path
) -> None:
    at_work("web1").acquire(disk())
    with pytest.raises(DiskInUseError):
        at_work("web1", run_dir=tmp_path / "elsewhere").acquire(disk())


def test_one_that_is_released_is_free_and_the_other_is_not(at_work: AtWork, disk: Callable[..., DiskClaim]) -> None:
    job = at_work("web1")
    job.acquire(disk("disk0"), disk("disk1"))
    job.held.close()  # a program would have inherited the locks; here none has
    job.release("disk1")
    at_work("web2").acquire(disk("disk1"))
    with pytest.raises(DiskInUseError, match="already in use by instance web1"):
        at_work("web2").acquire(disk("other", file="disk0"))


def test_steps_of_a_plan(site: Callable[..., Site]) -> None:
    kind = DiskClaimKind()
    claims = [DiskClaim(key="d", path="/srv/a.img", write=write) for write in (True, False)]
    assert [str(step.what) for claim in claims for step in kind.describe(claim, site())] == [
        "claim /srv/a.img read-write",
        "claim /srv/a.img read-only",
    ]
    assert kind.placeholder(claims[0], site()) == ()


def test_verify_says_beforehand_what_a_claim_refuses_and_takes_nothing(
    at_work: AtWork, disk: Callable[..., DiskClaim], site: Callable[..., Site]
) -> None:
    kind, wanted = DiskClaimKind(), disk()
    assert list(kind.verify(wanted, site("web2"))) == []
    at_work("web1").acquire(wanted)
    (problem,) = kind.verify(wanted, site("web2"))
    assert isinstance(problem, DiskInUse)
    assert problem.holder == "instance web1"
    assert list(kind.verify(wanted, site("web1"))) == []
    at_work("web3").acquire(disk("disk1", write=False))
    assert list(kind.verify(disk("disk1", write=False), site("web2"))) == []


def test_verify_sees_the_lock_of_another_run_directory(
    at_work: AtWork, disk: Callable[..., DiskClaim], site: Callable[..., Site], tmp_path: Path
) -> None:
    at_work("web1", run_dir=tmp_path / "elsewhere").acquire(disk())
    (problem,) = DiskClaimKind().verify(disk(), site("web1"))
    assert "already in use by an instance of another run directory" in str(problem)


def test_an_error_of_a_start_is_that_of_the_disk_when_nothing_else_is_wrong() -> None:
    busy = DiskInUse.at("disks[0].path", DiskInUseError(path="/a", holder="instance web1"))
    error = VerifyError.refusal("web2", [busy])
    assert isinstance(error, DiskInUseError)
    assert (error.path, error.holder, error.exit_code) == ("/a", "instance web1", 5)
    both = VerifyError.refusal("web2", [busy, Problem(path="params.x", what="is wrong")])
    assert isinstance(both, VerifyError)
