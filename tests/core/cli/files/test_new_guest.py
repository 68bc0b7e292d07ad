"""``hv new``: a definition that starts from an image."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Hv

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZjb3JlAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA you@example"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without keys, and a node without definitions."""
    monkeypatch.setenv("HVCORE_CONFIG_DIR", str(tmp_path / "etc"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOGNAME", "ops")
    (tmp_path / "home/.ssh").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "debian.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(100))
    return str(path)


@pytest.fixture
def key(home: Path) -> str:
    path = home / ".ssh/id_ed25519.pub"
    path.write_text(f"# mine\n{KEY}\n\n")
    return str(path)


def made(hv: Hv, tmp_path: Path, image: str, *options: str) -> dict[str, Any]:
    """The definition of web1, after ``hv new`` with these options."""
    file = tmp_path / "etc/instances/web1.toml"
    found = hv("new", "web1", "--image", image, *(options or ("--disk-file", str(tmp_path / "web1.qcow2"))))
    assert (found.exit_code, found.stdout) == (0, f"web1: defined in {file}\n"), found.stderr
    assert "hv start web1 --wait 5m" in found.stderr
    return tomllib.loads(file.read_text())


@pytest.mark.usefixtures("key")
def test_two_options_are_enough_for_a_guest_with_a_user_and_a_way_in(hv: Hv, tmp_path: Path, image: str) -> None:
    own = str(tmp_path / "disks/web1.qcow2")
    assert made(hv, tmp_path, image, "--disk-file", own) == {
        "name": "web1",
        "driver": "kvm",
        "memory_mib": 2048,
        "vcpus": 2,
        "disks": [{"path": own, "format": "qcow2", "base": image, "base_format": "qcow2"}],
        "nics": [{"mode": "user", "forward": ["127.0.0.1:0:22"]}],
        "params": {"use_guest_agent": True, "seed": "nocloud", "seed_user": "ops", "seed_ssh_keys": [KEY]},
    }
    assert os.stat(tmp_path / "disks").st_mode & 0o777 == 0o700
    assert not os.path.exists(own)


@pytest.mark.usefixtures("key")
def test_every_option_is_in_the_definition(hv: Hv, tmp_path: Path, image: str, home: Path) -> None:
    raw = tmp_path / "raw.img"
    raw.write_bytes(bytes(512))
    other = home / "other.pub"
    other.write_text(f"{KEY.replace('you', 'two')}\n{KEY}\n")
    options = ["--memory", "1G", "--cpus", "4", "--disk", "20G", "--user", "root", "--ssh-key", str(other)]
    options += ["--forward", "2222:22", "--forward", "8080:80", "--disk-file", str(tmp_path / "w.qcow2")]
    found = made(hv, tmp_path, str(raw), *options)
    assert (found["memory_mib"], found["vcpus"]) == (1024, 4)
    assert found["disks"][0]["size"] == "20480M"
    assert found["disks"][0]["base_format"] == "raw"
    assert found["nics"][0]["forward"] == ["2222:22", "8080:80"]
    assert found["params"]["seed_user"] == "root"
    assert found["params"]["seed_ssh_keys"] == [KEY.replace("you", "two"), KEY]
    assert hv("check", str(tmp_path / "etc/instances/web1.toml")).exit_code == 0


@pytest.mark.usefixtures("key")
def test_other_networks_and_temporary_disks(hv: Hv, tmp_path: Path, image: str) -> None:
    found = made(hv, tmp_path, image, "--temporary", "--network", "bridged:br0", "--no-seed")
    assert found["disks"] == [{"path": image, "format": "qcow2", "temporary": True}]
    assert found["nics"] == [{"mode": "bridged", "link": "br0"}]
    assert found["params"] == {"use_guest_agent": True}
    assert hv("undefine", "web1").exit_code == 0
    assert made(hv, tmp_path, image, "--temporary", "--network", "none").get("nics", []) == []


def test_a_guest_that_no_key_opens_is_refused(hv: Hv, tmp_path: Path, image: str) -> None:
    found = hv("new", "web1", "--image", image)
    assert found.exit_code == 2
    assert "no public ssh key in" in found.stderr
    assert "--no-seed" in found.stderr
    assert not (tmp_path / "etc").exists()


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--ssh-key", "/none.pub"], "--ssh-key '/none.pub': cannot be read"),
        (["--memory", "much"], "must be a size such as 2048 (MiB) or 20G, got 'much'"),
        (["--network", "token-ring"], "nics[0].mode"),
        (["--forward", "x"], "nics[0].forward"),
        (["--user", "a b"], "params.seed_user"),
        (["--disk-file", "{here}/there"], "exists already"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_and_nothing_is_defined(
    hv: Hv, tmp_path: Path, image: str, options: list[str], what: str
) -> None:
    (tmp_path / "there").touch()
    given = [option.format(here=tmp_path) for option in options]
    temporary = [] if "--disk-file" in given else ["--temporary"]
    found = hv("new", "web1", "--image", image, *temporary, *given)
    assert found.exit_code == 2
    assert what in found.stderr
    assert not list(tmp_path.glob("etc/instances/*.toml"))


@pytest.mark.usefixtures("key")
def test_an_image_that_cannot_be_read_is_refused(hv: Hv, tmp_path: Path) -> None:
    found = hv("new", "web1", "--image", str(tmp_path / "none"))
    assert found.exit_code == 2
    assert "--image" in found.stderr
    assert "No such file" in found.stderr
