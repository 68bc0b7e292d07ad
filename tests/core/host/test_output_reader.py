"""The end of a stream stays in a file, and the file never takes more space than that and a little."""

from __future__ import annotations

import array
import errno
import fcntl
import mmap
import os
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hvcore.host import output_reader
from hvcore.host.follow import log_pieces

KEEP = 256 * 1024
MOST = KEEP + 128 * 1024
MIB = 1024 * 1024


@contextmanager
def reading(path: Path, keep: int = KEEP) -> Iterator[int]:
    """The writing end of a pipe whose end goes to the file; at the end of the block everything has been read."""
    reader, writer = os.pipe()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    thread = threading.Thread(target=output_reader.copy, args=(reader, file, keep), name="reader")
    thread.start()
    try:
        yield writer
    finally:
        os.close(writer)
        thread.join(30)
        os.close(reader)
        os.close(file)
    assert not thread.is_alive()


def write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def content(path: Path, lines: int | None = None) -> bytes:
    return b"".join(log_pieces(str(path), lines=lines))


def test_little_output_is_kept_as_it_is(tmp_path: Path) -> None:
    with reading(tmp_path / "log") as pipe:
        write(pipe, b"one\n\0two\n")
    assert content(tmp_path / "log") == b"one\n\0two\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size_bytes", [1, 3, 321], ids=["bytes", "a few", "lines"])
def test_small_pieces_are_written_together_and_none_is_lost(tmp_path: Path, size_bytes: int) -> None:
    path, unread = tmp_path / "log", array.array("i", [0])
    with reading(path) as pipe:
        (thread,) = (one for one in threading.enumerate() if one.name == "reader")
        counters = Path(f"/proc/self/task/{thread.native_id}/io")
        if not counters.exists():
            pytest.skip("this kernel does not count writes")
        begun = time.monotonic()
        for _ in range(300):
            write(pipe, b"x" * size_bytes)
            give_up = time.monotonic() + 0.002
            while time.monotonic() < give_up:  # time for a reader that takes the pieces one by one
                fcntl.ioctl(pipe, termios.FIONREAD, unread)
                if unread[0] == 0:
                    break
        writes = int(dict(line.split(": ") for line in counters.read_text().splitlines())["syscw"])
        assert writes <= 2 + (time.monotonic() - begun) / 0.01
    assert content(path) == b"x" * size_bytes * 300


def test_a_flood_takes_bounded_space_and_its_end_is_kept(tmp_path: Path) -> None:
    path, block = tmp_path / "log", b"".join(b"%09d\n" % number for number in range(100_000))
    with reading(path) as pipe:
        for _ in range(20):
            write(pipe, block)
            assert path.stat().st_blocks * 512 <= MOST
    found = content(path)
    assert KEEP <= len(found) <= MOST
    assert (20 * block).endswith(found)
    assert content(path, 3) == b"000099997\n000099998\n000099999\n"
    assert content(path, 10**9) == found


def test_a_reader_that_follows_sees_all_of_a_slow_flood(tmp_path: Path) -> None:
    path, seen = tmp_path / "log", b""
    with reading(path) as pipe:
        write(pipe, b"first\n")
        follower = log_pieces(str(path), follow=True)
        for number in range(40):
            write(pipe, b"%07d\n" % number * 8192)
            while not seen.endswith(b"%07d\n" % number * 8192):
                seen += next(follower)
    assert len(seen) == len(b"first\n") + 40 * 65536
    del follower


