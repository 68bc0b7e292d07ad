"""Bad names, bad files, bad options: one clear error, exit code 2, nothing made, no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import Result
from fixture_types import Hv

NAMES = {
    "slash": "a/b",
    "parent": "..",
    "path": "../../etc/no-such-file",
    "newline": "web1\nweb2",
    "dash": "-web1",
    "long": "a" * 300,
    "empty": "",
    "space": "we b",
    "upper": "Web1",
    "control": "web\x1b[31m",
    "nul": "web\0",
    "surrogate": os.fsdecode(b"web\xff"),
    "unicode": "wéb",
}
FILES: dict[str, bytes] = {
    "not TOML": b"name = web1\n",
    "not UTF-8": b'name = "\xff"\n',
    "huge": b"#" * (1024 * 1024 + 1),
    "empty": b"",
    "deep": b"a = " + b"[" * 5000 + b"]" * 5000,
    "long integer": b"a = " + b"9" * 5000,
    "several problems": b'name = 3\ndriver = "fake"\ndisks = 1\nnics = [3]\nparams = "x"\n',
    "no driver": b'name = "web1"\n',
    "driver is a number": b'name = "web1"\ndriver = 3\n',
    "driver with a slash": b'name = "web1"\ndriver = "../x"\n',
    "control in a name": b'name = "we\\u001b[31mb"\ndriver = "fake"\n',
}


def clean(result: Result, code: int = 2) -> str:
    """Stderr of a run that failed as it should."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("hv: ")
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    assert "\x1b" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("subcommand", ["info", "stop", "console", "cleanup"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_an_impossible_name_is_bad_usage(hv: Hv, run_dir: Path, subcommand: str, name: str) -> None:
    clean(hv(subcommand, "--", name))
    assert not run_dir.exists()


def test_a_name_that_looks_like_an_option_is_refused(hv: Hv) -> None:
    assert "no such option" in clean(hv("info", "-web1"))


@pytest.mark.parametrize("subcommand", ["check", "verify", "plan", "explain", "start"])
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_bad_file_is_reported_and_nothing_is_made(
    hv: Hv, run_dir: Path, tmp_path: Path, subcommand: str, content: bytes
) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    assert "bad.toml" in clean(hv(subcommand, str(file))) or content == FILES["driver with a slash"]
    assert not run_dir.exists()


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_bad_stdin_is_reported(hv: Hv, content: bytes) -> None:
    clean(hv("check", "-", stdin=content))


def test_all_problems_of_a_file_are_listed(hv: Hv) -> None:
    lines = clean(hv("check", "-", stdin=FILES["several problems"])).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["name", "disks", "nics[0]", "params"]


def test_a_fifo_or_directory_is_refused_as_instance_file_without_waiting(hv: Hv, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    assert "is not a regular file" in clean(hv("check", str(tmp_path / "fifo.toml")))
    assert "is a directory" in clean(hv("check", str(tmp_path)))
    assert "no such file; give an instance file" in clean(hv("check", str(tmp_path / "absent.toml")))
    assert "got File name too long" in clean(hv("check", "x" * 5000))
    assert "is not a path" in clean(hv("check", "a\0b"))
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    assert "symbolic links" in clean(hv("check", str(tmp_path / "loop.toml")))


def test_the_run_directory_must_be_writable_by_its_user_only(hv: Hv, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert "is a file" in clean(hv("--run-dir", str(tmp_path / "file"), "list"))
    assert "is empty" in clean(hv("--run-dir", "", "list"))
    assert "others can write to it" in clean(hv("--run-dir", str(open_to_all), "list"), code=1)
    clean(hv("--run-dir", "x" * 5000, "list"), code=1)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x", "1e99", ""])
def test_a_deadline_must_be_a_positive_number_of_seconds(hv: Hv, value: str) -> None:
    assert "--deadline" in clean(hv("stop", "web1", f"--deadline={value}"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("list", "--josn"), "did you mean '--json'"),
        (("list", "extra"), "unexpected extra argument (extra)"),
        (("log", "web1", "-n", "-1"), "hv: -n / --lines: -1 is not in the range"),
        (("start",), "give a FILE or a NAME, or --autostart"),
        (("completion", "tcsh"), "'tcsh' is not one of"),
        (("--run-dir",), "requires an argument"),
    ],
)
def test_bad_usage_names_what_is_wrong(hv: Hv, args: tuple[str, ...], words: str) -> None:
    assert words in clean(hv(*args))


@pytest.mark.parametrize("path", ["/none/qemu", "/tmp"])
@pytest.mark.parametrize("key", ["kvm_path", "kernel_path"])
def test_a_missing_file_is_reported_once(hv: Hv, key: str, path: str) -> None:
    text = f'name = "web1"\ndriver = "kvm"\n[params]\nkvm_flag = "disabled"\n{key} = "{path}"\n'
    first, *problems = clean(hv("verify", "-", stdin=text), code=1).splitlines()
    assert first == "hv: web1: 1 problem"
    assert len(problems) == 1
    assert problems[0].startswith(f"  params.{key}: ")


FORGED: dict[str, str] = {
    "newline": "x\nstate      shutdown",
    "return": "x\rstate      shutdown",
    "escape": "x\x1b[2J\x1b[31m",
    "two newlines": "x\n\n  9. launch: nothing",
}


@pytest.mark.parametrize("path", FORGED.values(), ids=FORGED)
def test_a_path_adds_no_line_to_a_list_of_facts(hv: Hv, tmp_path: Path, path: str) -> None:
    odd = tmp_path / f"{path}.toml"
    disk = path.encode("unicode_escape").decode().replace("\\x", "\\u00")
    odd.write_text(f'name = "web1"\ndriver = "fake"\n[[disks]]\npath = "/srv/{disk}"\n')
    assert hv("start", str(odd)).exit_code == 0
    said = hv("info", "web1").stdout
    assert "\x1b" not in said
    assert "\r" not in said
    titles = [line[:8].strip() for line in said.splitlines()]
    assert titles.count("state") == 1
    assert titles[-2:] == ["file", "disk0"]
    hv("stop", "web1")


@pytest.mark.parametrize("path", FORGED.values(), ids=FORGED)
def test_a_path_adds_no_step_to_a_plan(hv: Hv, tmp_path: Path, path: str) -> None:
    disk = path.encode("unicode_escape").decode().replace("\\x", "\\u00")
    file = tmp_path / "web1.toml"
    file.write_text(f'name = "web1"\ndriver = "chroot"\n[[disks]]\npath = "/srv/{disk}"\n')
    steps = [line for line in hv("plan", str(file)).stdout.partition("\n\n  bwrap")[0].splitlines()[2:] if line]
    assert [line.split(".")[0].strip() for line in steps] == [str(number) for number in range(1, len(steps) + 1)]
