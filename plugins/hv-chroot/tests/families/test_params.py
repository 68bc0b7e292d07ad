"""Parameters, checks, spec and plan: everything that needs no node."""

from __future__ import annotations

from pathlib import Path

import pytest

import hvcore
from hv_chroot.families.root import Bind
from hv_chroot.spec import ChrootSpec, decide
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


def test_each_ignored_setting_is_a_problem(handle: hvcore.DriverHandle) -> None:
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


def test_plan_has_every_step_and_the_origin_of_every_argument(handle: hvcore.DriverHandle) -> None:
    plan = handle.plan(instance(params={"network": "none", "init_script": "/etc/rc"}))
    assert [step.kind for step in plan.steps] == [
        "uids",
        "group",
        "file",
        "mount",
        "mount",
        "process",
        "check",
        "launch",
        "confine",
    ]
    assert all(argument.origin.why for argument in plan.arguments)
    origins = {argument.tokens: argument.origin.params for argument in plan.arguments}
    assert origins["/etc/rc", "start"] == ("init_script", "isolation")
    assert origins["--unshare-net",] == ("network", "isolation")
    assert "{status}" in plan.argv


def test_plan_shares_the_network_only_with_network_host(handle: hvcore.DriverHandle) -> None:
    assert "--unshare-net" not in handle.plan(instance()).argv


def test_plan_touches_nothing(handle: hvcore.DriverHandle, tmp_path: Path) -> None:
    handle.plan(instance())
    assert list(tmp_path.rglob("*")) == []


def test_capabilities_are_those_it_implements(handle: hvcore.DriverHandle) -> None:
    assert set(handle.capabilities) >= {"console", "pause"}


def of_directory(**params: object) -> hvcore.Instance:
    return instance(disks=(), params={"root_directory": "/srv/roots/web1", **params})


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        (instance(params={"root_directory": "/srv/roots/web1"}), ["disks[0]"]),
        (
            instance(disks=(hvcore.Disk(path="/a.qcow2", format="qcow2", cache="none"),)),
            ["disks[0].format", "disks[0].cache"],
        ),
        (instance(disks=(hvcore.Disk(path="rbd:pool/image"),)), ["disks[0].path"]),
        (of_directory(overlay="directory"), ["params.overlay_directory"]),
        (of_directory(overlay_directory="/srv/kept"), ["params.overlay_directory"]),
        (of_directory(overlay="directory", overlay_directory="/srv/roots/web1/kept"), ["params.overlay_directory"]),
        (of_directory(overlay="directory", overlay_directory="/srv/roots"), ["params.overlay_directory"]),
        (of_directory(overlay="directory", overlay_directory="/"), ["params.overlay_directory"]),
        (of_directory(overlay_size=5), ["params.overlay_size"]),
        (of_directory(binds=["/a:/b", "/c:/b"]), ["params.binds"]),
        (of_directory(binds=["/a:/proc/x"]), ["params.binds"]),
        (of_directory(binds=["/a:/"]), ["params.binds"]),
        (of_directory(binds=["/a"]), ["params.binds"]),
        (of_directory(binds=["/a:/b:wr"]), ["params.binds"]),
        (of_directory(binds=["/a/../b:/b"]), ["params.binds"]),
        (of_directory(binds=["/a:/b/../../etc"]), ["params.binds"]),
        (of_directory(environment=["A=1", "A=2", "HVCORE_LIFE=x"]), ["params.environment"] * 2),
        (of_directory(environment=["no value"]), ["params.environment"]),
        (of_directory(capabilities=["CAP_NOSUCH"]), ["params.capabilities"]),
        (of_directory(allow_suid=True, allow_devices=True), ["params.allow_suid", "params.allow_devices"]),
        (
            of_directory(isolation="none", user_namespace="on", hostname="h", network="none", capabilities=[]),
            ["params.user_namespace", "params.capabilities", "params.hostname", "params.network"],
        ),
        (of_directory(memory_limit=1), ["params.memory_limit"]),
        (of_directory(cpu_limit=0, process_limit=-1), ["params.cpu_limit", "params.process_limit"]),
    ],
)
def test_all_contradictions_are_reported_at_once(
    handle: hvcore.DriverHandle, wanted: hvcore.Instance, paths: list[str]
) -> None:
    assert sorted(text.partition(": ")[0] for text in problems(handle, wanted)) == sorted(paths)


def test_overlay_directory_may_be_beside_the_root_with_the_same_prefix(handle: hvcore.DriverHandle) -> None:
    handle.check(of_directory(overlay="directory", overlay_directory="/srv/roots/web1-kept"))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"isolation": "none"}, "root inside is root on the node"),
        ({"capabilities": ["CAP_SYS_ADMIN"]}, "with CAP_SYS_ADMIN root inside can become root on the node"),
        ({"user_namespace": "on"}, "prevents the instance from listening"),
        ({"seccomp": "off"}, "allows every system call"),
        ({"environment": ["DB_PASSWORD=x"]}, "shows DB_PASSWORD in plans"),
    ],
)
def test_a_setting_that_is_seldom_useful_is_a_warning(
    handle: hvcore.DriverHandle, params: dict[str, object], words: str
) -> None:
    found = [str(problem) for problem in handle.warnings(of_directory(**params))]
    assert len(found) == 1
    assert words in found[0]


def test_an_ordinary_instance_has_no_warning(handle: hvcore.DriverHandle) -> None:
    assert handle.warnings(of_directory(capabilities=["CAP_SYS_ADMIN"], network="none")) == ()


def test_stop_script_is_the_one_that_started_it_unless_another_is_named(handle: hvcore.DriverHandle) -> None:
    for params, stop in (({}, "/rc"), ({"stop_script": "/rk"}, "/rk")):
        wanted = of_directory(init_script="/rc", **params)
        assert decide(wanted, handle.check(wanted)).stop_script == stop
