"""Everything that an instance holds is there while it runs, and gone after every way in which it can end.

These tests do not read the ledger, which is internal. They look on the node: for a uid that runs processes, a disk that
is refused to others, a link, a mount, a group.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import kept_node
import kept_proc as proc
import pytest
from kept_node import FAILS, Kept, killed_when

import hvcore

pytestmark = pytest.mark.live


@dataclass(frozen=True)
class Held:
    """One kind of thing: whether the instance holds it now."""

    name: str
    there: Callable[[Kept], bool]

    def __str__(self) -> str:
        return self.name


def launched(kept: Kept, name: str) -> bool:
    """Whether there is a process of that name among those that were launched for the instance."""
    return any(found.startswith(name) for found in kept.launched().values())


def inside(kept: Kept) -> bool:
    """Whether the instance has a process in another pid namespace than ours."""
    ours = os.readlink("/proc/self/ns/pid")
    return any(os.readlink(f"/proc/{pid}/ns/pid") != ours for pid in kept.launched())


def uid(kept: Kept) -> bool:
    return any(int(name) in kept.uids for name in kept.reservations() if name.isdecimal())


def uid_range(kept: Kept) -> bool:
    return any(int(name) >= 1 << 16 and int(name) not in kept.uids for name in kept.reservations() if name.isdecimal())


def link(kept: Kept) -> bool:
    return kept.vnc.is_symlink() and os.readlink(kept.vnc).startswith(f"{kept.dir}/")


def given_away(kept: Kept) -> bool:
    return kept.tpm.stat().st_uid in kept.uids


def root_of(kept: Kept) -> bool:
    return bool(proc.rooted(str(kept.root)))


DISK: Final = Held("disk", lambda kept: proc.locked(kept.disk))
KVM: Final = (
    Held("uid", uid),
    DISK,
    Held("companion", lambda kept: launched(kept, "swtpm")),
    Held("owner", given_away),
    Held("process", lambda kept: launched(kept, "qemu")),
    Held("link", link),
)
CHROOT: Final = (
    Held("uid-range", uid_range),
    Held("mount", lambda kept: bool(kept.mounted())),
    Held("cgroup", lambda kept: bool(kept.groups())),
    Held("veth", lambda kept: bool(kept_node.links() - kept.links)),
    Held("process", inside),
)
PLAIN: Final = (
    Held("mount", lambda kept: bool(kept.mounted())),
    Held("rooted", root_of),
)


def held(kept: Kept, kinds: tuple[Held, ...]) -> set[str]:
    return {one.name for one in kinds if one.there(kept)}


def names(kinds: tuple[Held, ...]) -> set[str]:
    return {one.name for one in kinds}


def cannot_use(kept: Kept, instance: hvcore.Instance) -> None:
    """Nobody else gets its disk: no other instance here, and none of another run directory."""
    other = Kept(kept.root / "elsewhere")
    for node in (kept.node, other.node):
        with pytest.raises(hvcore.DiskInUseError):
            node.driver(instance.driver).start(instance)
    assert other.node.instances() == []


def kvm(kept: Kept) -> hvcore.Instance:
    return kept.full_kvm()


def in_namespaces(kept: Kept) -> hvcore.Instance:
    return kept.chroot(kept.image(), bridge="br0", process_limit=100)


def plain(kept: Kept) -> hvcore.Instance:
    return kept.chroot(kept.image(), isolation="none")


Make = Callable[[Kept], hvcore.Instance]
ALL: Final[dict[str, tuple[Make, tuple[Held, ...]]]] = {
    "kvm": (kvm, KVM),
    "chroot": (in_namespaces, CHROOT),
    "chroot-plain": (plain, PLAIN),
}


@pytest.mark.parametrize("force", [False, True], ids=["politely", "force"])
@pytest.mark.parametrize("what", ALL)
def test_what_it_holds_is_there_until_it_is_stopped(bridge: str, kept: Kept, what: str, *, force: bool) -> None:
    make, kinds = ALL[what]
    instance = make(kept)
    kept.start(instance)
    assert held(kept, kinds) == names(kinds)
    assert (kept.dir / "record.json").exists()
    if not force:
        cannot_use(kept, replaced(instance, f"{kept.name}-2"))
    kept.node.stop(kept.name, force=force, deadline_s=2)
    assert held(kept, kinds) == set()
    assert kept.settled() == []


def replaced(instance: hvcore.Instance, name: str) -> hvcore.Instance:
    """The same under another name, and without what only one instance can have beside the disk."""
    params = {key: value for key, value in instance.params.items() if not key.startswith(("tpm", "vnc"))}
    return hvcore.Instance(
        name=name, driver=instance.driver, memory_mib=32, disks=instance.disks, nics=instance.nics, params=params
    )


@pytest.mark.parametrize(
    ("what", "kind"), [(what, kind) for what, (_, kinds) in ALL.items() for kind in kinds], ids=str
)
def test_a_starter_that_is_killed_leaves_nothing_that_force_does_not_release(
    bridge: str, kept: Kept, what: str, kind: Held
) -> None:
    """Killed as soon as the thing is there."""
    instance = ALL[what][0](kept)
    assert killed_when(lambda: kind.there(kept), lambda: kept.start(instance)), "it never held that"
    if kind is ALL[what][1][-1]:  # the command takes half a second
        kept.hv("stop", "--force", kept.name)
    else:
        assert kept.node.stop(kept.name, force=True).changed
    assert held(kept, ALL[what][1]) == set()
    assert kept.settled() == []


@pytest.mark.parametrize("what", ALL)
def test_a_starter_that_is_killed_leaves_nothing_that_recovery_does_not_release(
    bridge: str, kept: Kept, what: str
) -> None:
    make, kinds = ALL[what]
    instance = make(kept)
    assert killed_when(lambda: kinds[-1].there(kept), lambda: kept.start(instance))
    kept.node.recover()
    for info in kept.node.instances():  # one that had come up is finished, and runs
        assert info.state is hvcore.State.RUNNING
        kept.node.stop(info.name, force=True)
    assert kept.settled() == []


@pytest.mark.parametrize("what", ALL)
def test_a_stopper_that_is_killed_leaves_nothing_that_force_does_not_release(
    bridge: str, kept: Kept, what: str
) -> None:
    make, kinds = ALL[what]
    kept.start(make(kept))
    gone = kinds[-1]
    assert killed_when(lambda: not gone.there(kept), lambda: kept.node.stop(kept.name, force=True))
    kept.node.stop(kept.name, force=True)
    assert kept.settled() == []


def test_a_guest_that_does_not_come_up_leaves_nothing(kept: Kept) -> None:
    with pytest.raises(hvcore.LaunchError):
        kept.start(kept.full_kvm(kvm_extra="-device kept-nothing"))
    assert held(kept, KVM) == set()
    assert kept.settled() == []


def test_a_guest_whose_link_cannot_be_made_leaves_nothing_but_what_was_there(kept: Kept) -> None:
    kept.vnc.write_text("somebody's")
    with pytest.raises((hvcore.OperationError, hvcore.VerifyError)):
        kept.start(kept.full_kvm())
    assert kept.vnc.read_text() == "somebody's"
    kept.vnc.unlink()
    assert held(kept, KVM) == set()
    assert kept.settled() == []


@pytest.mark.parametrize("what", ["chroot", "chroot-plain"])
def test_a_script_that_fails_leaves_nothing(bridge: str, kept: Kept, what: str) -> None:
    make, kinds = ALL[what]
    kept.image(FAILS)
    with pytest.raises(hvcore.LaunchError):
        kept.start(make(kept))
    assert held(kept, kinds) == set()
    assert kept.settled() == []


def test_interfaces_are_removed_even_if_a_process_keeps_their_network(bridge: str, kept: Kept) -> None:
    kept.start(in_namespaces(kept))
    network = os.open(f"/proc/{kept.pid()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kept.node.stop(kept.name, force=True)
        assert kept_node.links() == kept.links
    finally:
        os.close(network)


def test_a_process_that_nothing_but_its_root_gives_away_is_ended(kept: Kept) -> None:
    """It has neither the environment nor a descriptor of its start, and was moved into another group."""
    closed = " ".join(f"{fd}<&-" for fd in range(3, 10))
    kept.image(f"#!/bin/sh\n: > /dev/null\n[ $1 = stop ] || /bin/busybox env -i /bin/sleep 1000 {closed} &\nsleep 1\n")
    assert killed_when(lambda: bool(hidden(kept)), lambda: kept.start(plain(kept)))
    (pid,) = hidden(kept)
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if f"/{kept.name}" in line:
            group = next(
                folder for folder in kept.groups() if str(pid) in Path(folder, "cgroup.procs").read_text().split()
            )
            (Path(group).parent.parent / "cgroup.procs").write_text(str(pid))
    assert kept.node.stop(kept.name, force=True).changed
    assert proc.ended(pid)


def hidden(kept: Kept) -> list[int]:
    """Processes with its root and without the marks of its start."""
    return [pid for pid in proc.rooted(str(kept.root)) if Path(f"/proc/{pid}/environ").read_bytes() == b""]


def test_a_uid_has_one_guest_only(kept: Kept) -> None:
    few = hvcore.Node(kept.run_dir, uid_pool=kept.uids[:1])
    few.driver("kvm").start(kept.kvm())
    assert "qemu-system-x86" in proc.running(kept.uids[:1]).values()  # beside it: the reader of its console
    other = kept.kvm(name=f"{kept.name}-2", disk=kept_node.write_guest(Path(kept.root / "other.img")))
    with pytest.raises(hvcore.NodeError):
        few.driver("kvm").start(other)
    few.stop(kept.name, force=True)
    assert few.driver("kvm").start(other).changed
    few.stop(other.name, force=True)
