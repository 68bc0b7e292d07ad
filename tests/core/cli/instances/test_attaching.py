"""``hv attach``, ``detach``, ``insert``, ``eject``, ``resize`` and ``apply``, with the fake driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Hv


def test_a_disk_comes_and_goes_by_its_name(hv: Hv, web1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = hv("attach", "web1", "disk", "--path", "more.img", "--read-only")
    assert done.exit_code == 0
    assert done.stdout.startswith("web1: disk1 attached (")
    assert f"disk1    {tmp_path}/more.img (raw, read-only)" in hv("info", "web1").stdout
    again = hv("attach", "web1", "disk", "--path", "more.img", "--read-only", "--json")
    document = json.loads(again.stdout)
    assert (document["op"], document["device"], document["changed"]) == ("attach", "disk1", False)
    assert hv("detach", "web1", "disk1").stdout.startswith("web1: disk1 detached (")
    assert json.loads(hv("info", "web1", "--json").stdout)["devices"] == {"disk0": "disks[0]"}


@pytest.mark.usefixtures("web1")
def test_a_disk_is_attached_on_a_base_or_for_a_while(hv: Hv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = hv(
        "attach", "web1", "disk", "--path", "top.qcow2", "--format", "qcow2", "--base", "a.qcow2", "--base", "/b.img"
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{tmp_path}/top.qcow2 (qcow2, on {tmp_path}/a.qcow2, on /b.img)" in hv("info", "web1").stdout
    assert hv("attach", "web1", "disk", "--path", "c.img", "--temporary").exit_code == 0
    assert f"{tmp_path}/c.img (raw, temporary)" in hv("info", "web1").stdout
    refused = hv("attach", "web1", "nic", "--base", "a.qcow2")
    assert (refused.exit_code, "--base is no option of a nic" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("detach", "web1", "dsk0"), 2, "web1: has no device 'dsk0'; it has disk0"),
        (("detach", "web9", "disk0"), 4, "web9: no such instance"),
        (("attach", "web1", "disk"), 2, "a disk needs --path"),
        (("attach", "web1", "usb"), 2, "a USB device needs --device"),
        (("attach", "web1", "nic", "--path", "/x"), 2, "--path is no option of a nic"),
        (("attach", "web1", "usb", "--device", "mouse", "--type", "x"), 2, "--type is no option of a usb"),
        (("attach", "web1", "disk", "--path", "/x", "--format", "odd"), 2, "format: "),
        (("attach", "web1", "disk", "--path", "/x", "--save"), 2, "has no definition to save the device in"),
        (("attach", "web1", "nic"), 1, "has no network"),
        (("insert", "web1", "cdrom1", "/x.iso"), 3, "does not support insert"),
        (("eject", "web1", "cdrom1"), 3, "does not support eject"),
        (("resize", "web1", "disk0", "2G"), 3, "does not support resize"),
        (("resize", "web1", "disk0", "much"), 2, "must be a size such as 20G"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    hv: Hv, web1: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    before = hv("info", "web1", "--json").stdout
    done = hv(*words)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    devices = [json.loads(text)["devices"] for text in (before, hv("info", "web1", "--json").stdout)]
    assert devices[0] == devices[1]


def test_apply_makes_what_changes_shows_as_now(hv: Hv, web1: Path) -> None:
    web1.write_text(f'{web1.read_text()}[[disks]]\npath = "/srv/b.img"\n')
    assert "now" in hv("changes", "web1").stdout
    done = hv("apply", "web1")
    assert (done.exit_code, done.stdout) == (0, "web1: attach of disk1 done\n")
    assert hv("changes", "web1").stdout == ""
    again = hv("apply", "web1", "--json")
    assert json.loads(again.stdout) == []
    assert "no change can be made while it runs" in again.stderr


def test_apply_says_what_waits(hv: Hv, web1: Path) -> None:
    web1.write_text(web1.read_text().replace('"fake"', '"fake"\ntags = ["db"]\nmemory_mib = 256'))
    done = hv("apply", "web1")
    assert (done.exit_code, done.stdout) == (0, "web1: memory done\n")
    assert "1 changes wait" not in done.stderr
    assert "1 change waits for a reboot or a start; see 'hv changes web1'" in done.stderr


def test_apply_goes_on_after_a_failure_and_the_exit_code_says_so(hv: Hv, web1: Path) -> None:
    fails = web1.read_text().replace("[[disks]]", '[params]\nfail_at = "attach"\n[[disks]]')
    web1.write_text(fails)
    hv("stop", "web1")
    hv("start", str(web1))
    web1.write_text(fails.replace('"fake"', '"fake"\nvcpus = 2') + '[[disks]]\npath = "/srv/b.img"\n')
    done = hv("apply", "web1", "--json")
    documents = json.loads(done.stdout)
    assert (done.exit_code, [(one["field"], one["done"]) for one in documents]) == (
        1,
        [("disks[1]", False), ("vcpus", True)],
    )
    assert "fails on purpose" in documents[0]["message"]
    assert "fails on purpose" in done.stderr
    assert hv("apply", "web1").exit_code == 1
