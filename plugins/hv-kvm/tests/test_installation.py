"""The sandbox of a QEMU that is not the system's shows its installation, and nothing around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hv_kvm.confinement import sandbox_of
from hv_kvm.machine.spec import KvmSpec
from hvcore.plugin import AsUser, Sandbox, sandboxed


def sandbox(qemu: Path) -> Sandbox:
    spec = KvmSpec(
        name="w", uuid="", machine="pc", qemu=str(qemu), memory_mib=64, vcpus=1, kvm="", confinement="auto", acpi=True
    )
    return sandbox_of(spec, AsUser(5), guest_dir=Path("/g"), shown={}, kvm=False)


@pytest.mark.parametrize("path", ["/usr/bin/qemu", "/usr/local/bin/qemu", "/usr/libexec/qemu-kvm"])
def test_usr_is_always_shown(path: str) -> None:
    assert sandbox(Path(path)).view.read_only == ()


def test_an_installation_elsewhere_shows_its_own_directories(tmp_path: Path) -> None:
    for name in ("bin", "lib", "share", "private"):
        (tmp_path / name).mkdir()
    shown = [(str(tmp_path / name),) * 2 for name in ("bin", "lib", "share")]
    assert list(sandbox(tmp_path / "bin" / "qemu").view.read_only) == shown


def test_a_link_to_it_shows_where_it_really_is(tmp_path: Path) -> None:
    (tmp_path / "opt/bin").mkdir(parents=True)
    (tmp_path / "opt/bin/qemu").touch()
    (tmp_path / "qemu").symlink_to("opt/bin/qemu")
    assert sandbox(tmp_path / "qemu").view.read_only == ((str(tmp_path / "opt/bin"),) * 2,)


def test_an_installation_where_it_was_built_shows_that_directory(tmp_path: Path) -> None:
    assert sandbox(tmp_path / "qemu").view.read_only == ((str(tmp_path),) * 2,)


def test_the_whole_file_system_is_never_shown() -> None:
    assert sandbox(Path("/no-such-qemu")).view.read_only == (("/no-such-qemu", "/no-such-qemu"),)


def test_every_uid_may_pass_the_directories_on_the_way(tmp_path: Path) -> None:
    command = sandboxed(sandbox(tmp_path / "qemu"), ("qemu",), 3).argv
    place = command.index(str(tmp_path), command.index("--ro-bind", command.index("/dev")))
    for parent in tmp_path.parents[:-1]:
        at = command.index(str(parent))
        assert command[at - 3 : at] == ("--perms", "0755", "--dir")
        assert at < place
