"""``hv`` as a process: signals, pipes, terminals, and third-party drivers."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import File, Process

pytestmark = pytest.mark.heavy  # a process of hv for each test

HV = (sys.executable, "-c", "from hvcore.cli import main; main()")
CLI = Path(__file__).resolve().parents[3] / "hvcore" / "cli"


def test_it_uses_public_names_of_hvcore_only() -> None:
    imported = {
        name
        for path in CLI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imports(node)
    }
    assert {name for name in imported if name.partition(".")[0] == "hvcore" and not name.startswith("hvcore.cli")} <= {
        "hvcore",
        "hvcore.testing",
    }


def imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "?"] if isinstance(node, ast.ImportFrom) else []


def test_rich_is_imported_for_terminals_only(hv_process: Process, instance_file: File) -> None:
    hv_process("start", instance_file())
    code = "import sys; from hvcore.cli.app import hv\ntry: hv.main(['list'])\nfinally: print('rich' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert found.stdout.splitlines()[-1] == "False"


def test_a_closed_pipe_is_not_reported(run_dir: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([*HV, "--help"], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (141, b"")


def test_a_full_disk_is_an_error(hv_process: Process) -> None:
    with open("/dev/full", "wb") as full:
        found = hv_process("drivers", stdout=full)
    assert found.returncode == 1
    assert found.stderr == b"hv: standard output: no space left on device\n"
    assert b"Traceback" not in found.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_survived(run_dir: Path, closed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *HV, "list"]
    found = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert found.returncode == 0
    assert b"Traceback" not in found.stderr


def test_names_of_files_are_utf8_whatever_the_locale(instance_file: File, tmp_path: Path) -> None:
    (tmp_path / "dïsk").write_bytes(b"0" * 512)
    file = Path(instance_file(driver="kvm", params='kvm_path = "/none/qému"'))
    file.write_text(file.read_text().replace("[params]", f'[[disks]]\npath = "{tmp_path}/dïsk"\n[params]'))
    code = "from hv_command import main; main()"
    command = ["env", "PYTHONUTF8=0", "LC_ALL=C", sys.executable, "-c", code, "verify", os.fspath(file)]
    said = subprocess.run(command, capture_output=True, check=False, timeout=300).stderr.decode()
    assert said.startswith("hv: web1: 1 problem\n  params.kvm_path: ")
    assert "/none/qému" in said


def test_characters_outside_the_encoding_of_stdout_are_escaped(
    hv_process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rün").mkdir(mode=0o700)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("HVCORE_DRIVERS", "fake")
    found = hv_process("--run-dir", os.fspath(tmp_path / "rün"), "doctor")
    assert rb"/r\xfcn" in found.stdout
    assert b"error" not in found.stderr


def test_arguments_that_are_not_utf8_are_shown_escaped(hv_process: Process) -> None:
    for args in ((b"info", b"\xff\xfe"), (b"check", b"/\xff"), (b"\xff",), (b"verify", b"\xff"), (b"params", b"\xff")):
        found = hv_process(*args)
        assert found.returncode == 2, args
        assert b"\\" in found.stderr
        assert b"\xff" not in found.stderr
        assert b"Traceback" not in found.stderr


@pytest.mark.usefixtures("other_drivers")
def test_a_driver_without_the_ability_is_exit_code_3(hv_process: Process, instance_file: File) -> None:
    assert hv_process("start", instance_file(driver="bare")).returncode == 0
    for subcommand in ("pause", "console"):
        found = hv_process(subcommand, "web1")
        assert found.returncode == 3
        assert found.stderr.startswith(f"hv: driver bare: does not support {subcommand}".encode())
    assert hv_process("start", "--console", instance_file("web2", driver="bare")).returncode == 3
    assert hv_process("info", "web2").returncode == 4, "nothing is started when its console cannot be opened"


@pytest.mark.usefixtures("other_drivers")
def test_a_broken_driver_hides_no_other(hv_process: Process) -> None:
    found = {entry["name"]: entry for entry in json.loads(hv_process("drivers", "--load", "--json").stdout)}
    assert found["failing"]["verdict"] == "broken"
    assert "lxml is not installed" in found["failing"]["reason"]
    assert found["bare"]["can"] == ["start", "stop"]
    assert hv_process("params", "failing").returncode == 1


@pytest.mark.usefixtures("other_drivers")
@pytest.mark.parametrize(
    ("command", "form"),
    [
        *((("drivers", "--load"), ("--json",)), (("plan", "FILE"), ())),
        *(
            pytest.param(command, form, marks=pytest.mark.slow)
            for command in (("drivers", "--load"), ("doctor",), ("params", "failing"), ("plan", "FILE"))
            for form in (("--json",), ())
        ),
    ],
)
def test_what_a_driver_prints_goes_to_stderr(
    hv_process: Process,
    instance_file: File,
    tmp_path: Path,
    command: tuple[str, ...],
    form: tuple[str, ...],
) -> None:
    ways = ("print('hello print')", "os.write(1, b'hello descriptor\\n')", "subprocess.run(['echo', 'hello program'])")
    talks = "\n".join(ways)
    (tmp_path / "site" / "failing_driver.py").write_text(
        f"import os, subprocess\n{talks}\nimport lxml_is_not_installed\n"
    )
    file = instance_file(driver="failing")
    found = hv_process(*(file if word == "FILE" else word for word in command), *form)
    assert b"hello" not in found.stdout
    for way in (b"print", b"descriptor", b"program"):
        assert b"hello %b\n" % way in found.stderr
    if form:
        json.loads(found.stdout)


@pytest.mark.usefixtures("other_drivers")
def test_what_a_driver_prints_is_no_argument_of_the_next_command(hv_process: Process, tmp_path: Path) -> None:
    """An argument that is read by loading a driver, and a completion."""
    with (tmp_path / "site" / "bare_driver.py").open("a") as file:
        file.write("print('hello')\n")
    found = hv_process("schema-diff", "bare", "bare")
    assert (found.stdout, found.stderr.count(b"hello\n")) == (b"no change\n", 1)
    assert {"plain,do", "plain,driver"} <= {*completions("hv params bare d")}


def test_a_program_inside_an_instance_has_the_stdout_of_hv(hv_process: Process, instance_file: File) -> None:
    hv_process("start", instance_file())
    found = hv_process("exec", "web1", "sh", "-c", "echo out; echo err >&2")
    assert (found.stdout, found.stderr) == (b"out\n", b"err\n")


@pytest.mark.parametrize("closed", ["0", "1", "2"])
def test_a_standard_stream_may_be_closed(hv_process: Process, run_dir: Path, closed: str) -> None:
    line = f'exec "$@" {closed}{"<" if closed == "0" else ">"}&-'
    found = subprocess.run(["sh", "-c", line, "sh", *HV, "drivers"], check=False, capture_output=True, timeout=300)
    assert (found.returncode, found.stderr) == (0, b"")
    assert bool(found.stdout) is (closed != "1")


@pytest.mark.usefixtures("other_drivers")
def test_no_exception_of_a_driver_becomes_a_traceback(hv_process: Process, tmp_path: Path) -> None:
    (tmp_path / "site" / "failing_driver.py").write_text("class Panic(BaseException): ...\nraise Panic('no memory')\n")
    found = hv_process("params", "failing")
    assert found.returncode == 1
    assert found.stderr.startswith(b"hv: internal error: Panic: no memory; ")
    assert found.stderr.count(b"\n") == 1


@pytest.mark.usefixtures("other_drivers")
def test_a_bug_is_one_line_and_a_traceback_only_on_request(
    hv_process: Process, instance_file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = instance_file(driver="bare", params='do = "plan"')
    found = hv_process("plan", file)
    assert found.returncode == 1
    assert found.stderr.count(b"\n") == 1
    assert found.stderr.startswith(b"hv: driver bare (hv-bare 2.0), plan (")
    assert b"bare_driver.py:16): raised ValueError: a bug of the driver; report this to its authors" in found.stderr
    monkeypatch.setenv("HVCORE_DEBUG", "1")
    assert b"Traceback" in hv_process("plan", file).stderr


@pytest.mark.usefixtures("other_drivers")
def test_text_from_a_guest_cannot_control_the_terminal(hv_process: Process, instance_file: File) -> None:
    hv_process("start", instance_file(driver="bare"))
    for args in (("list",), ("info", "web1")):
        shown = hv_process(*args).stdout
        assert b"\x1b" not in shown
        assert b"\\x1b[31mred" in shown


@pytest.mark.usefixtures("other_drivers")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_undoes_the_operation(run_dir: Path, instance_file: File, signum: signal.Signals, code: int) -> None:
    command = [*HV, "start", instance_file(driver="bare", params='do = "wait"')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"waiting\n"
        process.send_signal(signum)
        _, said = process.communicate(timeout=300)
    assert process.returncode == code
    assert said == b"interrupted; web1 is not running, and nothing of it is left\n"
    assert [path for path in run_dir.rglob("*") if "web1" in path.name] == []


@pytest.mark.usefixtures("other_drivers")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_a_signal_a_stop_says_what_is_left(
    hv_process: Process, instance_file: File, signum: signal.Signals, code: int
) -> None:
    hv_process("start", instance_file(driver="bare", params='do = "linger"'))
    with subprocess.Popen([*HV, "stop", "web1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"waiting\n"
        process.send_signal(signum)
        _, said = process.communicate(timeout=300)
    assert process.returncode == code
    assert said == b"interrupted; web1 is still running, see 'hv info web1'\n"
    assert hv_process("stop", "web1", "--force").returncode == 0


_IN_A_DESTRUCTOR = """
import os, time
from hvcore.cli.exit_status import exit_code_of
class Late:
    def __del__(self):
        os.kill(os.getpid(), {signum})
        len("")  # Python calls the handler of a signal between two steps
