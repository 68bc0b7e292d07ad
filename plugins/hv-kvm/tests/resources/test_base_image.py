"""Images with a base: what is made, and what is refused of an image that somebody else has made."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hv_kvm.machine.resource import Backing, Image, TemporaryOverlay
from hv_kvm.resources.image import ImageKind
from hv_kvm.resources.qcow2_header import qcow2_problem, read_header
from hv_kvm.resources.qcow2_overlay import empty_overlay
from hv_kvm.resources.temporary_overlay import TemporaryOverlayKind
from hv_kvm.resources.whole_file import make_whole
from hvcore.plugin import Host, Level, Resource, ResourceKind, Site

GIB = 1 << 30
Refusals = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(
        name="web1", host=Host(run_dir=tmp_path / "run", privileged=False, uid_pool=range(1, 2)), level=Level.OFF
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with ``base.qcow2`` of 1 GiB and ``base.img`` of 1 MiB and a byte."""
    (tmp_path / "base.qcow2").write_bytes(empty_overlay(GIB))
    (tmp_path / "base.img").write_bytes(b"\0" * ((1 << 20) + 1))
    return tmp_path


def problems(kind: ResourceKind[Any, Any], resource: Resource[Any], site: Site) -> str:
    return "\n".join(map(str, kind.verify(resource, site)))


def overlay(folder: Path, base: str = "base.qcow2", **more: Any) -> Image:
    backing = Backing(path=str(folder / base), format=more.pop("base_format", "qcow2"))
    given: dict[str, Any] = {"key": "disk0", "fdset": 1, "write": True, "claim": True, "format": "qcow2", "make": True}
    return Image(path=str(folder / "top.qcow2"), given_by="disks[0].path", backing=backing, **(given | more))


def made(image: Image, site: Site, size: int | None = None) -> Path:
    """The overlay as a start makes it."""
    from hv_kvm.resources.base_image import overlay_on

    make_whole(image.path, lambda file: file.write(overlay_on(image.backing, size, named=True)))
    assert problems(ImageKind(), image, site) == ""
    return Path(image.path)


@pytest.mark.parametrize("size", [GIB, 512, 20 * GIB, 4 << 40, (4 << 40) + 512, 1 << 50])
def test_qemu_img_finds_nothing_wrong_with_an_empty_overlay(folder: Path, size: int) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("no qemu-img: install qemu-utils")
    base, top = folder / "a base, of 1.qcow2", folder / "top.qcow2"
    base.write_bytes(empty_overlay(min(size, GIB)))
    state = {"size": base.stat().st_size, "mtime_ns": base.stat().st_mtime_ns}
    top.write_bytes(empty_overlay(size, backing=os.fsencode(base), backing_format="qcow2", base_state=state))
    checked = subprocess.run(["qemu-img", "check", "--output=json", top], capture_output=True, check=True).stdout
    assert not {"corruptions", "leaks"} & json.loads(checked).keys()
    seen = json.loads(
        subprocess.run(["qemu-img", "info", "--output=json", top], capture_output=True, check=True).stdout
    )
    assert (seen["virtual-size"], seen["full-backing-filename"], seen["backing-filename-format"]) == (
        size,
        str(base),
        "qcow2",
    )
    header = read_header(top.read_bytes()[: 1 << 16])
    assert header is not None
    assert (header.backing_format, header.base_state) == ("qcow2", state)


def test_qemu_keeps_the_state_of_the_base_when_it_writes_the_header(folder: Path, site: Site) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("no qemu-img: install qemu-utils")
    path = made(overlay(folder), site)
    before = read_header(path.read_bytes())
    subprocess.run(["qemu-img", "resize", "-q", path, "3G"], check=True)
    subprocess.run(["qemu-img", "amend", "-f", "qcow2", "-o", "lazy_refcounts=on", path], check=True)
    subprocess.run(["qemu-img", "rebase", "-u", "-b", folder / "base.qcow2", "-F", "qcow2", path], check=True)
    after = read_header(path.read_bytes())
    assert before is not None
    assert after is not None
    assert (after.size_bytes, after.base_state) == (3 * GIB, before.base_state)


def test_an_image_on_a_raw_base_ends_at_a_whole_sector(folder: Path, site: Site) -> None:
    path = made(overlay(folder, "base.img", base_format="raw"), site)
    header = read_header(path.read_bytes())
    assert header is not None
    assert (header.size_bytes, header.backing_format) == ((1 << 20) + 512, "raw")


def test_an_image_that_is_to_be_made_is_accepted_only_where_it_can_be_made(folder: Path, site: Site) -> None:
    assert problems(ImageKind(), overlay(folder), site) == ""
    assert "would be made with 1048576 bytes, and its base" in problems(
        ImageKind(), overlay(folder, size_bytes=1 << 20), site
    )
    nowhere = Image(**{**_fields(overlay(folder)), "path": str(folder / "none" / "top.qcow2")})
    assert "cannot be created in" in problems(ImageKind(), nowhere, site)
    assert "create it" in problems(ImageKind(), overlay(folder, make=False), site)


