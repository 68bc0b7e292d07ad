"""``hv conformance``: run the conformance checks on a driver, on this node."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click

import hvcore
from hvcore.cli.guesses import near_word
from hvcore.cli.options import command, deadline_option, driver_completion, json_option
from hvcore.cli.output import Column, emit_json, is_terminal, remark, say, show, show_table
from hvcore.cli.progress import time_limit
from hvcore.cli.session import open_node

if TYPE_CHECKING:
    from hvcore.testing import Check, Report, Subject

__all__ = ["conformance"]

_OUTCOMES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


@command(
    "hv conformance kvm --static",
    "hv conformance kvm --report kvm.json --junit kvm.xml",
    "hv conformance kvm --only life_full_cycle --only leak_fds",
    "hv conformance --explain crash_disk_full",
)
@click.argument("driver", required=False, shell_complete=driver_completion)
@click.option(
    "--level", type=click.Choice(["must", "capability", "hardening"]), help="Run only the checks of this level."
)
@click.option("--static", is_flag=True, help="Run only the checks that start nothing and need no hypervisor.")
@click.option("--only", "names", metavar="NAME", multiple=True, help="Run only this check. Can be given several times.")
@click.option(
    "--thorough", is_flag=True, help="Test a crash at every change on disk, not at a sample of them. Takes minutes."
)
@click.option("--report", metavar="FILE", type=click.File("w", lazy=True), help="Write the report to FILE as JSON.")
@click.option("--junit", metavar="FILE", type=click.File("w", lazy=True), help="Write the report to FILE as JUnit XML.")
@click.option("--explain", metavar="NAME", help="Show what this check tests and why it exists, without running it.")
@click.option("--list", "listed", is_flag=True, help="List the checks without running them.")
@deadline_option(30.0, "Give up importing the driver after S seconds.")
@json_option
def conformance(driver: str | None, *, as_json: bool, **options: Any) -> None:
    """Run the conformance checks on a driver.

    The checks use a scratch directory and leave running instances alone. Skipped checks are listed with the reason.
    Exits with 1 if a check failed.
    """
    chosen = _chosen(options)
    if options["explain"]:
        _explain(options["explain"], as_json=as_json)
    elif options["listed"]:
        _list(chosen, as_json=as_json)
    elif driver is None:
        raise click.UsageError("DRIVER is missing; give the name of an installed driver")
    else:
        _run_checks(driver, chosen, options, as_json=as_json)


def _chosen(options: dict[str, Any]) -> tuple[Check, ...]:
    from hvcore.testing import Level, Tier, selected  # noqa: PLC0415 - 193 ms, for hv --help too

    for name in options["names"]:
        _check_named(name, "--only")
    level = Level(options["level"]) if options["level"] else None
    found = selected(level=level, tier=Tier.STATIC if options["static"] else None, only=options["names"])
    if not found:
        raise click.UsageError("no check matches all of these options; remove one of them")
    return found


def _check_named(name: str, option: str) -> Check:
    from hvcore.testing import CHECKS  # noqa: PLC0415 - 193 ms, for hv --help too

    by_name = {check.name: check for check in CHECKS}
    if name not in by_name:
        hint = near_word(name, by_name) or "see 'hv conformance --list'"
        raise click.UsageError(f"{option}: no check {name!r:.80}; {hint}")
    return by_name[name]


def _explain(name: str, *, as_json: bool) -> None:
    check = _check_named(name, "--explain")
    show(_check_to_json(check), check.explain(), as_json=as_json)


def _check_to_json(check: Check) -> dict[str, str]:
    keys = ("name", "area", "level", "tier", "what", "why")
    return {key: str(getattr(check, key)) for key in keys}


def _list(chosen: tuple[Check, ...], *, as_json: bool) -> None:
    if as_json:
        emit_json([_check_to_json(check) for check in chosen])
        return
    columns = map(Column, ("CHECK", "AREA", "LEVEL", "TIER", "WHAT"))
    show_table([*columns], [[check.name, check.area, check.level, check.tier, check.what] for check in chosen])


def _run_checks(driver: str, chosen: tuple[Check, ...], options: dict[str, Any], *, as_json: bool) -> None:
    from hvcore.testing import CONFORMANCE_GROUP, has_subject, run  # noqa: PLC0415 - 193 ms, for hv --help too

    if driver not in {entry.name for entry in hvcore.catalogue()}:
        hvcore.Node().driver(driver)  # raises, with the nearest name
    if not has_subject(driver):
        what = f"driver {driver} has no conformance subject (entry point in {CONFORMANCE_GROUP})"
        remark(f"{what}; the checks use instances without disks and parameters")
    subject = _subject(driver, options["deadline_s"])
    for file in (options["report"], options["junit"]):
        if file is not None:
            file.open()  # an error appears now, not after minutes of checks
    with _status_line() as progress:
        report = run(subject, chosen, thorough=options["thorough"], progress=progress)
    if options["report"] is not None:
        _write(options["report"], json.dumps(report.to_json(), indent=2) + "\n")
    if options["junit"] is not None:
        _write(options["junit"], report.to_junit())
    if as_json:
        emit_json(report.to_json())
    else:
        _show(report)
    if not report.conforms:
        click.get_current_context().exit(1)


def _subject(driver: str, deadline_s: float) -> Subject:
    """The subject of the checks. The driver is imported within the deadline first, because every check imports it."""
    from hvcore.testing import find_subject  # noqa: PLC0415 - 193 ms, for hv --help too

    try:
        with time_limit(deadline_s) as begin:
            begin()
            subject = find_subject(driver)
    except TimeoutError as error:  # the time was over outside the plugin's code
        raise hvcore.DriverLoadError(
            f"driver {driver}: its subject cannot be imported, {error}; try a longer --deadline"
        ) from error
    try:
        open_node(load_s=deadline_s).driver(driver)
    except hvcore.DriverLoadError as error:  # the checks report any other reason
        if isinstance(error.__cause__, TimeoutError):
            raise
    return subject


def _write(file: TextIO, text: str) -> None:
    try:
        file.write(text)
        file.close()
    except OSError as error:  # the error of a full file system names no file
        raise OSError(error.errno, error.strerror, file.name) from error


def _show(report: Report) -> None:
    columns = [Column("CHECK"), Column("LEVEL"), Column("RESULT", styles=_OUTCOMES), Column("SECONDS", right=True)]
    rows = [
        [result.name, result.level, str(result.outcome), f"{result.seconds:.2f}", result.reason]
        for result in report.results
    ]
    show_table([*columns, Column("REASON")], rows)
    counts, versions = report.counts, report.versions
    numbers = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    say(
        f"\n{report.driver} ({versions.distribution} {versions.version}) on hvcore {versions.hvcore}, Python "
        f"{versions.python}, Linux {versions.kernel}: {numbers}, {report.seconds:.1f} s"
    )
    failed = next((result.name for result in report.results if result.outcome == "failed"), None)
    if failed is not None:
        remark(f"to see what a check tests: hv conformance --explain {failed}")


@contextmanager
def _status_line() -> Iterator[Callable[[int, int, Check], None] | None]:
    """A line on stderr with the check that runs. No thread draws the line, because the checks fork."""
    if not is_terminal(sys.stderr):
        yield None
        return

    def show_check(number: int, of: int, check: Check) -> None:
        sys.stderr.write(f"\r\033[K{number}/{of} {check.name}")
        sys.stderr.flush()

    try:
        yield show_check
    finally:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
