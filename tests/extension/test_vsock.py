"""A third party's device that holds something of the node: by resources alone, and without a change to kvm or the core.

This node need not have /dev/vhost-vsock: /dev/null is opened in its place.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from hv_kvm.plugin import Bindings, KvmSpec
from hvcore import Instance, OperationError
from hvcore.deadline import Deadline
from hvcore.host.reservations import Reservations
from hvcore.model.record import Phase
from hvcore.plugin import Host, Job, Level, Record, Site
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.state.store import Store

if TYPE_CHECKING:
    from hv_vsock.plugin import Vsock

pytestmark = pytest.mark.heavy  # a new process for each test

VSOCK: Final = Path(__file__).resolve().parents[2] / "examples/hv-vsock"
STAND_IN: Final = "import hv_vsock.plugin\nhv_vsock.plugin.Vsock.path = '/dev/null'\n"
needs_qemu: Final = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU: ./dev setup")

Run = Callable[..., subprocess.CompletedProcess[str]]
File = Callable[[str], str]


@pytest.fixture(autouse=True)
def _installed(example: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The extension, for processes that are started from here and for this one."""
    example(VSOCK)
    monkeypatch.syspath_prepend(str(VSOCK / "src"))


@pytest.fixture
def vsock() -> Callable[..., Vsock]:
    """``vsock(42)``: the device with that address, and /dev/null in the place of the kernel's."""
    from hv_vsock.plugin import Vsock

    @dataclass(frozen=True, slots=True, kw_only=True)
    class StandIn(Vsock):
        path: ClassVar[str] = "/dev/null"

    return lambda cid=None: StandIn(slot=5, cid=cid)


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """``at_work("web1")``: an operation on an instance that holds nothing yet."""
    run_dir = tmp_path / "run"
    jobs: list[Job] = []

    def make(name: str) -> Job:
        store, wanted = Store(run_dir), Instance(name=name, driver="kvm")
        record = Record(name=name, driver="kvm", phase=Phase.STARTING, boot_id="", instance=wanted, spec={})
        store.create(name)
        store.save(record)
        # Unprivileged: the locks are in the run directory, and not where the guests of this node have theirs.
        site = Site(name=name, host=Host(run_dir=run_dir, privileged=False, uid_pool=range(1)), level=Level.USER)
        job = Job(
            store=store,
            record=record,
            site=site,
            kinds=CORE_KINDS,
            deadline=Deadline(10),
            progress=lambda text: None,
        )
        jobs.append(job)
        return job

    yield make
    for job in jobs:
        job.held.close()


def spec(device: Vsock) -> KvmSpec:
    fields = {"machine": "pc", "qemu": "", "kvm": "", "confinement": "off"}
    return KvmSpec(name="web1", uuid="", memory_mib=64, vcpus=1, acpi=True, devices=(device,), **fields)


def document(ended: subprocess.CompletedProcess[str]) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_what_was_acquired_is_what_is_rendered(vsock: Callable[..., Vsock], at_work: Callable[..., Job]) -> None:
    from hv_vsock.plugin import render

    job, device = at_work("web1"), vsock()
    handles = job.acquire(*spec(device).resources)
    (option,) = render(spec(device), Bindings(handles=handles, accel="tcg"))
    fd = handles[device.device]
    assert os.fstat(int(fd)).st_rdev == os.stat("/dev/null").st_rdev
    assert int(fd) in job.held.for_program
    assert option.argv == ("-device", f"vhost-vsock-pci,id=vsock0,guest-cid=3,vhostfd={fd},bus=pci.0,addr=0x5")
    assert job.record.bindings["vsock0.cid"] == 3
    assert [entry.key for entry in job.record.ledger] == ["cgroup", "vsock0.cid", "log.reader"]


def test_two_guests_never_have_one_address(vsock: Callable[..., Vsock], at_work: Callable[..., Job]) -> None:
    first, second = at_work("web1"), at_work("web2")
    first.acquire(*vsock(3).resources(spec(vsock(3))))
    assert second.acquire(vsock().number)[vsock().number] == 4
    second.release("vsock0.cid")
    (problem,) = CORE_KINDS.problems(vsock(3).resources(spec(vsock(3))), second.held.site)
    assert str(problem) == "params.vsock_cid: is taken by instance web1, got 3; choose another, or unset it"
    with pytest.raises(OperationError, match=r"web2: vsock-cid 3 is taken; choose another for params\.vsock_cid"):
        second.acquire(vsock(3).number)
    first.release()
    assert second.acquire(vsock(3).number)[vsock(3).number] == 3


def test_its_parameters_are_those_of_the_driver(hv: Run) -> None:
    rows = {row["key"]: row for row in document(hv("params", "kvm", "--json"))}
    assert rows["vsock_cid"]["owner"] == "kvm.vsock (hv-vsock 0.1.0)"


def test_an_address_without_a_device_is_reported(hv: Run, file: File) -> None:
    ended = hv("check", file("vsock_cid = 42"))
    assert ended.returncode == 2
    assert "params.vsock_cid: is set without vsock; set vsock = true" in ended.stderr


@needs_qemu
def test_its_option_and_its_steps_are_explained(hv: Run, file: File) -> None:
    plan = document(hv("explain", file("vsock = true"), "--json"))
    (own,) = [row for row in plan["arguments"] if row["plugin"] == "kvm.vsock"]
    assert own["tokens"][1].startswith(
        "vhost-vsock-pci,id=vsock0,guest-cid=3,vhostfd={fd:vsock0.device},bus=pci.0,addr="
    )
    steps = [step["what"] for step in plan["steps"]]
    assert "take the first free vsock-cid from 3 to 4294967294" in steps
    assert "open /dev/vhost-vsock read-write as vsock0.device" in steps


@needs_qemu
@pytest.mark.skipif(os.path.exists("/dev/vhost-vsock"), reason="this node has the kernel module")
def test_a_node_without_the_device_is_reported_before_a_start(hv: Run, file: File) -> None:
    message = (
        "params.vsock: cannot be opened (No such file or directory), got '/dev/vhost-vsock'; "
        "load its kernel module, or leave it out"
    )
    for command in ("verify", "start"):
        ended = hv(command, file("vsock = true"))
        assert ended.returncode != 0
        assert message in ended.stderr


@needs_qemu
@pytest.mark.live
def test_a_real_qemu_gets_the_descriptor_and_what_was_taken_is_free_when_it_fails(
    hv: Run, file: File, other: Callable[[str], None], tmp_path: Path
) -> None:
    other(STAND_IN)
    ended = hv("start", file("vsock = true\nvsock_cid = 42"))
    assert ended.returncode != 0
    assert "vhost_set_owner failed: Inappropriate ioctl for device" in ended.stderr  # it is /dev/null that it has
    assert Reservations(tmp_path / "run/reservations/value-vsock-cid").items() == {}
    assert "web1" not in hv("list").stdout
