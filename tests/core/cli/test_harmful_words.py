"""Words that could do harm: names that are not there, near misses, files in place of names, guests that were cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import File, Hv, Process

from hvcore.cli.guesses import near_names

WITH_NAMES = ("stop", "cleanup", "pause", "resume", "info", "reboot", "console", "log")


@pytest.mark.parametrize("subcommand", WITH_NAMES)
@pytest.mark.parametrize("form", ["{file}", "web1.toml", "elsewhere/web1.toml"])
def test_a_file_in_place_of_a_name_is_not_found_and_the_name_is_shown(
    hv: Hv, instance_file: File, subcommand: str, form: str
) -> None:
    file = instance_file()
    hv("start", file)
    found = hv(subcommand, form.format(file=file))
    assert (found.exit_code, found.stdout) == (4, "")
    assert "is the name of a file, not of an instance; did you mean 'web1'?" in found.stderr
    assert hv("info", "web1").exit_code == 0


def test_the_name_in_the_file_counts_and_not_the_name_of_the_file(hv: Hv, instance_file: File) -> None:
    file = Path(instance_file("mail"))
    hv("start", str(file))
    other = file.rename(file.with_name("web1.toml"))
    assert "did you mean 'mail'?" in hv("stop", str(other)).stderr


@pytest.mark.parametrize("subcommand", ["stop", "cleanup"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_name_that_is_not_there_is_never_a_success(hv: Hv, subcommand: str, options: list[str]) -> None:
    found = hv(subcommand, "web1", *options)
    assert found.exit_code == 4
    assert "web1: no such instance on this node" in found.stderr
    if options:
        assert json.loads(found.stdout)["error"] == "NotFoundError"


@pytest.mark.parametrize(
    ("name", "running", "suggestion"),
    [
        ("web", ["web1"], "did you mean 'web1'?"),
        ("web", ["web1", "web2"], "did you mean 'web1' or 'web2'?"),
        ("web", ["web1", "web2", "web3", "web4"], None),
        ("wbe10", ["web10", "web11"], "did you mean 'web10'?"),
        ("vm1", ["vm01"], "did you mean 'vm01'?"),
        ("vm01", ["vm30"], None),
        ("web1", ["web2", "web10", "web11"], None),
        ("wbe1", ["web2"], None),
        ("db-1-a", ["db-2-a"], None),
        ("webx", ["web1", "web2", "web3", "web4"], None),
        ("mail", ["web"], None),
    ],
)
def test_nothing_is_suggested_between_numbered_names(name: str, running: list[str], suggestion: str | None) -> None:
    assert near_names(name, running) == suggestion


def test_of_several_names_one_failure_stops_no_other(hv: Hv, instance_file: File) -> None:
    files = [instance_file(name) for name in ("web1", "web2")]
    assert hv("start", *files).stdout.count("running") == 2
    found = hv("stop", "web1", "nothing", "web2")
    assert found.exit_code == 4
    assert [line.split(":")[0] for line in found.stdout.splitlines()] == ["web1", "web2"]
    assert found.stderr.startswith("hv: nothing: no such instance")


def test_several_names_as_json_are_a_list_and_one_is_its_document(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file("web1"), instance_file("web2"))
    assert [one["name"] for one in json.loads(hv("pause", "web1", "web2", "--json").stdout)] == ["web1", "web2"]
    assert json.loads(hv("resume", "web1", "--json").stdout)["name"] == "web1"
    found = hv("stop", "web1", "nothing", "--json")
    assert [one.get("error", one.get("op")) for one in json.loads(found.stdout)] == ["stop", "NotFoundError"]


def test_a_name_that_is_given_twice_is_used_once(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file())
    assert hv("stop", "web1", "web1").exit_code == 0


@pytest.mark.parametrize("subcommand", ["stop", "reboot"])
@pytest.mark.parametrize(
    ("params", "options", "ended"),
    [("", [], "cleanly"), ("ignores_powerdown = true", [], "cut off"), ("", ["--force"], "cut off")],
)
def test_a_guest_that_was_cut_off_is_said_to_be(
    hv: Hv, instance_file: File, subcommand: str, params: str, options: list[str], ended: str
) -> None:
    hv("start", instance_file(params=params))
    text = hv(subcommand, "web1", *options).stdout
    assert ("without a shutdown" in text) is (ended == "cut off")
    hv("start", instance_file(params=params))
    assert json.loads(hv(subcommand, "web1", "--json", *options).stdout)["clean"] is (ended == "cleanly")


def test_a_start_says_nothing_about_a_shutdown(hv: Hv, instance_file: File) -> None:
    assert json.loads(hv("start", instance_file(), "--json").stdout)["clean"] is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('name = "web1"\ndriver = "fake"\nmemory_mib = 256\n', "from '"),
        ('name = "web1"\ndriver = "fake"\nuuid = "11111111-fb84-559d-95fc-12fb3b4fa985"\n', "with uuid"),
    ],
)
def test_a_start_of_another_instance_under_a_running_name_is_refused(
    hv: Hv, instance_file: File, tmp_path: Path, text: str, named: str
) -> None:
    hv("start", instance_file())
    other = tmp_path / "other.toml"
    other.write_text(text)
    found = hv("start", str(other))
    assert found.exit_code == 5
    assert "web1: another instance runs under this name" in found.stderr
    assert named in found.stderr


@pytest.mark.heavy  # a process of hv for each
@pytest.mark.usefixtures("other_drivers")
def test_a_start_for_another_driver_is_refused(hv_process: Process, instance_file: File) -> None:
    hv_process("start", instance_file())
    found = hv_process("start", instance_file(driver="bare"))
    assert found.returncode == 5
    assert b"with driver fake and not bare" in found.stderr


def test_a_copy_of_the_file_or_a_link_to_it_is_the_same_instance(hv: Hv, instance_file: File, tmp_path: Path) -> None:
    file = Path(instance_file())
    hv("start", str(file))
    (tmp_path / "copy.toml").write_bytes(file.read_bytes())
    assert hv("start", str(tmp_path / "copy.toml")).exit_code == 0
    (tmp_path / "link.toml").symlink_to(file)
    instance_file(params='motd = "changed"')
    assert hv("start", str(tmp_path / "link.toml")).exit_code == 0


@pytest.mark.heavy  # a process of hv for each
@pytest.mark.parametrize("options", [["-h"], ["--help"], ["--json", "-n", "--", "--run-dir"]])
@pytest.mark.parametrize("dashes", [[], ["--"]])
def test_options_after_the_name_belong_to_the_program(
    hv: Hv, hv_process: Process, instance_file: File, options: list[str], dashes: list[str]
) -> None:
    hv("start", instance_file())
    found = hv_process("exec", "web1", *dashes, "sh", "-c", 'echo "$@"', "sh", *options)
    assert found.stdout.decode().split() == options


def test_json_after_the_name_belongs_to_the_program_when_exec_fails(hv: Hv) -> None:
    found = hv("exec", "web1", "ip", "--json", "address")
    assert (found.exit_code, found.stdout) == (4, "")
    assert json.loads(hv("info", "exec", "--json").stdout)["exit_code"] == 4


def test_a_list_of_an_unknown_driver_is_no_empty_list(hv: Hv) -> None:
    found = hv("list", "-q", "--driver", "kvmm")
    assert found.exit_code == 2
    assert "--driver: no driver 'kvmm'; did you mean 'kvm'?" in found.stderr
