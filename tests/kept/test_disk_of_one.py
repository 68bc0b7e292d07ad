"""A disk has one user on the node, also when everybody who could tell is gone: only the guest itself still runs."""

from __future__ import annotations

from collections.abc import Iterator

import kept_proc as proc
import pytest
from kept_node import Kept, forked, write_guest
from kept_qmp import Qmp

import hvcore

pytestmark = pytest.mark.live


@pytest.fixture
def elsewhere(kept: Kept) -> Iterator[Kept]:
    """Another run directory on the same node."""
    made = Kept(kept.root / "elsewhere")
    yield made
    for info in made.node.instances():
        made.node.stop(info.name, force=True)
    assert made.settled() == []


@pytest.mark.parametrize("confinement", ["strict", "off"])
def test_a_disk_is_kept_by_the_guest_alone(kept: Kept, elsewhere: Kept, confinement: str) -> None:
    write_guest(kept.root / f"{kept.name}.img")
    instance = kept.kvm(confinement=confinement)
    assert forked(lambda: kept.start(instance).changed) is True  # the starter has ended
    qemu = kept.pid()
    for _ in range(2):
        # With the last of its monitors QEMU lets go of descriptors that were only given to be used later.
        for name in ("qmp", "qmp-oob"):
            with Qmp(kept.dir / name) as monitor:
                assert monitor.ask("query-status")["running"] is True
    for observer in set(kept.launched()) - {qemu}:
        proc.kill(observer)
    assert set(kept.launched()) == {qemu}
    for node, name in ((elsewhere.node, elsewhere.name), (kept.node, f"{kept.name}-2")):
        with pytest.raises(hvcore.DiskInUseError):
            node.driver("kvm").start(kept.kvm(name=name, confinement="off"))
    assert (kept.pid(), kept.node.info(kept.name).state) == (qemu, hvcore.State.RUNNING)
    kept.node.stop(kept.name, force=True)
    assert elsewhere.node.driver("kvm").start(kept.kvm(name=elsewhere.name, confinement="off")).changed
