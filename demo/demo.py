"""The main job with both drivers, as a person would do it: every line that begins with $ is really run.

Ends with exit code 0 when everything was as expected, in about ten seconds. What cannot be done here (the chroot
driver needs root and loop devices) is skipped, and says why.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hv_kvm.qemu.boot_sector import boot_sector, write_disk

HV: Final = str(Path(sys.executable).with_name("hv"))
GREETING: Final = "Hello from the guest: 512 bytes of boot sector, no kernel, no download."

KVM_FILE: Final = """\
name = "web1"
driver = "kvm"
memory_mib = 64
vcpus = 2
[[disks]]
path = "{folder}/web1.img"
[params]
kvm_flag = "disabled"  # software emulation, so that it runs everywhere
disk_cache = "writeback"
serial_console = true
"""
CHROOT_FILE: Final = """\
name = "box1"
driver = "chroot"
[[disks]]
path = "{folder}/box1.img"
[params]
init_script = "/etc/start"
"""
START_SCRIPT: Final = """\
#!/bin/sh
case $1 in
  start) sleep 1000 & echo "$!" >/run/service.pid ;;
  stop) kill "$(cat /run/service.pid)" ;;
esac
"""


class UnexpectedError(Exception):
    """Something was not as it has to be; the text says what."""


class Demo:
    """One run: a folder of its own with a node's state in it, and how things are shown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.environment = {**os.environ, "HVCORE_RUN_DIR": str(self.run_dir), "COLUMNS": "150", "NO_COLOR": "1"}
        self.bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")

    def chapter(self, text: str) -> None:
        """A heading."""
        print(f"\n{self.bold[0]}{text}{self.bold[1]}\n{'-' * len(text)}", flush=True)

    def say(self, text: str) -> None:
        """A line of ours between those of the commands."""
        print(f"  {text}", flush=True)

    def hv(self, *words: str, expect: str = "") -> str:
        """Show and run ``hv`` with those words; what it said. Raises `UnexpectedError` when it fails or says else."""
        print(f"{self.bold[0]}$ hv {' '.join(words)}{self.bold[1]}", flush=True)
        done = subprocess.run(
            [HV, *words], capture_output=True, text=True, check=False, env=self.environment, cwd=self.folder, timeout=60
        )
        said = done.stdout + done.stderr
        print(textwrap.indent(said, "  "), end="", flush=True)
        if done.returncode != 0:
            raise UnexpectedError(f"hv {' '.join(words)} ended with {done.returncode}")
        if expect not in said:
            raise UnexpectedError(f"hv {' '.join(words)} does not say {expect!r}")
        return said

    def write(self, name: str, text: str) -> None:
        """Show and write an instance file."""
        text = text.format(folder=self.folder)
        (self.folder / name).write_text(text, encoding="utf-8")
        print(f"{self.bold[0]}$ cat {name}{self.bold[1]}\n{textwrap.indent(text, '  ')}", end="", flush=True)

    @contextlib.contextmanager
    def console(self, name: str) -> Iterator[Callable[[], str]]:
        """``hv console`` beside us; yields what reads its next line. Ended as a person would, with ^C."""
        print(f"{self.bold[0]}$ hv console {name} &{self.bold[1]}", flush=True)
        pipe = subprocess.PIPE
        command = [HV, "console", name]
        with subprocess.Popen(command, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            self.say(_line(process.stderr.fileno(), "connection to the console"))
            yield lambda: _line(process.stdout.fileno(), "line on the console") if process.stdout else ""
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)

    def left(self) -> list[str]:
        """What there still is of this node: files, mounts, processes, loop devices."""
        files = [path for path in self.run_dir.rglob("*") if not path.is_dir() and "cache" not in path.parts]
        found = [f"file {path}" for path in files if path.name != ".disks"]
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        found += [f"mount {line.split()[4]}" for line in mounts if f"{self.folder}/" in line]
        for process in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.fsencode(f"{self.folder}/") in Path("/proc", process, "cmdline").read_bytes():
                    found.append(f"process {process}")
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                if str(self.folder) in backing.read_text(encoding="utf-8"):
                    found.append(f"loop device {backing.parts[3]}")
        return found

    def nothing_left(self) -> None:
        """Say that nothing is left. Raises `UnexpectedError` with what there is."""
        self.hv("list", expect="no instances")
        left = self.left()
        if left:
            raise UnexpectedError(f"left behind: {', '.join(left)}")
        self.say("left behind: no process, no mount, no loop device, no socket, no file")


