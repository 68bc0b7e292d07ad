"""A character device is opened for a program that may not open it itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.host.launching.launch import reap
from hvcore.plugin import CharacterDevice, Command, Job, OperationError, Site
from hvcore.resources.node_files import CharacterDeviceKind

AtWork = Callable[..., Job]
NULL = CharacterDevice(key="vsock.device", given_by="params.vsock", path="/dev/null")


def at(path: Path) -> CharacterDevice:
    return CharacterDevice(key="vsock.device", given_by="params.vsock", path=str(path))


def test_its_handle_is_a_descriptor_of_it_to_read_and_write(at_work: AtWork) -> None:
    job = at_work()
    fd = int(job.acquire(NULL)[NULL])
    assert os.fstat(fd).st_rdev == os.stat("/dev/null").st_rdev
    assert os.read(fd, 1) == b""
    assert os.write(fd, b"x") == 1
    assert os.get_blocking(fd)
    assert not os.get_inheritable(fd)  # the launch passes it on, and no other program gets it
    assert job.record.ledger == ()  # it is closed with its program


def test_the_program_inherits_it_and_we_keep_nothing(at_work: AtWork) -> None:
    job = at_work()
    fd = job.acquire(NULL)[NULL]
    script = f"[ -c /proc/self/fd/{fd} ] && echo there"
    child = job.launch(Command(argv=("sh", "-c", script), sandbox=None))
    assert child.wait(60) is not None
    child.close()
    reap()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(int(fd))
    assert job.output() == "there\n"


def test_one_that_is_not_there_is_a_problem_before_and_at_the_start(
    at_work: AtWork, site: Callable[..., Site], tmp_path: Path
) -> None:
    missing = at(tmp_path / "vhost-vsock")
    (problem,) = CharacterDeviceKind().verify(missing, site())
    message = (
        f"cannot be opened (No such file or directory), got '{missing.path}'; load its kernel module, or leave it out"
    )
    assert str(problem) == f"params.vsock: {message}"
    with pytest.raises(OperationError) as caught:
        at_work().acquire(missing)
    assert str(caught.value) == f"web1: params.vsock: {message}"


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_anything_else_is_refused_and_closed(
    at_work: AtWork, site: Callable[..., Site], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    other = tmp_path / "other"
    make(other)
    (problem,) = CharacterDeviceKind().verify(at(other), site())
    assert str(problem) == f"params.vsock: is not a character device, got '{other}'; name one"
    with pytest.raises(OperationError, match=r"web1: params\.vsock: is not a character device"):
        at_work().acquire(at(other))


def test_a_check_before_the_start_keeps_nothing_open(site: Callable[..., Site]) -> None:
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    before = os.listdir("/proc/self/fd")
    assert list(CharacterDeviceKind().verify(NULL, site())) == []
    assert os.listdir("/proc/self/fd") == before


def test_steps_of_a_plan(site: Callable[..., Site]) -> None:
    (step,) = CharacterDeviceKind().describe(NULL, site())
    assert (step.kind, str(step.what)) == ("file", "open /dev/null read-write as vsock.device")
    assert CharacterDeviceKind().placeholder(NULL, site()) == "{fd:vsock.device}"
