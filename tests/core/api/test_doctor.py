"""An examination finds problems, says how to fix them, and changes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hvcore
from hvcore import Finding, Instance, Node, Severity
from hvcore.host.abilities import abilities, program
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.host.processes.process import boot_id
from hvcore.host.reservations import Reservations
from hvcore.model.limits import LIMITED
from hvcore.model.record import Phase
from hvcore.plugin import Host, Record
from hvcore.state.store import Store

WEB = Instance(name="web1", driver="fake")


@pytest.fixture(autouse=True)
def _only_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVCORE_DRIVERS", "fake,acme")


@pytest.fixture
def found(run_dir: Path, tmp_path: Path) -> Callable[[str], dict[str, Finding]]:
    """``found("leftovers")``: the findings of one area, by subject."""

    def examine(area: str) -> dict[str, Finding]:
        findings = hvcore.examine(run_dir, config_dir=tmp_path / "etc")
        return {finding.subject: finding for finding in findings if finding.area == area}

    return examine


def severity_and_todo(finding: Finding) -> tuple[str, str | None]:
    return str(finding.severity), finding.todo


def test_a_healthy_node_has_no_problem(found: Any, node: Node) -> None:
    node.driver("fake").start(WEB)
    assert severity_and_todo(found("leftovers")["instances"]) == ("ok", None)
    assert found("leftovers")["instances"].what == "1 on this node, all running or paused"
    assert {finding.severity for finding in found("run directory").values()} == {Severity.OK}


@pytest.mark.parametrize(
    ("options", "flags", "what"),
    [
        ("size=64k", 0, "is full"),
        ("nr_inodes=2", 0, "has no inode left"),
        ("size=4m", 1, "is read-only"),  # MS_RDONLY
        ("size=0,nr_inodes=0", 0, None),
    ],
)
def test_a_run_directory_without_room_is_a_problem(
    found: Any, run_dir: Path, mount: Callable[..., None], options: str, flags: int, what: str | None
) -> None:
    mount("none", run_dir, "tmpfs", flags, f"{options},mode=700")
    if what == "has no inode left":
        (run_dir / "one").touch()
    (finding,) = found("run directory").values()
    if what is None:
        assert severity_and_todo(finding) == ("ok", None)
    else:
        assert finding.severity is Severity.PROBLEM
        assert finding.what == f"its file system {what}: no instance can start"


def test_a_part_that_cannot_be_examined_is_reported_and_the_rest_is_examined(found: Any, run_dir: Path) -> None:
    (run_dir / "instances").touch()
    finding = found("leftovers")["examined"]
    assert finding.severity is Severity.PROBLEM
    assert f"stopped early: run directory '{run_dir}': cannot be read, got Not a directory; " in finding.what
    assert found("driver fake")["load"].severity is Severity.OK


def test_an_ended_instance_is_shown_with_its_resources(found: Any, node: Node, store: Store) -> None:
    node.driver("fake").start(WEB)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, bindings={**record.bindings, "guest": "shutdown"}))
    finding = found("leftovers")["web1"]
    assert severity_and_todo(finding) == ("note", "hv cleanup web1")
    assert "has ended, shutdown" in finding.what
    assert "holds uid" in finding.what


def test_an_interrupted_instance_is_a_problem(found: Any, store: Store, record: Callable[..., Record]) -> None:
    store.create("web1")
    store.save(record(phase=Phase.STARTING, process=None, boot_id=boot_id()))
    assert severity_and_todo(found("leftovers")["web1"]) == ("problem", "hv recover")


def test_a_damaged_record_and_one_put_aside_are_reported(found: Any, store: Store, run_dir: Path) -> None:
    store.create("web1")
    (run_dir / "instances/web1/record.json").write_text("torn")
    (run_dir / "damaged").mkdir(mode=0o700)
    (run_dir / "damaged/web0.1").write_text("torn")
    assert severity_and_todo(found("leftovers")["web1"]) == ("problem", "hv info web1")
    assert "web0.1" in found("leftovers")["damaged records"].what


def test_a_stale_reservation_is_reported_with_the_command_that_frees_it(found: Any, node: Node, run_dir: Path) -> None:
    Reservations(run_dir / "reservations" / "uid").take("1880000007", "ghost")
    finding = found("leftovers")["uid 1880000007"]
    assert severity_and_todo(finding) == ("problem", "hv stop --force ghost")
    node.stop("ghost", force=True)
    assert "uid 1880000007" not in found("leftovers")


@pytest.fixture
def orphan(run_dir: Path) -> Iterator[int]:
    """A process whose environment names an unknown instance."""
    environment = {**os.environ, "HVCORE_INSTANCE": str(run_dir / "instances/ghost")}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        yield process.pid
        process.kill()


def test_a_process_of_no_instance_is_reported(found: Any, orphan: int) -> None:
    finding = found("leftovers")[f"process {orphan}"]
    assert severity_and_todo(finding) == ("problem", "hv stop --force ghost")
    assert "launched for 'ghost'" in finding.what


@pytest.mark.live
def test_a_mount_of_no_instance_is_reported(found: Any, run_dir: Path, mount: Callable[..., None]) -> None:
    point = run_dir / "instances/ghost"
    point.mkdir(parents=True, mode=0o700)
    mount("none", point, "tmpfs")
    assert found("leftovers")[str(point)].severity is Severity.PROBLEM


@pytest.mark.parametrize(("mode", "severity"), [(0o755, "note"), (0o770, "problem"), (0o700, None)])
def test_a_directory_that_others_can_enter_is_reported(
    found: Any, node: Node, run_dir: Path, mode: int, severity: str | None
) -> None:
    node.driver("fake").start(WEB)
    path = run_dir / "instances"
    path.chmod(mode)
    finding = found("run directory").get(str(path))
    assert (finding and str(finding.severity)) == severity
    assert finding is None or finding.todo == f"chmod 0700 {path}"


def test_a_run_directory_that_cannot_be_used_is_a_finding(run_dir: Path) -> None:
    run_dir.chmod(0o777)
    (finding,) = [finding for finding in hvcore.examine(run_dir) if finding.area == "run directory"]
    assert finding.severity is Severity.PROBLEM
    assert "others can write to it" in finding.what


def test_an_examination_makes_no_run_directory(tmp_path: Path) -> None:
    hvcore.examine(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_broken_driver_is_a_problem_and_the_others_are_ok(found: Any, install: Any) -> None:
    install("hv-acme", "[hvcore.drivers]\nacme = hv_acme:Driver\n", "import lxml_that_is_not_there\n")
    assert "No module named" in found("driver acme")["load"].what
    assert found("driver fake")["load"].severity is Severity.OK


@pytest.mark.parametrize(
    ("requires", "named"),
    [("hvcore<0.1", "too-old"), ("hvcore>=0.1\nRequires-Dist: not-there>=2", "pip install 'not-there>=2'")],
)
def test_a_plugin_of_another_release_is_reported(found: Any, install: Any, requires: str, named: str) -> None:
    install("hv-acme", "[hvcore.drivers]\nacme = hv_acme:Driver\n", requires=requires)
    finding = found("plugins")["driver acme"]
    assert finding.severity is Severity.PROBLEM
    assert named in str(finding)


def test_an_extension_without_its_driver_is_reported(found: Any, install: Any) -> None:
    install("hv-plus", "[hvcore.extensions]\nnone.plus = hv_plus\n")
    assert "extends none, which is not installed" in found("plugins")["extension none.plus"].what


def test_a_deprecated_parameter_in_use_is_reported_with_the_place_that_sets_it(
    found: Any, install: Any, node: Node, tmp_path: Path
) -> None:
    source = """
    import hvcore.plugin as hv
    @hv.impl.params
    def params():
        old = hv.Param("speed", hv.integer(), help="Hz.", deprecated="use hz", removed_in="2.0")
        return hv.ParamGroup("old", old)
    """
    install("hv-plus", "[hvcore.extensions]\nfake.plus = hv_plus\n", source)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/node.toml").write_text("[params.fake]\nspeed = 3\n")
    Node(node.run_dir, uid_pool=range(1_880_000_000, 1_880_000_100)).driver("fake").start(
        Instance(name="web1", driver="fake", params={"speed": 2})
    )
    findings = found("driver fake")
    for who in ("all instances of this node: speed", "web1: speed"):
        assert findings[who].what == "is deprecated and will be removed in release 2.0; use hz"


def test_a_deprecated_hook_is_reported_with_its_place(install: Any, driver_source: str, node: Node) -> None:
    source = f"""{driver_source.format(name="acme")}
    plugins = (*FakeDriver.plugins, ("more", __import__("types").SimpleNamespace(spin=hv.hookimpl(lambda: None))))
    hookspecs = (__import__("hv_specs"),)
