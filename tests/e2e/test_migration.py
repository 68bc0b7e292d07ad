"""A Linux guest that counts on a shared disk moves between two nodes. It never stops for good, and never goes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from linux_guest import console, guest_params, linux_guests

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600)]

SECTOR = 512
# Each number is on the disk before the next one is counted. The other loop makes memory dirty.
COUNT = (
    "(while n=$((n+1)); do printf '%0512d' $n | dd of=/dev/vda bs=512 conv=notrunc,fsync 2>/dev/null; done &"
    " while dd if=/dev/urandom of=/dirty bs=64k count=32 2>/dev/null; do :; done &)"
)


class Nodes:
    """Two run directories with one disk, and the guest web1 on one of them."""

    def __init__(self, folder: Path) -> None:
        one = hvcore.Node(folder / "one", state_dir=folder / "state")
        self.both = (one, one.beside(folder / "other"))
        self.disk = folder / "shared.img"
        self.disk.write_bytes(b"0" * SECTOR * 2048)
        params = guest_params(folder, "virtio_pci", "virtio_blk")
        disks = (hvcore.Disk(path=str(self.disk)),)
        self.instance = hvcore.Instance(name="web1", driver="kvm", memory_mib=96, disks=disks, params=params)

    def count(self) -> int:
        """The number that the guest has written last."""
        with open(self.disk, "rb") as file:
            return int(file.read(SECTOR))

    def counts_on(self) -> None:
        """Wait until the guest has counted twice: the first number may have been under way."""
        before = self.count()
        waits = threading.Event()
        while self.count() < before + 2:
            waits.wait(0.01)

    def running(self) -> list[hvcore.Node]:
        """The nodes on which it runs."""
        return [node for node in self.both if [info.state for info in node.instances()] == [hvcore.State.RUNNING]]

    def start(self) -> None:
        """Start the guest on the first node, and have it count."""
        with linux_guests(self.both[0], self.instance) as (guest,):
            guest.run(COUNT)
        self.counts_on()


@contextmanager
def never_goes_back(nodes: Nodes) -> Iterator[list[int]]:
    """Read the number all the time: a second copy, or an old one, would write smaller ones."""
    seen, over = [nodes.count()], threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(nodes.count())
            if seen[-1] == seen[-2]:
                seen.pop()
            over.wait(0.002)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        over.set()
        reader.join()
    assert seen == sorted(seen)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    tmp_path.chmod(0o711)
    made = Nodes(tmp_path)
    made.start()
    yield made
    with ExitStack() as stack:
        for node in made.both:
            stack.callback(node.stop, "web1", force=True)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 25])
def test_a_guest_that_counts_moves_there_and_back(nodes: Nodes, times: int) -> None:
    pauses = []
    with never_goes_back(nodes) as seen:
        for source, target in (nodes.both, nodes.both[::-1]) * times:
            outcome = source.migrations.migrate("web1", f"local:{target.run_dir}")
            assert outcome.moved, outcome
            assert nodes.running() == [target]
            assert source.instances() == []
            nodes.counts_on()
            pauses.append(outcome.transfer.downtime_ms or 0)
    assert len(seen) > 2 * times
    print(f"pauses in ms: {sorted(pauses)}")  # noqa: T201 - for the one who measures
    with console(nodes.both[0], "web1") as guest:
        guest.run("true")
