"""Running checks: one check with its deadline and its outcome, and all selected checks as one report."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from hvcore.errors import HvError
from hvcore.plugins.loader import load
from hvcore.plugins.protocols import capabilities
from hvcore.testing.check import Check, Failed, Level, Skipped, Tier, bench_of
from hvcore.testing.checks import CHECKS
from hvcore.testing.report import Outcome, Report, Result, versions_of
from hvcore.testing.subject import Subject

__all__ = ["run", "run_check", "selected"]

_LIMIT_S: Final = 60.0
_LIMIT_THOROUGH_S: Final = 1200.0


def selected(*, level: Level | None = None, tier: Tier | None = None, only: Sequence[str] = ()) -> tuple[Check, ...]:
    """The checks of that level, of that tier, and with one of those names. Default: all."""
    return tuple(
        check
        for check in CHECKS
        if (level is None or check.level is level)
        and (tier is None or check.tier is tier)
        and (not only or check.name in only)
    )


def run_check(check: Check, subject: Subject, *, thorough: bool = False) -> Result:
    """Run one check on its own bench. Raises nothing but an interrupt: every failure becomes the result."""
    began, outcome, reason, detail = time.monotonic(), Outcome.PASSED, None, None
    try:
        if check.tier is Tier.LIVE and (unfit := subject.unfit()) is not None:
            raise Skipped(f"this node cannot run it: {unfit}")
        with bench_of(subject, thorough=thorough) as bench, _limit(_LIMIT_THOROUGH_S if thorough else _LIMIT_S):
            check.body(bench)
    except Skipped as skipped:
        outcome, reason = Outcome.SKIPPED, str(skipped)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an error of the driver does not stop the other checks
        failed = isinstance(error, AssertionError)
        outcome, reason = Outcome.FAILED, str(error) if failed else f"raised {type(error).__name__}: {error}"
        excuse = subject.excused.get(check.name) if failed and check.level is Level.HARDENING else None
        if excuse is None:
            detail = "".join(traceback.format_exception(error))
        else:
            outcome, reason = Outcome.SKIPPED, f"excused: {excuse} ({error})"
    return Result.of(check, outcome, reason=reason, seconds=time.monotonic() - began, detail=detail)


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise `Failed` in the block if it takes longer. Does nothing if SIGALRM has a handler (pytest-timeout)."""

    def over(_signum: int, _frame: FrameType | None) -> None:
        raise Failed(f"takes longer than {seconds:.0f} s and was given up")

    main = threading.current_thread() is threading.main_thread()  # only there may signals have handlers
    if not main or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def run(
    subject: Subject,
    checks: Sequence[Check] = CHECKS,
    *,
    thorough: bool = False,
    progress: Callable[[int, int, Check], None] | None = None,
) -> Report:
    """Run the checks one after the other. Before each, call ``progress`` with its number, how many there are, and the check.

    Raises `DriverLoadError` if the subject's versions cannot be read.
    """
    began, programs = time.monotonic(), subject.programs()
    try:
        able = capabilities(load(subject.driver).driver)
    except HvError:
        able = ()
    results = []
    for number, check in enumerate(checks, 1):
        if progress is not None:
            progress(number, len(checks), check)
        results.append(run_check(check, subject, thorough=thorough))
    return Report(
        driver=subject.driver,
        capabilities=able,
        versions=versions_of(subject.driver, programs),
        results=tuple(results),
        thorough=thorough,
        seconds=time.monotonic() - began,
    )