def _fields(image: Image) -> dict[str, Any]:
    return {name: getattr(image, name) for name in Image.__dataclass_fields__}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda base: os.utime(base, ns=(0, base.stat().st_mtime_ns + 1)), "before that was last changed"),
        (lambda base: base.write_bytes(base.read_bytes() + b"x"), "and now it has"),
        (lambda base: base.write_bytes(b""), "and now it has 0"),
    ],
    ids=["time", "size", "emptied"],
)
def test_a_base_that_was_changed_under_an_image_is_refused(
    folder: Path, site: Site, change: Callable[[Path], object], what: str
) -> None:
    made(overlay(folder), site)
    change(folder / "base.qcow2")
    assert what in problems(ImageKind(), overlay(folder), site)


def test_the_command_in_the_refusal_makes_a_copy_of_the_base_acceptable(folder: Path, site: Site) -> None:
    made(overlay(folder), site)
    base = folder / "base.qcow2"
    contents = base.read_bytes()
    base.unlink()
    base.write_bytes(contents)
    os.utime(base, ns=(0, 5))
    command = problems(ImageKind(), overlay(folder), site).rpartition(": ")[2]
    assert command.startswith("touch -d @")
    subprocess.run(command.split(), check=True)
    assert problems(ImageKind(), overlay(folder), site) == ""


def header_with(backing: bytes, extensions: bytes = b"") -> bytes:
    """An empty overlay of another program."""
    data = bytearray(empty_overlay(GIB, backing=b"x"))
    at = 104 + len(extensions) + 8
    data[104 : at + len(backing)] = extensions + bytes(8) + backing
    struct.pack_into(">QI", data, 8, at, len(backing))
    return bytes(data)


@pytest.mark.parametrize("name", ["{here}/base.qcow2", "base.qcow2", "./base.qcow2", "link.qcow2"])
def test_a_header_may_name_the_base_in_any_way(folder: Path, site: Site, name: str) -> None:
    (folder / "link.qcow2").symlink_to("base.qcow2")
    (folder / "top.qcow2").write_bytes(header_with(name.format(here=folder).encode()))
    assert problems(ImageKind(), overlay(folder), site) == ""


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (header_with(b"/etc/shadow"), "has the backing file '/etc/shadow' in its header, and base is"),
        (header_with(b"base.img"), "has the backing file 'base.img' in its header, and base is"),
        (
            header_with(b'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}'),
            "has the backing file 'json:",
        ),
        (header_with(b"nbd:unix:/run/x"), "has the backing file 'nbd:unix:/run/x'"),
        (header_with(b"\0\xff/../base.qcow2"), "has the backing file"),
        (header_with(b"base.qcow2", struct.pack(">II", 0xE2792ACA, 3) + b"raw".ljust(8, b"\0")), "of format 'raw'"),
        (header_with(b"base.qcow2", struct.pack(">II", 0x44415441, 1 << 30)), "an extension of 1073741824 bytes"),
        (header_with(b"x" * 2000), "a backing file whose name is not in its header"),
        (empty_overlay(GIB), "is a qcow2 image without a backing file, and the disk has a base"),
        (b"\0" * 512, "is not a qcow2 image"),
    ],
)
def test_a_header_that_disagrees_with_the_instance_is_refused(folder: Path, site: Site, data: bytes, what: str) -> None:
    (folder / "top.qcow2").write_bytes(data)
    assert what in problems(ImageKind(), overlay(folder), site)


def test_an_image_with_a_backing_file_is_refused_without_a_base(folder: Path, site: Site) -> None:
    (folder / "top.qcow2").write_bytes(header_with(b"base.qcow2"))
    alone = Image(**{**_fields(overlay(folder)), "backing": None, "make": False})
    assert "is a qcow2 image with a backing file, 'base.qcow2'" in problems(ImageKind(), alone, site)


@pytest.mark.parametrize(
    ("offset", "field", "value", "what"),
    [
        (36, ">I", 1 << 31, "a table of 17179869184 bytes, and QEMU reads at most"),
        (56, ">I", 1 << 31, "a refcount table of 140737488355328 bytes"),
        (60, ">I", 1 << 31, "2147483648 snapshots"),
        (48, ">Q", 1 << 62, "its refcount table ends at"),
        (40, ">Q", 1 << 62, "its table ends at"),
    ],
)
def test_huge_tables_are_refused(offset: int, field: str, value: int, what: str) -> None:
    data = bytearray(empty_overlay(GIB))
    struct.pack_into(field, data, offset, value)
    found = qcow2_problem(read_header(bytes(data)), len(data))
    assert found is not None
    assert what in found[0]


def test_a_temporary_file_is_refused_where_none_can_be_made(folder: Path, site: Site) -> None:
    def temporary(directory: str, **more: Any) -> str:
        backing = Backing(path=str(folder / "base.qcow2"), format="qcow2")
        given: dict[str, Any] = {"key": "disk0", "given_by": "disks[0].path", "fdset": 1, "backing": backing}
        return problems(TemporaryOverlayKind(), TemporaryOverlay(directory=directory, **given, **more), site)

    assert temporary(str(folder)) == ""
    assert "params.disk_temporary_path: no temporary file can be made there" in temporary("/proc")
    assert "No such file" in temporary(str(folder / "none"))
    assert "would be made with 512 bytes" in temporary(str(folder), size_bytes=512)
    assert sorted(path.name for path in folder.iterdir()) == ["base.img", "base.qcow2"]
