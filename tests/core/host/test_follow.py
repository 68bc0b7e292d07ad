"""The end of a file, and what comes after it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hvcore import log_pieces

TEN = b"".join(b"line %d\n" % number for number in range(10))


def said(path: Path, lines: int | None = None) -> bytes:
    return b"".join(log_pieces(str(path), lines=lines))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(TEN)
    return path


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [(None, TEN), (0, b""), (1, b"line 9\n"), (2, b"line 8\nline 9\n"), (10, TEN), (99, TEN)],
)
def test_the_last_lines(log: Path, lines: int | None, wanted: bytes) -> None:
    assert said(log, lines) == wanted


def test_a_last_line_without_an_end_counts(log: Path) -> None:
    log.write_bytes(TEN + b"half")
    assert said(log, 2) == b"line 9\nhalf"


def test_lines_longer_than_a_block_are_whole(log: Path) -> None:
    long = b"x" * 200_000 + b"\n"
    log.write_bytes(b"before\n" + long + b"after\n")
    assert said(log, 2) == long + b"after\n"
    assert said(log) == b"before\n" + long + b"after\n"


@pytest.mark.parametrize("make", [lambda path: None, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_has_nothing_in_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "log")
    assert said(tmp_path / "log", 5) == b""
    assert list(log_pieces(str(tmp_path / "log"), follow=True)) == []


def add(log: Path, text: bytes) -> None:
    with log.open("ab") as file:
        file.write(text)


def after(pieces: Iterator[bytes], act: Callable[[], object]) -> bytes:
    timer = threading.Timer(0.05, act)
    timer.start()
    piece = next(pieces, b"")
    timer.join()
    return piece


def test_what_is_added_is_told_until_the_file_goes(log: Path) -> None:
    pieces = log_pieces(str(log), lines=1, follow=True)
    assert next(pieces) == b"line 9\n"
    assert after(pieces, lambda: add(log, b"more\n")) == b"more\n"
    assert after(pieces, lambda: add(log, b"and more\n")) == b"and more\n"
    assert after(pieces, log.unlink) == b""


def test_it_ends_also_when_somebody_still_writes_to_the_file_that_was_removed(log: Path) -> None:
    with log.open("ab"):
        pieces = log_pieces(str(log), lines=0, follow=True)
        assert after(pieces, log.unlink) == b""


def test_a_file_that_is_cut_short_is_told_from_its_beginning(log: Path) -> None:
    pieces = log_pieces(str(log), lines=1, follow=True)
    assert next(pieces) == b"line 9\n"
    assert after(pieces, lambda: log.write_bytes(b"anew\n")) == b"anew\n"
    assert after(pieces, lambda: add(log, b"more\n")) == b"more\n"


def test_another_file_in_its_place_is_not_taken_for_it(log: Path) -> None:
    pieces = log_pieces(str(log), lines=1, follow=True)
    assert next(pieces) == b"line 9\n"

    def rotate() -> None:
        log.rename(log.with_suffix(".1"))
        log.write_bytes(TEN + b"of another\n")

    assert after(pieces, rotate) == b""


def test_it_keeps_no_file_system_busy(log: Path, tmp_path: Path, mount: Callable[..., None]) -> None:
    place = tmp_path / "output"
    place.mkdir()
    mount("x", place, "tmpfs")
    (place / "log").write_bytes(TEN)
    pieces = log_pieces(str(place / "log"), lines=1, follow=True)
    assert next(pieces) == b"line 9\n"
    unmounted = []

    def unmount() -> None:
        import ctypes

        unmounted.append(ctypes.CDLL(None).umount2(os.fsencode(place), 0))

    assert after(pieces, unmount) == b""
    assert unmounted == [0]