"""
    specs = "import hvcore.plugin as hv\n@hv.hookspec(warn_on_impl=DeprecationWarning('goes in 2.0; use turn'))\ndef spin(): ...\n"
    install("hv-specs", "", specs)
    path = install("hv-acme", "[hvcore.drivers]\nacme = hv_acme:Driver\n", source.replace("lambda: None", "spin"))
    path.write_text(f"def spin(): ...\n{path.read_text()}")
    with pytest.warns(DeprecationWarning, match="goes in 2.0"):
        handle = node.driver("acme")
    (finding,) = handle.examine()
    assert finding.subject == f"plugin more (hv-acme 1.0), hook spin ({path}:1)"
    assert finding.what == "is deprecated: goes in 2.0; use turn"


def test_a_failed_examination_of_a_driver_is_a_problem(install: Any, driver_source: str, node: Node) -> None:
    source = f"{driver_source.format(name='acme')}    def examine(self, host): return 1 / 0\n"
    path = install("hv-acme", "[hvcore.drivers]\nacme = hv_acme:Driver\n", source)
    (finding,) = node.driver("acme").examine()
    assert finding.severity is Severity.PROBLEM
    assert f"examine ({path}:7): raised ZeroDivisionError" in finding.what


@pytest.fixture
def host(run_dir: Path) -> Host:
    return Host(run_dir=run_dir, privileged=True, uid_pool=range(1_880_000_000, 1_880_000_002))


def test_a_missing_program_is_reported_with_its_package(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = {finding.subject: finding for finding in abilities(host)}
    assert severity_and_todo(found["bwrap"]) == ("problem", "install bubblewrap")
    assert program("ls", "coreutils").todo == "install coreutils"


def test_a_program_that_does_not_run_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "odd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")
    assert "does not run" in program("odd", "odd", "--version").what


@pytest.mark.parametrize(("taken", "severity"), [(0, "note"), (2, "problem")])
def test_uids_that_run_out_are_reported(host: Host, run_dir: Path, taken: int, severity: str) -> None:
    for uid in host.uid_pool[:taken]:
        Reservations(run_dir / "reservations" / "uid").take(str(uid), "web1")
    (finding,) = [finding for finding in abilities(host) if finding.subject.startswith("uids ")]
    assert str(finding.severity) == severity
    assert f"{2 - taken} of 2 are free" in finding.what


def test_a_user_in_the_pool_is_a_problem(host: Host) -> None:
    findings = [str(finding) for finding in abilities(replace(host, uid_pool=range(1)))]
    assert any("also belong to" in text and "root" in text for text in findings)


@pytest.mark.parametrize(
    ("groups", "severity", "what"),
    [
        (ControlGroups(unified="/sys/fs/cgroup", shared_out=LIMITED), "ok", "version 2, with "),
        (ControlGroups(by_controller={"cpu": "/sys/fs/cgroup/cpu"}), "note", "version 1, lacks "),
        (ControlGroups(refused=("not ours",)), "note", "not usable (not ours)"),
    ],
)
def test_control_groups_that_lack_something_are_a_note(
    host: Host, groups: ControlGroups, severity: str, what: str
) -> None:
    (finding,) = [one for one in abilities(replace(host, cgroups=groups)) if one.subject == "control groups"]
    assert str(finding.severity) == severity
    assert finding.what.startswith(what)


def test_a_directory_among_the_locks_is_reported_and_the_examination_goes_on(
    found: Any, node: Node, run_dir: Path
) -> None:
    node.driver("fake").start(WEB)
    (run_dir / "locks" / "web0").mkdir()
    assert severity_and_todo(found("leftovers")[str(run_dir / "locks" / "web0")]) == (
        "problem",
        "look at it, then move it away",
    )
    assert severity_and_todo(found("leftovers")["instances"]) == ("ok", None)