def _line(fd: int, what: str, deadline_s: float = 20.0) -> str:
    give_up, said = time.monotonic() + deadline_s, b""
    while not said.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, give_up - time.monotonic()))[0]:
            raise UnexpectedError(f"no {what} within {deadline_s:g} s, only {said!r}")
        byte = os.read(fd, 1)
        if not byte:
            raise UnexpectedError(f"no {what}, it ended after {said!r}")
        said += byte
    return said.decode("utf-8", "replace").strip()


def kvm(demo: Demo) -> None:
    """A guest in QEMU: plan, start, console, figures, graceful stop."""
    demo.chapter("A guest in QEMU, with driver kvm")
    write_disk(str(demo.folder / "web1.img"), boot_sector(f"{GREETING}\r\n"))
    demo.write("web1.toml", KVM_FILE)
    demo.hv("check", "web1.toml")
    demo.say("what a start would do, and why each argument is there:")
    demo.hv("explain", "web1.toml", expect="disk_cache")
    demo.hv("start", "web1.toml", "--paused")
    with demo.console("web1") as next_line:
        demo.hv("resume", "web1")
        line = next_line()
        demo.say(f"the guest's first line: {line}")
        if GREETING not in line:
            raise UnexpectedError(f"the guest said {line!r}")
    demo.hv("list", expect="running")
    demo.hv("info", "web1", expect="confinement")
    demo.hv("stop", "web1", expect="powerdown")
    demo.nothing_left()


def missing_for_chroot() -> str | None:
    """Why driver chroot cannot be shown here, or None when it can."""
    if os.geteuid() != 0:
        return "mounting a disk needs root (sudo ./dev demo)"
    for program, package in (("mke2fs", "e2fsprogs"), ("busybox", "busybox-static"), ("losetup", "mount")):
        if shutil.which(program) is None:
            return f"{program} is not here (apt-get install {package})"
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    if found.returncode != 0 or not Path(found.stdout.strip()).exists():
        return "this machine gives us no loop device (a container?)"
    return None


def make_root(folder: Path) -> Path:
    """A disk image with a file system in it that has busybox and a start script."""
    tree = folder / "tree"
    for name in ("bin", "dev", "etc", "proc", "run", "tmp"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy2(busybox, tree / "bin/busybox")
    for applet in ("cat", "kill", "sh", "sleep"):
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "etc/start").write_text(START_SCRIPT, encoding="utf-8")
    (tree / "etc/start").chmod(0o755)
    image = folder / "box1.img"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(image), "16M"]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return image


def chroot(demo: Demo) -> None:
    """A root file system on a disk of its own: start script, figures, stop."""
    demo.chapter("A root file system on a disk, with driver chroot")
    reason = missing_for_chroot()
    if reason is not None:
        demo.say(f"SKIPPED: {reason}")
        return
    image = make_root(demo.folder)
    demo.say(f"{image.name}: 16 MiB of ext4 with busybox and this /etc/start in it:")
    print(textwrap.indent(START_SCRIPT, "    "), end="")
    demo.write("box1.toml", CHROOT_FILE)
    demo.hv("plan", "box1.toml", expect="mount")
    demo.hv("start", "box1.toml")
    demo.hv("list", expect="running")
    demo.hv("info", "box1")
    demo.hv("stop", "box1", expect="stopped")
    demo.nothing_left()


def main() -> int:
    """Everything, in a folder of its own. The exit code."""
    began = time.monotonic()
    # `./dev demo &` in a script hands on an ignored SIGINT, and the console that is ended by it would go on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="hv-") as folder:
        demo = Demo(Path(folder))
        try:
            demo.chapter("Which drivers there are: found, and not one of them imported")
            demo.hv("drivers", expect="kvm")
            kvm(demo)
            chroot(demo)
        except (UnexpectedError, OSError, subprocess.SubprocessError) as error:
            print(f"\nNOT as expected: {error}", file=sys.stderr)
            return 1
        finally:
            tidy(demo)
    print(f"\nEverything was as expected, in {time.monotonic() - began:.1f} s.")
    return 0


def tidy(demo: Demo) -> None:
    """End what still runs when something went wrong, so that the folder can go."""
    for name in ("web1", "box1"):
        if (demo.run_dir / "instances" / name).exists():
            subprocess.run([HV, "stop", name, "--force"], env=demo.environment, check=False, timeout=60)


if __name__ == "__main__":
    sys.exit(main())
