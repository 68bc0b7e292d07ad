"""Paths in an instance file that begin at its directory, after a start: the record and a reboot."""

from __future__ import annotations

from pathlib import Path

from hvcore import Disk
from hvcore.config import absolute_params, absolute_paths, reload_instance


def test_a_reload_finds_the_disk_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "web1.toml"
    file.write_text('name = "web1"\ndriver = "fake"\n[[disks]]\npath = "web1.img"\n')
    assert reload_instance(file).disks == (Disk(path=f"{tmp_path}/web1.img"),)


def test_what_is_not_a_path_stays_as_it_is() -> None:
    values = {"a": "rbd:pool/image", "b": "", "c": 3, "d": "nul\0", "e": "https://host/x.iso"}
    assert absolute_params(values, values.keys(), "/srv") == values


def test_only_named_keys_are_paths() -> None:
    assert absolute_params({"a": "x", "b": "x"}, ["a"], "/srv") == {"a": "/srv/x", "b": "x"}


def test_data_of_a_wrong_shape_is_left_for_the_check() -> None:
    for disks in ("x", [3], [["path"]], None):
        assert absolute_paths({"disks": disks}, "/srv") == {"disks": disks}
