"""Of a program's output the line that names the cause is quoted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore import LaunchError
from hvcore.headline import headline

QEMU = "/usr/bin/qemu-system-x86_64"
NODE = '{"driver":"qcow2","node-name":"disk0","file":{"driver":"file","filename":"/dev/fdset/100"}}'


@pytest.mark.parametrize(
    ("argv", "output", "line"),
    [
        (
            ("mount", "--", "/srv/a.img", "/x"),
            (
                "mount: /x: wrong fs type, bad option, bad superblock on /dev/loop0, missing codepage or other error.\n"
                "       dmesg(1) may have more information after failed mount system call.\n"
            ),
            "mount: /x: wrong fs type, bad option, bad superblock on /dev/loop0, missing codepage or other error.",
        ),
        (
            (QEMU, "-device", "virtio-blk-pci,id=disk0-dev,drive=disk0"),
            (
                f'{QEMU}: -device virtio-blk-pci,id=disk0-dev,drive=disk0: Failed to get "write" lock\n'
                "Is another process using the image [/dev/fdset/1]?\n"
            ),
            f'{QEMU}: -device disk0-dev: Failed to get "write" lock',
        ),
        (
            (QEMU, "-blockdev", NODE),
            f"{QEMU}: -blockdev {NODE}: Parameter 'encrypt.key-secret' is required for cipher\ntpm: no output\n",
            f"{QEMU}: -blockdev disk0: Parameter 'encrypt.key-secret' is required for cipher",
        ),
        (
            (QEMU, "-m", "size=1M"),
            (
                "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]\n"
                "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory\n"
                "qemu-system-x86_64: terminating on signal 15 from pid 3\n"
            ),
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
        ),
        (
            (QEMU,),
            "bwrap: execvp /usr/bin/qemu-system-x86_64: No such file or directory\n",
            "bwrap: execvp /usr/bin/qemu-system-x86_64: No such file or directory",
        ),
        (("/ganeti-chroot", "start"), "starting\ncannot find /etc/rc\n", "cannot find /etc/rc"),
        (
            ("/ganeti-chroot", "start"),
            "rc: bad argument\nUsage: rc\nTry 'rc --help' for more information.\n",
            "rc: bad argument",
        ),
        (("x",), "warning: one\n", "warning: one"),
        (("x",), "", ""),
    ],
)
def test_the_line_that_names_the_cause(argv: tuple[str, ...], output: str, line: str) -> None:
    assert headline(output, argv) == line


def test_a_long_line_keeps_its_end_where_the_cause_is() -> None:
    found = headline(f"qemu: {'x' * 2000}: No space left on device")
    assert len(found) == 300
    assert found.endswith("No space left on device")


def test_the_error_of_a_launch_quotes_it_and_keeps_everything_else() -> None:
    output = "mount: /x: wrong fs type\n   dmesg(1) may have more information after failed mount system call.\n"
    error = LaunchError(name="web1", how="cannot mount, mount exited with 32", output=output, argv=("mount", "/x"))
    assert str(error) == 'web1: cannot mount, mount exited with 32: "mount: /x: wrong fs type"'
    assert error.to_json()["output"] == output


@given(st.text(), st.lists(st.text(), max_size=4))
def test_no_output_raises(output: str, argv: list[str]) -> None:
    assert len(headline(output, argv)) <= 300
