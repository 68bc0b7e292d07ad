"""Reading the end of a file, and following it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hvcore import log_pieces

TEN = b"".join(b"line %d\n" % number for number in range(10))


def content(path: Path, lines: int | None = None) -> bytes:
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
    assert content(log, lines) == wanted


def test_a_last_line_without_a_newline_counts(log: Path) -> None:
    log.write_bytes(TEN + b"half")
    assert content(log, 2) == b"line 9\nhalf"


def test_lines_longer_than_a_block_are_whole(log: Path) -> None:
    long = b"x" * 200_000 + b"\n"
    log.write_bytes(b"before\n" + long + b"after\n")
    assert content(log, 2) == long + b"after\n"
    assert content(log) == b"before\n" + long + b"after\n"


@pytest.mark.parametrize("make", [lambda path: None, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_anything_but_a_regular_file_reads_as_empty(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "log")
    assert content(tmp_path / "log", 5) == b""
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


def test_added_text_is_read_until_the_file_is_removed(log: Path) -> None:
    pieces = log_pieces(str(log), lines=1, follow=True)
    assert next(pieces) == b"line 9\n"
    assert after(pieces, lambda: add(log, b"more\n")) == b"more\n"
    assert after(pieces, lambda: add(log, b"and more\n")) == b"and more\n"
    assert after(pieces, log.unlink) == b""


def test_following_ends_even_if_a_program_still_writes_to_the_removed_file(log: Path) -> None:
    with log.open("ab"):
        pieces = log_pieces(str(log), lines=0, follow=True)
        assert after(pieces, log.unlink) == b""


def test_a_truncated_file_is_read_from_its_start(log: Path) -> None:
    pieces = log_pieces(str(log), lines=1, follow=True)
    assert next(pieces) == b"line 9\n"
    assert after(pieces, lambda: log.write_bytes(b"again\n")) == b"again\n"
    assert after(pieces, lambda: add(log, b"more\n")) == b"more\n"


def test_another_file_in_its_place_is_not_read(log: Path) -> None:
    pieces = log_pieces(str(log), lines=1, follow=True)
    assert next(pieces) == b"line 9\n"

    def rotate() -> None:
        log.rename(log.with_suffix(".1"))
        log.write_bytes(TEN + b"of another\n")

    assert after(pieces, rotate) == b""


def test_following_keeps_no_file_system_busy(log: Path, tmp_path: Path, mount: Callable[..., None]) -> None:
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
