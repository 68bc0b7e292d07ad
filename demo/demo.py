"""The main job with both drivers, as an administrator does it: the demo runs every line that begins with $.

Exits with 0 when everything was as expected, after about ten seconds. A part that this machine cannot run (the chroot
driver needs root and loop devices) is skipped, with the reason.
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
kvm_flag = "disabled"  # emulated, so the guest runs everywhere
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
    """A command did not do what the demo expects."""


class Demo:
    """One run: a new folder with a node's state in it, and the output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.environment = {**os.environ, "HVCORE_RUN_DIR": str(self.run_dir), "COLUMNS": "150", "NO_COLOR": "1"}
        self.bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")

    def chapter(self, text: str) -> None:
        """A heading."""
        print(f"\n{self.bold[0]}{text}{self.bold[1]}\n{'-' * len(text)}", flush=True)

    def say(self, text: str) -> None:
        """A line of the demo between those of the commands."""
        print(f"  {text}", flush=True)

    def hv(self, *words: str, expect: str = "") -> str:
        """Show and run ``hv``; its output. Raises `UnexpectedError` when it fails or its output lacks ``expect``."""
        print(f"{self.bold[0]}$ hv {' '.join(words)}{self.bold[1]}", flush=True)
        done = subprocess.run(
            [HV, *words], capture_output=True, text=True, check=False, env=self.environment, cwd=self.folder, timeout=60
        )
        output = done.stdout + done.stderr
        print(textwrap.indent(output, "  "), end="", flush=True)
        if done.returncode != 0:
            raise UnexpectedError(f"hv {' '.join(words)} exited with {done.returncode}")
        if expect not in output:
            raise UnexpectedError(f"hv {' '.join(words)} does not print {expect!r}")
        return output

    def write(self, name: str, text: str) -> None:
        """Show and write an instance file."""
        text = text.format(folder=self.folder)
        (self.folder / name).write_text(text, encoding="utf-8")
        print(f"{self.bold[0]}$ cat {name}{self.bold[1]}\n{textwrap.indent(text, '  ')}", end="", flush=True)

    @contextlib.contextmanager
    def console(self, name: str) -> Iterator[Callable[[], str]]:
        """``hv console`` in the background; yields a function that reads its next line. Ended with ^C."""
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

    def leftovers(self) -> list[str]:
        """The files, mounts, processes and loop devices of this node that still exist."""
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
        """Print that nothing is left. Raises `UnexpectedError` with the leftovers."""
        self.hv("list", expect="no instances")
        leftovers = self.leftovers()
        if leftovers:
            raise UnexpectedError(f"left behind: {', '.join(leftovers)}")
        self.say("left behind: no process, no mount, no loop device, no socket, no file")


def _line(fd: int, what: str, deadline_s: float = 20.0) -> str:
    give_up, line = time.monotonic() + deadline_s, b""
    while not line.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, give_up - time.monotonic()))[0]:
            raise UnexpectedError(f"no {what} within {deadline_s:g} s, only {line!r}")
        byte = os.read(fd, 1)
        if not byte:
            raise UnexpectedError(f"no {what}, the output ended after {line!r}")
        line += byte
    return line.decode("utf-8", "replace").strip()


def kvm(demo: Demo) -> None:
    """A guest in QEMU: plan, start, console, figures, shutdown."""
    demo.chapter("A guest in QEMU, with driver kvm")
    write_disk(str(demo.folder / "web1.img"), boot_sector(f"{GREETING}\r\n"))
    demo.write("web1.toml", KVM_FILE)
    demo.hv("check", "web1.toml")
    demo.say("the steps of a start, and the reason for each argument:")
    demo.hv("explain", "web1.toml", expect="disk_cache")
    demo.hv("start", "web1.toml", "--paused")
    with demo.console("web1") as next_line:
        demo.hv("resume", "web1")
        line = next_line()
        demo.say(f"the guest's first line: {line}")
        if GREETING not in line:
            raise UnexpectedError(f"the guest printed {line!r}")
    demo.hv("list", expect="running")
    demo.hv("info", "web1", expect="confinement")
    demo.hv("stop", "web1", expect="powerdown")
    demo.nothing_left()


def missing_for_chroot() -> str | None:
    """Why driver chroot cannot run here, or None when it can."""
    if os.geteuid() != 0:
        return "mounting a disk needs root (sudo ./dev demo)"
    for program, package in (("mke2fs", "e2fsprogs"), ("busybox", "busybox-static"), ("losetup", "mount")):
        if shutil.which(program) is None:
            return f"{program} is not installed (apt-get install {package})"
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    if found.returncode != 0 or not Path(found.stdout.strip()).exists():
        return "this machine has no free loop device (a container?)"
    return None


def make_root(folder: Path) -> Path:
    """A disk image whose file system has busybox and a start script."""
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
    """A root file system on a disk: start script, figures, stop."""
    demo.chapter("A root file system on a disk, with driver chroot")
    reason = missing_for_chroot()
    if reason is not None:
        demo.say(f"SKIPPED: {reason}")
        return
    image = make_root(demo.folder)
    demo.say(f"{image.name}: 16 MiB of ext4 with busybox and this /etc/start:")
    print(textwrap.indent(START_SCRIPT, "    "), end="")
    demo.write("box1.toml", CHROOT_FILE)
    demo.hv("plan", "box1.toml", expect="mount")
    demo.hv("start", "box1.toml")
    demo.hv("list", expect="running")
    demo.hv("info", "box1")
    demo.hv("stop", "box1", expect="stopped")
    demo.nothing_left()


def main() -> int:
    """The whole demo, in a new folder; the exit status."""
    began = time.monotonic()
    # With `./dev demo &` in a script SIGINT is ignored, and so it would be in the console, which has to end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="hv-") as folder:
        demo = Demo(Path(folder))
        try:
            demo.chapter("The installed drivers: found without importing them")
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
    """Stop the instances that a failure has left, so that the folder can be removed."""
    for name in ("web1", "box1"):
        if (demo.run_dir / "instances" / name).exists():
            subprocess.run([HV, "stop", name, "--force"], env=demo.environment, check=False, timeout=60)


if __name__ == "__main__":
    sys.exit(main())
