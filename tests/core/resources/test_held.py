"""Which descriptors an operation holds, who inherits them, and when they are closed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager

from hvcore.plugin import Job

AtWork = Callable[..., Job]


def opened() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def test_who_inherits_what_and_who_closes_it(at_work: AtWork) -> None:
    held = at_work().held
    passed, lent, shared, kept = opened(), opened(), opened(), opened()
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
    for fd in (lent, shared):
        os.close(fd)


def test_the_last_is_closed_first_and_a_second_close_does_nothing(at_work: AtWork) -> None:
    held, said = at_work().held, []

    @contextmanager
    def context(name: str):  # type: ignore[no-untyped-def]
        yield name
        said.append(name)

    held.at_end(lambda: said.append("call"))
    assert held.enter(context("first")) == "first"
    held.enter(context("second"))
    held.close()
    held.close()
    assert said == ["second", "first", "call"]
