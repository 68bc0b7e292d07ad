"""A TPM in real guests: swtpm is confined, keeps its state, and exits with the guest, whichever is killed first."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from world import PATIENCE_S, World

import hvcore
import hvcore.plugin
from hv_kvm.qmp import connect
from hvcore import State
from hvcore.host.processes.launched import members
from hvcore.model.record import Phase
from hvcore.plugin import read_status

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("swtpm") is None, reason="no swtpm: ./dev setup"),
]
_STATE: Final = "tpm2-00.permall"


def tpm_params(world: World, name: str = "web1", **more: Any) -> dict[str, Any]:
    directory = world.root / f"{name},tpm"
    directory.mkdir(mode=0o700, exist_ok=True)
    return {"tpm_version": "2.0", "tpm_state_path": str(directory), **more}


def swtpm(world: World, name: str = "web1") -> hvcore.plugin.ProcessId:
    pid = read_status(world.dir(name) / "tpm.status").pid
    assert pid is not None
    process = hvcore.plugin.identify(pid)
    assert process is not None
    return process


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("confinement", ["auto", "user", "off"])
def test_the_guest_has_a_tpm_that_keeps_its_state(world: World, confinement: str) -> None:
    more = tpm_params(world, confinement=confinement)
    directory = Path(more["tpm_state_path"])
    before = directory.stat().st_uid
    world.start(**more)
    with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S) as client:
        (found,) = client.execute("query-tpm", deadline_s=PATIENCE_S)
        assert (found["model"], found["options"]["type"]) == ("tpm-crb", "emulator")
    process = swtpm(world)
    assert "Max file size             4194304              4194304" in Path(f"/proc/{process.pid}/limits").read_text()
    assert int(status_of(process.pid)["SigIgn"], 16) & 1 << signal.SIGXFSZ - 1
    assert world.node.stop("web1", force=True).changed
    assert not hvcore.plugin.alive(process)
    kept = (directory / _STATE).read_bytes()
    assert kept
    assert {path.stat().st_uid for path in (directory, *directory.iterdir())} == {before}
    world.start(paused=True, **more)  # the firmware's first words to a TPM change what it keeps
    assert (directory / _STATE).read_bytes() == kept
    world.node.stop("web1", force=True)


def test_it_is_confined_with_its_own_uid(world: World, root: None) -> None:
    world.start(**tpm_params(world))
    status, qemu = status_of(swtpm(world).pid), status_of(world.pid())
    assert int(status["Uid"].split()[0]) in world.uids
    assert status["Uid"] != qemu["Uid"]
    assert (status["Seccomp"], status["NoNewPrivs"], int(status["CapBnd"], 16)) == ("2", "1", 0)
    assert os.readlink(f"/proc/{swtpm(world).pid}/ns/net") != os.readlink("/proc/self/ns/net")
    assert sorted(os.listdir(f"/proc/{swtpm(world).pid}/root/")) != sorted(os.listdir("/"))


def test_swtpm_exits_when_qemu_is_killed(world: World) -> None:
    world.start(**tpm_params(world))
    process = swtpm(world)
    world.kill()
    assert hvcore.plugin.wait_gone(process, 10)
    assert world.info().state is State.CRASHED
    assert world.node.cleanup("web1").changed
    assert world.leftovers() == []


def test_a_killed_swtpm_is_reported_and_the_guest_keeps_running(world: World) -> None:
    world.pressable(**tpm_params(world))
    process = swtpm(world)
    assert world.info().reason is None
    os.kill(process.pid, signal.SIGKILL)
    assert hvcore.plugin.wait_gone(process, 10)
    info = world.info()
    assert (info.state, info.reason) == (State.RUNNING, "its tpm died; restart the instance to get it back")
    assert world.node.stop("web1", deadline_s=300).stopped_by == "powerdown"


def test_a_killed_start_leaves_neither_process(world: World) -> None:
    """The start is killed after the launch of swtpm and before that of QEMU."""
    instance = world.instance(**tpm_params(world))
    starter = os.fork()
    if starter == 0:
        dying = hvcore.Node(
            world.run_dir, uid_pool=world.uids, progress=lambda text: os.kill(os.getpid(), signal.SIGKILL)
        )
        dying.driver("kvm").start(instance)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(starter, 0)[1]) == signal.SIGKILL
    found = members(world.dir() / "tpm.alive", world.dir() / "tpm.status")
    assert found
    assert [one.what for one in world.node.recover()] == ["undone"]
    assert not any(hvcore.plugin.alive(process) for process in found)
    assert world.leftovers() == []


def test_a_start_that_was_interrupted_late_is_finished(world: World) -> None:
    world.start(**tpm_params(world))
    world.save(replace(world.record(), phase=Phase.STARTING))
    assert [found.what for found in world.node.recover()] == ["finished"]
    assert world.info().state is State.RUNNING


def owners(directory: str) -> set[int]:
    return {path.stat().st_uid for path in (Path(directory), *Path(directory).iterdir())}


def test_a_directory_belongs_to_one_instance_until_it_stops(world: World) -> None:
    more = tpm_params(world)
    world.start(**more)
    before = owners(more["tpm_state_path"])
    with pytest.raises(hvcore.DiskInUseError, match="in use by instance web1"):
        world.start("web2", **more)
    assert world.info().state is State.RUNNING
    assert owners(more["tpm_state_path"]) == before


def test_a_directory_belongs_to_one_instance_of_all_run_directories(world: World, tmp_path: Path) -> None:
    more = tpm_params(world)
    world.start(**more)
    before = owners(more["tpm_state_path"])
    elsewhere = hvcore.Node(tmp_path / "elsewhere", uid_pool=world.uids)
    with pytest.raises(hvcore.DiskInUseError, match="another run directory"):
        elsewhere.driver("kvm").start(world.instance("web2", **more))
    assert owners(more["tpm_state_path"]) == before


def test_cleanup_after_a_crash_takes_the_directory_from_no_other_instance(world: World, tmp_path: Path) -> None:
    """The record still names the owner to restore, although another instance has the directory now."""
    more = tpm_params(world)
    world.start(**more)
    world.kill()
    elsewhere = hvcore.Node(tmp_path / "elsewhere", uid_pool=world.uids)
    elsewhere.driver("kvm").start(world.instance("web2", **more))
    try:
        before = owners(more["tpm_state_path"])
        assert world.node.cleanup("web1").changed
        assert owners(more["tpm_state_path"]) == before
    finally:
        elsewhere.stop("web2", force=True)


def test_another_directory_at_that_path_keeps_its_owner(world: World, tmp_path: Path) -> None:
    """Otherwise a user who can write to the parent directory could get any directory of the node."""
    more = tpm_params(world)
    path, theirs = Path(more["tpm_state_path"]), tmp_path / "theirs"
    os.chown(path, 1234, -1)
    theirs.mkdir()
    world.start(**more)
    path.rename(tmp_path / "moved")
    path.symlink_to(theirs)
    world.node.stop("web1", force=True)
    assert theirs.stat().st_uid == os.geteuid()
    assert world.leftovers() == []


def test_a_half_written_state_after_a_kill_does_not_prevent_a_start(world: World) -> None:
    more = tpm_params(world)
    torn = Path(more["tpm_state_path"], "TMP2-00.permall")
    torn.write_bytes(b"half")
    world.start(**more)
    assert world.info().state is State.RUNNING
    assert torn.with_name(_STATE).stat().st_size > 1000


def test_a_directory_with_other_things_in_it_is_refused(world: World) -> None:
    more = tpm_params(world)
    Path(more["tpm_state_path"], "passwd").touch()
    with pytest.raises(hvcore.VerifyError, match=r"tpm_state_path: holds 'passwd', which does not belong to swtpm"):
        world.start(**more)


def test_a_missing_program_is_refused_before_the_start(world: World) -> None:
    with pytest.raises(hvcore.VerifyError, match=r"swtpm_path: .*/no/swtpm"):
        world.start(**tpm_params(world, swtpm_path="/no/swtpm"))


def test_a_program_that_fails_says_why(world: World) -> None:
    """The state is not that of a TPM. QEMU exits too, and the error quotes both."""
    more = tpm_params(world)
    Path(more["tpm_state_path"], _STATE).write_bytes(b"not a state")
    with pytest.raises(hvcore.LaunchError, match=r"TPM result.*; tpm: .swtpm"):
        world.start(**more)
    assert world.leftovers() == []
