"""Which descriptors an operation holds for which resource, who inherits them, and when they are closed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from hvcore.plugin import CharacterDevice, Job, UnixSocket

AtWork = Callable[..., Job]


def opened() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def test_who_inherits_what_and_who_closes_it(at_work: AtWork) -> None:
    held = at_work().held
    passed, lent, shared, kept = opened(), opened(), opened(), opened()
    with held.acquiring("it"):
        assert held.add(passed) == str(passed)
        assert held.lend(lent) == str(lent)
        held.share(shared)
        held.keep(kept)
    assert held.for_program == (passed, lent, shared)
    assert held.for_companion == (shared,)
    held.close_passed()
    assert [is_open(fd) for fd in (passed, lent, shared, kept)] == [False, True, True, True]
    held.close()
    assert [is_open(fd) for fd in (lent, shared, kept)] == [True, True, False]
    assert len(held.for_program) == 0
    for fd in (lent, shared):
        os.close(fd)


def test_the_last_is_closed_first_and_a_second_close_does_nothing(at_work: AtWork) -> None:
    held, said = at_work().held, list[str]()

    @contextmanager
    def context(name: str) -> Iterator[str]:
        yield name
        said.append(name)

    with held.acquiring("first"):
        held.at_end(lambda: said.append("call"))
        assert held.enter(context("first")) == "first"
    with held.acquiring("second"):
        held.enter(context("second"))
    held.close()
    held.close()
    assert said == ["second", "first", "call"]


def test_what_is_acquired_inside_belongs_to_itself(at_work: AtWork) -> None:
    held = at_work().held
    outer, inner = opened(), opened()
    with held.acquiring("outer"):
        with held.acquiring("inner"):
            held.add(inner)
        held.add(outer)
    held.forget("outer")
    assert [is_open(fd) for fd in (outer, inner)] == [False, True]


def test_a_release_by_key_closes_what_is_open_for_that_resource(at_work: AtWork) -> None:
    job, device, socket = at_work(), CharacterDevice(key="device", path="/dev/null"), UnixSocket(key="socket")
    fds = [int(job.acquire(device, socket)[each]) for each in (device, socket)]
    job.release("device")
    assert [is_open(fd) for fd in fds] == [False, True]
    assert job.held.for_program == (fds[1],)
    job.release()
    assert not is_open(fds[1])


def test_what_an_operation_has_once_is_made_once_and_left_at_its_end(at_work: AtWork) -> None:
    class Session:
        def __enter__(self) -> Self:
            said.append("open")
            return self

        def __exit__(self, *_: object) -> None:
            said.append("closed")

    held, said = at_work().held, list[str]()
    first = held.once(Session, Session)
    assert held.once(Session, Session) is first
    held.close()
    assert said == ["open", "closed"]
    assert held.once(Session, Session) is not first
    held.close()
    assert said == ["open", "closed"] * 2
