"""VLANs of bridge ports, in a guest: the kernel of a test machine may lack them, and Debian's has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT
from linux_guest import guest_params, linux_guests

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900), NEEDS_ROOT]

TOP = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
# a: access 10, b: access 10, c: access 20, d: trunk 10 and 20-21, e: untagged 10 and tagged 20, f: as the bridge.
EXPECTED = """\
a -: b=- d=10 e=-
c -: d=20 e=20
d 10: a=- b=- e=-
d 20: c=- e=20
d 30:
e -: a=- b=- d=10
e 20: c=- d=20
f -:
"""


def python_disk(folder: Path) -> str:
    """A disk with Debian's Python, the core, and the probe; the path of its image."""
    if not os.path.exists(PYTHON) or shutil.which("mke2fs") is None:
        pytest.skip(f"no {PYTHON} and mke2fs on this machine")
    root = folder / "root"
    binary = os.path.realpath(PYTHON)
    library = f"usr/lib/{os.path.basename(binary)}"
    modules = [str(file) for file in Path("/", library, "lib-dynload").glob("_ctypes.*.so")]
    listed = subprocess.run(["ldd", binary, *modules], check=True, capture_output=True, text=True).stdout
    for file in {binary, *re.findall(r"(/\S+) \(0x", listed)}:
        (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(file), root / file[1:])
    unused = shutil.ignore_patterns("test", "idlelib", "config-*", "*.a", "lib2to3", "pydoc_data", "ensurepip")
    shutil.copytree(f"/{library}", root / library, ignore=unused)
    shutil.copytree(TOP / "hvcore", root / "probe/hvcore", ignore=unused)
    shutil.copy(TOP / "tests/lib/vlan_probe.py", root / "probe/vlan_probe.py")
    for name in ("sys", "proc", "dev"):
        (root / name).mkdir()
    image = folder / "python.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, image, "256M"], check=True)
    return str(image)


def test_packets_stay_in_their_vlans(node: hvcore.Node, tmp_path: Path) -> None:
    params = guest_params(tmp_path, "virtio_pci", "virtio_blk", "ext4", "bridge", "veth", "8021q", "af_packet")
    disks = (hvcore.Disk(path=python_disk(tmp_path)),)
    guest = hvcore.Instance(name="vlans", driver="kvm", memory_mib=384, disks=disks, params=params)
    with linux_guests(node, guest) as (console,):
        console.run(
            "mkdir /mnt && mount -t ext4 /dev/vda /mnt && for a in sys proc dev; do mount -o bind /$a /mnt/$a; done"
        )
        console.run("ip link add br0 type bridge && ip link set br0 up")
        probe = f"PYTHONPATH=/probe chroot /mnt {os.path.realpath(PYTHON)} /probe/vlan_probe.py"
        seen = console.run(probe, deadline_s=400)
    assert [line.rstrip() for line in seen.splitlines()] == [line.rstrip() for line in EXPECTED.splitlines()]
