"""A list of guests imports the code that observes them, and none that starts them."""

from __future__ import annotations

import subprocess
import sys

from hv_kvm.driver import KvmDriver
from hvcore.operations.inspection.observe import observer_of


def test_observing_a_guest_imports_no_family_and_no_monitor() -> None:
    place = observer_of(KvmDriver)
    assert place == "hv_kvm.run.observation.observe:observe"
    code = f"import sys, {place.partition(':')[0]}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    ours = {name for name in found if name.startswith("hv_kvm.")}
    assert ours == {
        "hv_kvm.run",
        "hv_kvm.run.observation.journal",
        "hv_kvm.event",
        "hv_kvm.run.observation",
        "hv_kvm.run.observation.observe",
        "hv_kvm.paths",
    }
    assert {
        "hvcore.state.job",
        "hvcore.plugins.loader",
        "hvcore.params.schema",
        "pluggy",
        "subprocess",
        "socket",
    } & set(found) == set()
