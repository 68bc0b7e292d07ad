"""The user namespace, refused system calls, and capabilities."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
from hv_chroot.families.isolation import DEFAULT_CAPABILITIES
from hv_chroot.seccomp import MACHINES, filter_program
from hvcore.host.processes.launched import marked_for

REPORTS = """\
    #!/bin/sh
    { cat /proc/self/status; id; mount -t tmpfs x /tmp; chown 5:5 /owned; ls -ln /owned; } > /report-$1 2>&1
    [ $1 = start ] && sleep 1000 &
    [ $1 = start ] || kill -9 -1
"""


def tree_with(images: Any, script: str = REPORTS) -> Path:
    tree = images.tree(script)
    (tree / "owned").write_text("")
    return Path(tree)


@pytest.mark.live
def test_root_inside_is_an_ordinary_uid_outside(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    tree = tree_with(images)
    node.driver("chroot").start(web1(tree, network="none"))
    info = node.info("web1")
    assert info.pid is not None
    outside = int(re.findall(r"Uid:\s+(\d+)", Path(f"/proc/{info.pid}/status").read_text())[0])
    assert outside >= 1_900_019_712
    assert Path(f"/proc/{info.pid}/uid_map").read_text().split() == ["0", str(outside), "65536"]
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []
    for phase in ("start", "stop"):
        report = (tree / f"report-{phase}").read_text()
        assert "uid=0 gid=0" in report
        assert "Seccomp:\t2" in report
        assert "NoNewPrivs:\t1" in report
        assert int(re.findall(r"CapEff:\s+(\w+)", report)[0], 16) & ~0xA00405FB == 0
        assert re.search(r"\s5\s+5\s.* /owned", report)
        assert "permission denied" in report or "not permitted" in report
    # On the file system the owner is the requested one.
    assert (tree / "owned").stat().st_uid == 5


@pytest.mark.live
def test_each_instance_has_users_that_no_other_has(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    """Neither in this run directory, nor in another."""
    other = hvcore.Node(tmp_path / "other")
    started = ((node, "web1"), (node, "web2"), (other, "web1"))
    firsts = set()
    for number, (where, name) in enumerate(started):
        tree = images.tree(name=f"tree{number}")
        where.driver("chroot").start(web1(tree, name=name, network="none", overlay="memory"))
        firsts.add(Path(f"/proc/{where.info(name).pid}/uid_map").read_text())
    assert len(firsts) == 3
    for where, name in started:
        where.stop(name, force=True)


@pytest.mark.live
def test_with_the_nodes_network_root_inside_is_root_by_default(node: hvcore.Node, images: Any, web1: Build) -> None:
    image = images()
    for params, same in (({}, True), ({"user_namespace": "on"}, False)):
        node.driver("chroot").start(web1(image, **params))
        pid = node.info("web1").pid
        assert (os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")) is same
        node.stop("web1", force=True)


@pytest.mark.live
def test_console_is_of_the_same_users_and_filter(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images(), network="none"))
    argv = node.console("web1").argv
    said = subprocess.run(
        argv,
        input=b"cat /proc/self/uid_map; grep Seccomp: /proc/self/status; id; exit 3\n",
        capture_output=True,
        check=False,
    )
    assert said.returncode == 3
    assert re.search(rb"0 +19\d{8} +65536", said.stdout)
    assert b"Seccomp:\t2" in said.stdout
    assert b"uid=0 gid=0" in said.stdout
    node.stop("web1", force=True)


@pytest.mark.live
def test_capabilities_are_those_of_the_parameter(node: hvcore.Node, images: Any, web1: Build) -> None:
    tree = tree_with(images)
    (tree / "report-start").touch()
    node.driver("chroot").start(web1(tree, network="none", capabilities=["CAP_KILL"]))
    node.stop("web1", force=True)
    report = (tree / "report-start").read_text()
    assert int(re.findall(r"CapBnd:\s+(\w+)", report)[0], 16) == 1 << 5
    assert (tree / "owned").stat().st_uid == 0


@pytest.mark.live
def test_seccomp_off_installs_no_filter(node: hvcore.Node, images: Any, web1: Build) -> None:
    tree = tree_with(images)
    node.driver("chroot").start(web1(tree, seccomp="off"))
    node.stop("web1")
    assert "Seccomp:\t0" in (tree / "report-start").read_text()
    assert "Seccomp:\t0" in (tree / "report-stop").read_text()


# Installs the filter given in hexadecimal, makes the calls that are named, and prints their errors.
_PROBE = """\
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
program = bytes.fromhex(sys.argv[1])
buffer = ctypes.create_string_buffer(program, len(program))
fprog = (ctypes.c_uint64 * 2)(len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, fprog, 0, 0) == 0
for text in sys.argv[2:]:
    number, *arguments = (int(word, 0) for word in text.split(","))
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(each) for each in arguments))
    print(errno.errorcode.get(ctypes.get_errno(), "OK") if result < 0 else "OK")
