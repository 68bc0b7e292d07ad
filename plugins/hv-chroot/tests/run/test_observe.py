"""A list of instances imports the modules that observe them, and none that makes them."""

from __future__ import annotations

import subprocess
import sys

from hv_chroot.driver import ChrootDriver
from hvcore.operations.inspection.observe import observer_of


def test_observing_an_instance_imports_no_family_and_no_mount() -> None:
    place = observer_of(ChrootDriver)
    assert place == "hv_chroot.run.observe:observe"
    code = f"import sys, {place.partition(':')[0]}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    ours = {name for name in found if name.startswith("hv_chroot.")}
    assert ours == {
        "hv_chroot.run",
        "hv_chroot.run.census",
        "hv_chroot.names",
        "hv_chroot.run.observe",
    }
    late = {"ctypes", "hvcore.state.job", "hvcore.plugins.loader", "hvcore.params.schema", "pluggy", "subprocess"}
    assert late & set(found) == set()