@pytest.mark.parametrize("fault", ["no holes", "no room", "too large"])
def test_whatever_cannot_be_written_the_stream_is_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The writer is QEMU, and would wait with its guest."""
    path, real = tmp_path / "log", os.write

    def fails(fd: int, data: bytes) -> int:
        if os.fstat(fd).st_size > MIB:
            raise OSError(errno.ENOSPC if fault == "no room" else errno.EFBIG, "faulty")
        return real(fd, data)

    class NoHoles:
        def __init__(self, *_: object, **_more: object) -> None:
            raise OSError(errno.EOPNOTSUPP, "faulty")

    with reading(path) as pipe:
        if fault == "no holes":
            monkeypatch.setattr(output_reader, "mmap", SimpleNamespace(mmap=NoHoles, MADV_REMOVE=mmap.MADV_REMOVE))
        else:
            monkeypatch.setattr(output_reader, "os", _Os(fails))
        for _ in range(40):
            write(pipe, b"x" * 99_999 + b"\n")
        write(pipe, b"the end\n")
    assert path.stat().st_blocks * 512 <= MIB + MOST
    assert content(path).endswith(b"the end\n")


class _Os:
    """The module os with another ``write``."""

    def __init__(self, write: Callable[[int, bytes], int]) -> None:
        self.write = write

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def test_a_file_that_somebody_empties_is_filled_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with reading(path) as pipe:
        write(pipe, b"x" * MIB)
        follower = log_pieces(str(path), follow=True)
        next(follower)
        os.truncate(path, 0)
        write(pipe, b"y" * MIB)
    assert content(path)[-KEEP:] == b"y" * KEEP
    assert path.stat().st_blocks * 512 <= MOST


def test_it_needs_nothing_of_hvcore_and_ends_with_the_stream(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    file = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    argv = (sys.executable, "-I", "-S", output_reader.__file__, str(reader), str(file), str(KEEP))
    program = subprocess.Popen(argv, pass_fds=(reader, file), cwd="/")
    for fd in (reader, file):
        os.close(fd)
    write(writer, b"hello\n")
    os.close(writer)
    assert program.wait(30) == 0
    assert content(tmp_path / "log") == b"hello\n"


def test_the_file_systems_of_this_machine_have_holes(tmp_path: Path) -> None:
    """If not, the space is bounded all the same, but less of the end is kept."""
    with open(tmp_path / "file", "wb+") as file:
        file.write(b"x" * MIB)
        file.flush()
        with mmap.mmap(file.fileno(), MIB // 2) as part:
            part.madvise(mmap.MADV_REMOVE)
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == MIB // 2


@contextmanager
def beside(path: Path, other: Path) -> Iterator[tuple[int, int]]:
    """Like `reading`, as a program that also bounds another file: the pipe, and that file as its writer has it."""
    reader, writer = os.pipe()
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    fds = [os.open(name, flags, 0o600) for name in (path, other)]
    argv = (sys.executable, "-I", "-S", output_reader.__file__, str(reader), *map(str, (fds[0], KEEP, fds[1])))
    with subprocess.Popen(argv, pass_fds=(reader, *fds), cwd="/") as program:
        try:
            yield writer, fds[1]
        finally:
            os.close(writer)
        assert program.wait(30) == 0
    for fd in (reader, *fds):
        os.close(fd)


def test_a_file_that_another_program_writes_is_bounded_too(tmp_path: Path, eventually: Callable[..., None]) -> None:
    path, log, block = tmp_path / "serial", tmp_path / "log", b"".join(b"%09d\n" % number for number in range(100_000))
    with beside(path, log) as (pipe, file):
        write(file, b"the start\n")
        write(pipe, b"one\n")
        eventually(lambda: content(path) == b"one\n")
        assert content(log) == b"the start\n"
        for _ in range(20):
            write(file, block)
        eventually(lambda: log.stat().st_blocks * 512 <= MOST)
        assert content(log, 3) == b"000099997\n000099998\n000099999\n"
        assert KEEP <= len(content(log)) <= MOST
        write(pipe, b"two\n")  # and the stream is read on
        eventually(lambda: content(path) == b"one\ntwo\n")
        os.truncate(log, 0)
        write(file, block)
        eventually(lambda: log.stat().st_blocks * 512 <= MOST)
        assert block.endswith(content(log))


def test_a_file_of_a_program_that_uses_no_stream_is_bounded(tmp_path: Path, eventually: Callable[..., None]) -> None:
    """100 MB, and what is in the stream is read and kept nowhere."""
    log, (reader, writer) = tmp_path / "log", os.pipe()
    file = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    argv = (sys.executable, "-I", "-S", output_reader.__file__, str(reader), "-1", str(KEEP), str(file))
    with subprocess.Popen(argv, pass_fds=(reader, file), cwd="/") as program:
        write(writer, b"to no file\n")
        for number in range(1000):
            write(file, b"%099999d\n" % number)
        eventually(lambda: log.stat().st_blocks * 512 <= MOST)
        assert log.stat().st_size == 100_000_000
        assert content(log, 1) == b"%099999d\n" % 999
        os.close(writer)
        assert program.wait(30) == 0
    for fd in (reader, file):
        os.close(fd)


def test_a_stream_that_never_pauses_keeps_nothing_from_the_other_file(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    log = tmp_path / "log"
    with beside(tmp_path / "serial", log) as (pipe, file):
        write(file, b"x" * MIB)

        def bounded() -> bool:
            write(pipe, b"y" * 65536)
            return log.stat().st_blocks * 512 <= MOST

        eventually(bounded)
