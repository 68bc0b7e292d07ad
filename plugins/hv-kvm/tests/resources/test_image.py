"""Images that are copied from a template, and the headers of qcow2 images."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.machine.resource import Image
from hv_kvm.resources.image import ImageKind, copy_template
from hv_kvm.resources.qcow2_header import qcow2_problem, read_header
from hvcore.plugin import Host, Level, Site


def test_a_template_is_copied_once_and_whole(tmp_path: Path) -> None:
    template, path = tmp_path / "template", tmp_path / "new"
    template.write_bytes(b"first" * 1000)
    copy_template(str(template), str(path))
    assert path.read_bytes() == template.read_bytes()
    template.write_bytes(b"second")
    copy_template(str(template), str(path))
    assert path.read_bytes() == b"first" * 1000
    assert sorted(tmp_path.iterdir()) == [path, template]


def header(version: int = 3, backing: int = 0, features: int = 0, magic: bytes = b"QFI\xfb", **more: int) -> bytes:
    """The 112 bytes of a header of version 3; ``more`` are cluster_bits, encryption, compression, and the table's offset."""
    head = magic + struct.pack(">IQII", version, backing, 0, more.get("cluster_bits", 16))
    head += struct.pack(">QIIQ", 1 << 30, more.get("encryption", 0), 2, more.get("table", 0x30000))
    head = head.ljust(72, b"\0") + struct.pack(">Q", features).ljust(28, b"\0") + struct.pack(">I", 112)
    return head + bytes([more.get("compression", 0)]).ljust(8, b"\0")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (header(), None),
        (header(version=2), None),
        (header(features=1), None),
        (header(features=0b11000, compression=1), None),
        (header(version=2, features=4), None),
        (header(backing=1 << 20), "a backing file whose name is not in its header"),
        (header(version=2, backing=72), "a backing file whose name is not in its header"),
        (header(features=4), "data are in another file"),
        (header(features=2), "marked as corrupt"),
        (header(features=1 << 5 | 1 << 63), "does not know (bit 5, 63)"),
        (header(compression=2), "unknown compression 2"),
        (header(encryption=2), "encrypted qcow2 image (LUKS)"),
        (header(version=2, encryption=1), "encrypted qcow2 image (AES)"),
        (header(encryption=9), "encrypted qcow2 image (method 9)"),
        (header(cluster_bits=60), "clusters of 2^60 bytes"),
        (header(table=0x40000), "cut off at 196624 bytes, and its table ends at 262160"),
        (header(version=4), "version 4"),
        (header(magic=b"\x7fELF"), "not a qcow2 image"),
        (b"", "not a qcow2 image"),
    ],
)
def test_the_problem_of_a_qcow2_header(data: bytes, what: str | None) -> None:
    found = qcow2_problem(read_header(data), 0x30010)
    assert (found is None) if what is None else (found is not None and what in found[0])


@given(st.binary(max_size=120))
def test_no_header_raises(data: bytes) -> None:
    qcow2_problem(read_header(b"QFI\xfb" + data), 4096)


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """``refusal(data, claim=False)``: what verify says of an image with these contents, empty when it accepts it."""

    def run(data: bytes, **how: Any) -> str:
        path = tmp_path / "image"
        path.write_bytes(data)
        given: dict[str, Any] = {"fdset": 1, "write": True, "claim": True, "key": "disk0", "given_by": "disks[0].path"}
        image = Image(path=str(path), **(given | how))
        host = Host(run_dir=tmp_path / "run", privileged=False, uid_pool=range(1, 2))
        return "\n".join(map(str, ImageKind().verify(image, Site(name="web1", host=host, level=Level.OFF))))

    return run


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (header(), "is a qcow2 image, but its format is raw"),
        (b"KDMV", "is a vmdk image"),
        (b"# Disk DescriptorFile\n", "a vmdk image"),
        (b"vhdxfile", "is a vhdx image"),
        (b"conectix", "is a vhd image"),
        (b"\xfd7zXZ\0", "is compressed with xz, and the guest would see the compressed bytes"),
        (b"\x1f\x8b\x08", "is compressed with gzip"),
        (b"", "is empty (0 bytes)"),
    ],
)
def test_a_raw_disk_that_is_another_format_is_refused_unless_the_guest_keeps_it_there(
    refusal: Callable[..., str], data: bytes, what: str
) -> None:
    padded = data.ljust(4096, b"\0") if data else data
    assert what in refusal(padded)
    assert "disks[0].path" in refusal(padded)
    assert refusal(padded, any_contents=True) == ""


@pytest.mark.parametrize("data", [b"\0" * 100, b"LUKS\xba\xbe".ljust(4096, b"\0"), b"\0" * 510 + b"\x55\xaa"])
def test_what_a_guest_itself_writes_to_its_disk_is_accepted(refusal: Callable[..., str], data: bytes) -> None:
    assert refusal(data) == ""


def test_a_cdrom_that_is_a_qcow2_image_is_refused_in_words_that_name_no_parameter_for_disks(
    refusal: Callable[..., str],
) -> None:
    text = refusal(header(), claim=False, write=False, given_by="params.cdrom_image_path")
    assert "only raw images are possible here" in text
    assert "convert it with qemu-img convert -f qcow2 -O raw" in text


def test_variables_of_another_build_of_the_firmware_are_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    template = tmp_path / "OVMF_VARS_4M.fd"
    template.write_bytes(bytes(540672))
    assert refusal(bytes(540672), template=str(template)) == ""
    text = refusal(bytes(131072), template=str(template))
    assert "has 131072 bytes, but the variables of this firmware have 540672" in text
    template.unlink()
    assert refusal(bytes(131072), template=str(template)) == ""


@pytest.mark.parametrize(
    ("name", "must_be", "said"),
    [
        ("none", "image", "(No such file or directory), got %r; create it, or give an image file or a block device"),
        ("loop", "image", "(Too many levels of symbolic links), got %r; give an image file or a block device"),
        ("dir", "image", "is neither a file nor a block device, got %r; give an image file or a block device"),
        ("file", "block", "so it has no SCSI device, got %r; give a block device that has a SCSI device"),
        ("file", "sg", "is not a SCSI generic device, got %r; give a SCSI generic device such as /dev/sg0"),
    ],
)
def test_a_path_that_cannot_be_used_is_reported_with_what_to_do(
    tmp_path: Path, name: str, must_be: str, said: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    path = str(tmp_path / name)
    image = Image(key="disk0", given_by="disks[0].path", path=path, must_be=must_be, fdset=1, write=True, claim=True)
    site = Site(name="web1", host=Host(run_dir=tmp_path, privileged=True, uid_pool=range(1, 2)), level=Level.STRICT)
    (problem,) = ImageKind().verify(image, site)
    assert str(problem).startswith("disks[0].path: ")
    assert str(problem).endswith(said % path)
