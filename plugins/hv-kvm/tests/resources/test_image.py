"""Images that are copied from a template."""

from __future__ import annotations

from pathlib import Path

from hv_kvm.resources.image import copy_template


def test_a_template_is_copied_once_and_whole(tmp_path: Path) -> None:
    template, path = tmp_path / "template", tmp_path / "new"
    template.write_bytes(b"first" * 1000)
    copy_template(str(template), str(path))
    assert path.read_bytes() == template.read_bytes()
    template.write_bytes(b"second")
    copy_template(str(template), str(path))
    assert path.read_bytes() == b"first" * 1000
    assert sorted(tmp_path.iterdir()) == [path, template]
