"""What a guest's QEMU left in its private directory is kept, and where it can lead nowhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from world import World

from hv_kvm.resources.left_behind import QUARANTINE, has_foreign_file, quarantine, unlink_inside

OWN: Final = ("events.out", "qemu.pid")


def file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("found")


@pytest.mark.parametrize(
    ("make", "foreign"),
    [
        (lambda top: file(top / "events.out"), False),
        (lambda top: os.mkfifo(top / "events.in"), False),
        (lambda top: (top / "vnc-tls").mkdir(), False),
        (lambda top: file(top / "core"), True),
        (lambda top: file(top / "deep" / "er" / "qemu.pid"), True),
        (lambda top: (top / "link").symlink_to("/etc/shadow"), True),
    ],
)
def test_only_files_that_are_not_ours_count(tmp_path: Path, make: Callable[[Path], None], *, foreign: bool) -> None:
    make(tmp_path)
    assert has_foreign_file(tmp_path, OWN) is foreign


def test_a_full_run_directory_has_room_for_the_quarantine(tmp_path: Path) -> None:
    (tmp_path / QUARANTINE).touch()  # so no directory can be made
    file(tmp_path / "guest" / "core")
    kept = quarantine(tmp_path, "web1", tmp_path / "guest")
    assert kept.parent == tmp_path
    assert (kept / "core").read_text() == "found"


def test_a_link_of_the_guest_leads_no_removal_elsewhere(tmp_path: Path) -> None:
    file(tmp_path / "elsewhere" / "key.pem")
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "tls").symlink_to(tmp_path / "elsewhere")
    unlink_inside(tmp_path / "guest", "tls/key.pem")
    assert (tmp_path / "elsewhere" / "key.pem").exists()
    unlink_inside(tmp_path / "guest", "tls")
    unlink_inside(tmp_path / "guest", "not/there")
    assert os.listdir(tmp_path / "guest") == []


@pytest.mark.live
@pytest.mark.parametrize("force", [False, True])
def test_files_that_a_guest_left_are_kept_and_named(world: World, *, force: bool) -> None:
    world.undo.append(lambda: shutil.rmtree(world.run_dir / QUARANTINE))
    world.pressable()
    file(world.dir() / "guest" / "found" / "page")
    outcome = world.node.stop("web1", force=force)
    (kept,) = (world.run_dir / QUARANTINE).iterdir()
    assert (kept / "found" / "page").read_text() == "found"
    assert kept.name.startswith("web1.")
    assert outcome.notes == (f"the guest left files in its private directory; they are in {kept}",)
    assert not world.node.instances()


@pytest.mark.live
def test_a_password_is_never_kept(world: World) -> None:
    secret = world.root / "password"
    secret.write_text("secret12")
    secret.chmod(0o600)
    world.start(vnc_bind_address="127.0.0.1", vnc_password_file=str(secret))
    world.kill()
    world.node.cleanup("web1")
    assert not (world.run_dir / QUARANTINE).exists()
    assert world.leftovers() == []
