"""What people try in their first hour: paths beside the file, words of other tools, times with units, keys in a wrong place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import File, Hv

from hvcore import Node, load_instance
from hvcore.cli.app import SYNONYMS

KVM = 'name = "web1"\ndriver = "kvm"\n[[disks]]\npath = "{disk}"\n[params]\nkvm_flag = "disabled"\nkernel_path = "{kernel}"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / "guests").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("web1.img", "{home}/guests/web1.img"),
        ("./web1.img", "{home}/guests/web1.img"),
        ("../disks/web1.img", "{home}/disks/web1.img"),
        ("~/web1.img", "{home}/web1.img"),
        ("/srv/web1.img", "/srv/web1.img"),
    ],
)
def test_a_path_begins_at_the_directory_of_the_file(hv: Hv, home: Path, given: str, means: str) -> None:
    file = home / "guests" / "web1.toml"
    file.write_text(KVM.format(disk=given, kernel=given))
    found = json.loads(hv("check", str(file), "--json").stdout)
    assert found["params"]["kernel_path"] == means.format(home=home)
    assert load_instance(file).disks[0].path == means.format(home=home)


def test_the_file_can_be_given_by_a_relative_path(hv: Hv, home: Path) -> None:
    (home / "guests" / "web1.toml").write_text(KVM.format(disk="d", kernel="k"))
    found = json.loads(hv("check", "home/guests/web1.toml", "--json").stdout)
    assert found["params"]["kernel_path"] == f"{home}/guests/k"


def test_paths_from_stdin_begin_at_the_current_directory(hv: Hv, home: Path) -> None:
    found = json.loads(hv("check", "-", "--json", stdin=KVM.format(disk="d", kernel="k")).stdout)
    assert found["params"]["kernel_path"] == f"{home.parent}/k"


def test_a_uri_and_a_path_inside_a_guest_stay_as_they_are(hv: Hv, home: Path) -> None:
    file = home / "web1.toml"
    file.write_text(KVM.format(disk="rbd:pool/image", kernel="/k"))
    assert load_instance(file).disks[0].path == "rbd:pool/image"
    file.write_text('name = "c"\ndriver = "chroot"\n[params]\ninit_script = "sbin/init"\n')
    assert "init_script" in hv("check", str(file)).stderr


def test_a_program_gives_the_directory(home: Path, run_dir: Path) -> None:
    data = {"name": "web1", "driver": "kvm", "disks": [{"path": "d.img"}], "params": {"kernel_path": "k"}}
    assert Node().check(data, directory=home).disks[0].path == f"{home}/d.img"


@pytest.mark.parametrize("key", ["memory_mib", "vcpus", "driver", "disks", "memory-mib"])
def test_a_key_of_the_instance_below_params_is_sent_above(hv: Hv, instance_file: File, key: str) -> None:
    found = hv("check", instance_file(params=f"{key} = 512"))
    assert found.exit_code == 2
    assert f"{key.replace('-', '_')} belongs above [params]" in found.stderr


def test_a_parameter_above_params_is_sent_below(hv: Hv) -> None:
    found = hv("check", "-", stdin='name = "web1"\ndriver = "fake"\nmotd = "hello"\n')
    assert "motd: unknown key; motd belongs below [params]" in found.stderr


@pytest.mark.parametrize(
    ("given", "works"),
    [
        *((given, True) for given in ("5s", "2m", "1h", "500ms", "1.5", "2 m")),
        *((given, False) for given in ("5x", "m", "-5s", "200h", "0s", "5 minutes")),
    ],
)
def test_a_deadline_can_have_a_unit(hv: Hv, given: str, *, works: bool) -> None:
    found = hv("stop", "web1", f"--deadline={given}")
    assert found.exit_code == (4 if works else 2)
    assert works or "--deadline: must be" in found.stderr


def test_synonyms_run_the_subcommand(hv: Hv, instance_file: File) -> None:
    file = instance_file()
    hv("start", file)
    assert hv("ls").stdout.split() == hv("ps").stdout.split()
    assert "web1" in hv("ls").stdout
    assert hv("status", "web1").stdout.startswith("name")
    assert hv("status").stdout.startswith("NAME")
    assert "running again" in hv("restart", "web1").stdout
    assert "powerdown" in hv("shutdown", "web1").stdout
    hv("start", file)
    assert "kill" in hv("destroy", "web1").stdout


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("create", "hv new NAME --image FILE"),
        ("kill", "hv stop NAME"),
        ("show", "hv info"),
        ("rm", "hv stop"),
        ("version", "--version"),
    ],
)
def test_a_word_of_another_tool_is_explained(hv: Hv, word: str, hint: str) -> None:
    found = hv(word)
    assert found.exit_code == 2
    assert hint in found.stderr


def test_help_is_a_subcommand(hv: Hv) -> None:
    assert hv("help").stdout == hv("--help").stdout
    assert hv("help", "start").stdout == hv("start", "--help").stdout
    assert hv("help", "restart").stdout == hv("reboot", "--help").stdout
    assert hv("help", "starrt").exit_code == 2


def test_synonyms_are_in_the_help(hv: Hv) -> None:
    shown = hv("--help").stdout
    assert all(word in shown for word in SYNONYMS)


def test_the_list_can_be_filtered_and_be_names_only(hv: Hv, instance_file: File) -> None:
    hv("start", instance_file("web1"), instance_file("web2"))
    hv("pause", "web2")
    assert hv("list", "-q").stdout == "web1\nweb2\n"
    assert hv("list", "-q", "--state", "paused").stdout == "web2\n"
    assert hv("list", "-q", "--state", "paused", "--state", "running").stdout == "web1\nweb2\n"
    assert hv("list", "-q", "--driver", "kvm").stdout == ""
    assert [one["name"] for one in json.loads(hv("list", "--json", "--state", "running").stdout)] == ["web1"]
    assert hv("list", "--state", "crashed").stderr == "no instances\n"
    assert hv("list", "--json", "--watch").exit_code == 2
    assert hv("list", "--state", "asleep").exit_code == 2


def test_info_has_the_file_the_times_the_disks_and_the_nics(hv: Hv, home: Path, run_dir: Path) -> None:
    (home / "web1.img").write_bytes(b"")
    file = home / "web1.toml"
    disks = '[[disks]]\npath = "web1.img"\nread_only = true\n'
    file.write_text(f'name = "web1"\ndriver = "fake"\n{disks}[[nics]]\nlink = "br0"\nmode = "bridged"\n')
    hv("start", str(file))
    shown = dict(line.split(maxsplit=1) for line in hv("info", "web1").stdout.replace(" 0 ", "0 ").splitlines())
    assert shown["file"] == str(file)
    assert shown["disk0"] == f"{home}/web1.img (raw, read-only)"
    assert shown["nic0"].startswith("52:54:00:")
    assert shown["nic0"].endswith("bridged to br0")
    assert shown["started"].startswith("20")
    assert "ended" not in shown
    found = json.loads(hv("info", "web1", "--json").stdout)
    assert (found["source"], found["ended_at"]) == (str(file), None)
    assert found["disks"][0]["path"] == f"{home}/web1.img"


def test_of_several_files_all_are_checked(hv: Hv, instance_file: File) -> None:
    found = hv("check", instance_file("web1"), instance_file("web2", params="motd = 3"), instance_file("web3"))
    assert found.exit_code == 2
    assert found.stdout == "web1: ok (fake, 0 parameters set)\nweb3: ok (fake, 0 parameters set)\n"
    assert "web2.toml': 1 problem" in found.stderr
