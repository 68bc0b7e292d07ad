"""The device of this extension: its option, its resources, and its refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hv_vsock.plugin import CIDS, Vsock, render, verify

import hvcore
import hvcore.plugin as hv
from hv_kvm.plugin import Bindings, Facts, KvmSpec


@pytest.fixture
def node(tmp_path: Path) -> hvcore.Node:
    """A node without instances."""
    return hvcore.Node(tmp_path / "run")


@pytest.fixture
def kvm(node: hvcore.Node) -> hvcore.DriverHandle:
    """The driver on that node."""
    return node.driver("kvm")


def web1(**params: object) -> hvcore.Instance:
    return hvcore.Instance(name="web1", driver="kvm", params={"kvm_flag": "disabled", **params})


def spec(vsock: Vsock, machine: str = "pc") -> KvmSpec:
    """A machine with that device and nothing else."""
    fields = {"machine": machine, "qemu": "", "kvm": "", "confinement": "off"}
    return KvmSpec(name="web1", uuid="", memory_mib=64, vcpus=1, acpi=True, devices=(vsock,), **fields)


def facts(*types: str) -> Facts:
    """A QEMU that has only these types."""
    nothing: frozenset[str] = frozenset()
    known = dict.fromkeys(("commands", "cpu_models", "block_drivers", "aio"), nothing)
    return Facts(
        version="7.2.22",
        package="",
        options={},
        machines=(),
        types=frozenset(types),
        kvm_present=False,
        kvm_enabled=False,
        **known,
    )


@pytest.mark.parametrize(("machine", "bus"), [("pc", "pci.0"), ("q35", "pcie.0")])
def test_the_option_has_the_number_and_the_descriptor_that_were_acquired(machine: str, bus: str) -> None:
    vsock = Vsock(slot=5, cid=None)
    handles = hv.Handles({vsock.number.key: 42, vsock.device.key: "7"})
    (option,) = render(spec(vsock, machine), Bindings(handles=handles, accel="tcg"))
    assert option.argv == ("-device", f"vhost-vsock-pci,id=vsock0,guest-cid=42,vhostfd=7,bus={bus},addr=0x5")


def test_plan_shows_the_device_and_what_a_start_acquires(kvm: hvcore.DriverHandle) -> None:
    with_one, without = (kvm.plan(web1(**params)) for params in ({"vsock": True, "vsock_cid": 42}, {}))
    (added,) = [change.after for change in hvcore.differences(without, with_one) if change.after is not None]
    assert added.tokens[1].startswith(
        "vhost-vsock-pci,id=vsock0,guest-cid=42,vhostfd={fd:vsock0.device},bus=pci.0,addr="
    )
    assert added.origin.plugin == "kvm.vsock"
    steps = [str(step.what) for step in with_one.steps]
    assert "take vsock-cid 42" in steps
    assert "open /dev/vhost-vsock read-write as vsock0.device" in steps


def test_an_address_without_a_device_is_refused(kvm: hvcore.DriverHandle) -> None:
    with pytest.raises(hvcore.ParamsError, match=r"params\.vsock_cid: is set without vsock; set vsock = true"):
        kvm.check(web1(vsock_cid=42))


@pytest.mark.parametrize("cid", [0, 2, 2**32 - 1, -1])
def test_addresses_that_mean_something_else_are_refused(kvm: hvcore.DriverHandle, cid: int) -> None:
    with pytest.raises(hvcore.ParamsError, match=r"params\.vsock_cid"):
        kvm.check(web1(vsock=True, vsock_cid=cid))
    assert kvm.check(web1(vsock=True, vsock_cid=CIDS["last"]))["vsock_cid"] == 4_294_967_294


def test_a_qemu_without_the_device_is_reported() -> None:
    assert list(verify(spec(Vsock(cid=None)), facts("vhost-vsock-pci"))) == []
    (problem,) = verify(spec(Vsock(cid=None)), facts())
    assert problem.path == "params.vsock"
    assert "vhost-vsock-pci" in problem.what


def problems(kvm: hvcore.DriverHandle, instance: hvcore.Instance) -> str:
    """The problems that `hv verify` lists, some of which may be about this node's QEMU."""
    try:
        kvm.verify(instance)
    except hvcore.VerifyError as error:
        return str(error)
    return ""


@pytest.mark.skipif(Path(Vsock.path).exists(), reason="this node has the kernel module")
def test_a_node_without_the_device_is_reported(kvm: hvcore.DriverHandle) -> None:
    what = "params.vsock: cannot be opened (No such file or directory), got '/dev/vhost-vsock'; load its kernel module"
    assert what in problems(kvm, web1(vsock=True))
    assert "vsock" not in problems(kvm, web1())


def test_an_address_of_another_guest_is_reported_before_the_start(node: hvcore.Node, kvm: hvcore.DriverHandle) -> None:
    reserved = node.run_dir / "reservations/value-vsock-cid"  # as a start of web2 leaves it
    reserved.mkdir(parents=True)
    (reserved / "42").symlink_to("web2/vsock0.cid")
    taken = "params.vsock_cid: is taken by instance web2, got 42; choose another, or unset it"
    assert taken in problems(kvm, web1(vsock=True, vsock_cid=42))
    assert "is taken" not in problems(kvm, web1(vsock=True, vsock_cid=43))
