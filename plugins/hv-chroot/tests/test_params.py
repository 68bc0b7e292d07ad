"""What can be said without a node: parameters, checks, spec, plan."""

from __future__ import annotations

from pathlib import Path

import pytest

import hvcore
from hv_chroot.bind import Bind
from hv_chroot.spec import ChrootSpec
from hvcore.model.codec import decode, encode


@pytest.fixture
def handle(tmp_path: Path) -> hvcore.DriverHandle:
    return hvcore.Node(tmp_path / "run").driver("chroot")


def instance(**changes: object) -> hvcore.Instance:
    values: dict[str, object] = {"name": "web1", "disks": (hvcore.Disk(path="/srv/web1.img"),), **changes}
    return hvcore.Instance(driver="chroot", **values)  # type: ignore[arg-type]


def problems(handle: hvcore.DriverHandle, wanted: hvcore.Instance) -> list[str]:
    with pytest.raises(hvcore.ParamsError) as caught:
        handle.check(wanted)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_ganetis(handle: hvcore.DriverHandle) -> None:
    params = handle.check(instance())
    assert (params["init_script"], params["network"], params["script_deadline"]) == ("/ganeti-chroot", "host", 60.0)


def test_no_disk_is_a_problem(handle: hvcore.DriverHandle) -> None:
    assert problems(handle, instance(disks=())) == [
        "disks: is empty; give the disk with the root file system, or set params.root_directory"
    ]


def test_what_it_would_ignore_is_a_problem_each(handle: hvcore.DriverHandle) -> None:
    disks = (hvcore.Disk(path="/a"), hvcore.Disk(path="/b"))
    found = problems(handle, instance(disks=disks, nics=(hvcore.Nic(),)))
    assert [text.partition(":")[0] for text in found] == ["disks[1]", "nics[0]"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("init_script", "ganeti-chroot"),
        ("init_script", "/../bin/sh"),
        ("init_script", ""),
        ("init_script", "/a\0b"),
        ("script_deadline", 0),
        ("script_deadline", "60"),
        ("script_deadline", True),
        ("network", "bridge"),
        ("hostname", "-h"),
        ("hostname", "a" * 65),
        ("init_scrpt", "/x"),
    ],
)
def test_a_wrong_value_is_refused_and_named(handle: hvcore.DriverHandle, key: str, value: object) -> None:
    found = problems(handle, instance(params={key: value}))
    assert len(found) == 1
    assert found[0].startswith(f"params.{key}: ")


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("web1.example", "web1.example"),
        (f"web1.{'a' * 60}", "web1"),
    ],
)
def test_host_name_is_the_instance_name_as_far_as_it_fits(name: str, hostname: str, tmp_path: Path) -> None:
    node = hvcore.Node(tmp_path / "run")
    handle = node.driver("chroot")
    plan = handle.plan(instance(name=name)).argv
    assert plan[plan.index("--hostname") + 1] == hostname


def test_spec_survives_its_record() -> None:
    spec = ChrootSpec(
        name="web1",
        disk="/srv/a,b\nc",
        read_only=True,
        init_script="/s",
        stop_script="/t",
        binds=(Bind(source="/a", target="/b", writable=True),),
        script_deadline_s=1.5,
        hostname="web1",
        share_network=False,
    )
    assert decode(ChrootSpec, encode(spec)) == spec


def test_plan_says_every_step_and_the_origin_of_every_argument(handle: hvcore.DriverHandle) -> None:
    plan = handle.plan(instance(params={"network": "none", "init_script": "/etc/rc"}))
    assert [step.kind for step in plan.steps] == [
        "claim",
        "uids",
        "mount",
        "group",
        "mount",
        "check",
        "launch",
        "confine",
    ]
    assert all(argument.origin.why for argument in plan.arguments)
    origins = {argument.tokens: argument.origin.params for argument in plan.arguments}
    assert origins["/etc/rc", "start"] == ("init_script", "isolation")
    assert origins["--unshare-net",] == ("network", "isolation")
    assert "{status}" in plan.argv


def test_plan_shares_the_network_only_when_asked(handle: hvcore.DriverHandle) -> None:
    assert "--unshare-net" not in handle.plan(instance()).argv


def test_plan_touches_nothing(handle: hvcore.DriverHandle, tmp_path: Path) -> None:
    handle.plan(instance())
    assert list(tmp_path.rglob("*")) == []


def test_capabilities_are_those_it_implements(handle: hvcore.DriverHandle) -> None:
    assert set(handle.capabilities) >= {"console", "pause"}