"""


def errors(capabilities: tuple[str, ...], *calls: str) -> list[str]:
    program = filter_program(os.uname().machine, capabilities).hex()
    ran = subprocess.run(
        [sys.executable, "-c", _PROBE, program, *calls], check=True, capture_output=True, text=True, timeout=300
    )
    return ran.stdout.split()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
class TestFilter:
    def test_calls_that_no_service_needs_are_refused(self) -> None:
        calls = ("165,0,0,0,0,0", "155,0,0", "321,99,0,0", "298,0,0,0,0,0", "250,0", "425,0,0", "323,0", "246,0,0,0,0")
        assert errors(DEFAULT_CAPABILITIES, *calls) == ["EPERM"] * len(calls)

    def test_new_namespaces_are_refused_and_threads_are_not(self) -> None:
        made = errors((), "272,0x10000000", "272,0x80", "272,0x200", "56,0x10000011,0,0,0,0", "435,0,0")
        assert made == ["EPERM", "EPERM", "OK", "EPERM", "ENOSYS"]

    def test_pushing_characters_into_a_terminal_is_refused(self) -> None:
        assert errors((), "16,0,0x5412,0", "16,0,0x100005412,0", "16,99,0x5401,0") == ["EPERM", "EPERM", "EBADF"]

    def test_sockets_of_known_families_only(self) -> None:
        assert errors((), "41,1,1,0", "41,2,1,0", "41,38,5,0", "41,40,1,0") == ["OK", "OK"] + ["EAFNOSUPPORT"] * 2

    def test_calls_that_are_newer_or_of_another_kind_do_not_exist(self) -> None:
        assert errors((), "467", "9999", "0x40000027") == ["ENOSYS"] * 3

    def test_a_capability_lets_its_own_calls_through(self) -> None:
        assert errors(("CAP_SYS_ADMIN",), "165,0,0,0,0,0", "321,99,0,0") != ["EPERM", "EPERM"]
        assert errors(("CAP_BPF",), "321,99,0,0") == ["EINVAL"]

    def test_names_and_numbers_are_the_kernels(self) -> None:
        from hv_chroot.seccomp import _DENIED

        header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
        if not header.exists():
            pytest.skip("needs linux-libc-dev")
        known = {name: int(number) for name, number in re.findall(r"__NR_(\w+) (\d+)", header.read_text())}
        numbers = {name: number for name, _, number, _ in _DENIED if name in known}
        assert numbers == {name: known[name] for name in numbers}
        assert len(numbers) > 40


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_is_well_formed(machine: str) -> None:
    program = filter_program(machine, ())
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096  # BPF_MAXINSNS
    assert ctypes.sizeof(ctypes.c_uint64) == 8


def test_another_architecture_has_none() -> None:
    with pytest.raises(KeyError):
        filter_program("riscv64", ())


@pytest.mark.live
def test_launching_process_takes_no_mount_of_another_instance_along(
    node: hvcore.Node, images: Any, web1: Build
) -> None:
    # Such a copy keeps the other's disk in use, and vanishes with its directory while bubblewrap works on it.
    driver = node.driver("chroot")
    driver.start(web1(images(), name="web0", network="none"))
    tree = images.tree("#!/bin/sh\n[ $1 = stop ] || { sleep 1000 & read _ < /go; }\n")
    os.mkfifo(tree / "go")
    directory = node.run_dir / "instances/web2"
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(driver.start, web1(tree, name="web2", network="none"))
        try:
            while not any("\tsleep\n" in status for status in map(status_of, marked_for(directory, ANY_UID))):
                assert not start.done()
            launched = marked_for(directory, ANY_UID)
            own = os.readlink("/proc/self/ns/mnt")
            tables = [mounted_for(pid) for pid in launched if os.readlink(f"/proc/{pid}/ns/mnt") != own]
        finally:
            (tree / "go").write_text("\n")
        start.result()
    assert len(tables) > 2
    assert [table for table in tables if b"instances/web0/" in table] == []
    for name in ("web0", "web2"):
        node.stop(name, force=True)


@pytest.mark.live
@pytest.mark.parametrize("network", ["host", "none"])
def test_the_program_of_its_init_is_on_a_read_only_mount(
    node: hvcore.Node, images: Any, web1: Build, network: str
) -> None:
    # Root inside can name it, and without a user namespace it owns the program that the node executes next.
    node.driver("chroot").start(web1(images(), network=network))
    pid = node.info("web1").pid
    assert os.readlink(f"/proc/{pid}/exe").endswith("bwrap")
    assert os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY
    node.stop("web1", force=True)


ANY_UID = range(2**32)


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def mounted_for(pid: int) -> bytes:
    return Path(f"/proc/{pid}/mountinfo").read_bytes()