def run():
    Late()
    time.sleep(60)
    return 0
raise SystemExit(exit_code_of(run, as_json=False))
"""


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_destructor_is_not_lost(signum: signal.Signals, code: int) -> None:
    program = f"import signal; signal.signal({signum:d}, signal.SIG_DFL)" + _IN_A_DESTRUCTOR.format(signum=int(signum))
    run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=300)
    assert (run.returncode, run.stderr) == (code, b"")


def test_a_signal_that_is_sent_again_too_early_is_not_lost() -> None:
    """The thread that sends it runs before the call that starts the thread has returned."""
    early = """
import threading, time
class Early(threading.Timer):
    first = True
    def start(self):
        super().start()
        if Early.first:
            Early.first = False
            time.sleep(0.5)
threading.Timer = Early
"""
    program = early + _IN_A_DESTRUCTOR.format(signum=int(signal.SIGTERM))
    run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=300)
    assert (run.returncode, run.stderr) == (143, b"")


def test_a_watched_list_is_printed_until_enter(hv_process: Process, instance_file: File, run_dir: Path) -> None:
    hv_process("start", instance_file())
    master, slave = pty.openpty()
    with subprocess.Popen([*HV, "list", "--watch"], stdin=slave, stdout=subprocess.PIPE) as process:
        os.close(slave)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"NAME")
        assert process.stdout.readline().startswith(b"web1")
        assert process.stdout.readline().startswith(b"NAME")
        os.write(master, b"\n")
        assert process.wait(30) == 0
    os.close(master)


def completions(words: str, **environment: str) -> list[str]:
    variables = {
        "_HV_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        **environment,
    }
    found = subprocess.run(
        HV, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=300
    )
    assert found.stderr == ""
    return found.stdout.splitlines()


def test_completion_of_subcommands_options_instances_drivers_and_files(
    hv_process: Process, instance_file: File, run_dir: Path
) -> None:
    file = instance_file("web1")
    hv_process("start", file)
    assert completions("hv sta") == ["plain,start"]
    assert "plain,--force" in completions("hv stop --f")
    assert completions("hv stop w") == ["plain,web1"]
    assert completions(f"hv --run-dir {run_dir}/none stop w") == [""]
    assert completions("hv params fa") == ["plain,fake"]
    assert completions(f"hv start {file[:-3]}") == [f"plain,{file}"]
    assert completions(f"hv start {file[:-10]}r") == [f"file,{file[:-10]}r"]


def test_completion_prints_no_errors(run_dir: Path) -> None:
    run_dir.touch()
    assert completions("hv stop w") == [""]
    assert completions("hv nonsense q") == [""]
    assert completions("hv stop w", COMP_CWORD="x") == []


def on_terminal(args: list[str], **environment: str) -> bytes:
    """What a terminal of 200 columns receives."""
    master, slave = os.openpty()
    variables = {"TERM": "xterm", "COLUMNS": "200", **environment}
    with subprocess.Popen([*HV, *args], stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **variables}) as hv:
        os.close(slave)
        shown = b""
        while chunk := _read(master):
            shown += chunk
        assert hv.wait(60) == 0
    os.close(master)
    return shown


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: the last one who had it open has gone
        return b""


def test_colours_only_on_a_terminal_and_not_with_no_color(
    hv_process: Process, instance_file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    hv_process("start", instance_file())
    assert b"\x1b[32mrunning" in on_terminal(["list"])
    plain = on_terminal(["list"], NO_COLOR="1")
    assert b"running" in plain
    assert b"\x1b[32m" not in plain
    assert b"\x1b" not in on_terminal(["list"], TERM="dumb")


@pytest.mark.usefixtures("other_drivers")
def test_a_spinner_shows_slow_work(run_dir: Path, instance_file: File) -> None:
    master, slave = pty.openpty()
    command = [*HV, "start", instance_file(driver="bare", params='do = "wait"')]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "300"}  # for any name of the file
    with subprocess.Popen(command, stdin=slave, stdout=subprocess.DEVNULL, stderr=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        while not re.search(rb"\([1-9][0-9]* s[;)]", shown):  # a busy machine may show none of the seconds
            shown += os.read(master, 4096)
        process.send_signal(signal.SIGTERM)
        while chunk := _read(master):
            shown += chunk
        assert process.wait(60) == 143
    os.close(master)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "the cursor is shown again"
