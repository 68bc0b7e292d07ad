"""What a real guest reaches through passt: with rules, after the operator has flushed them, and after recovery."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import served_guest
from another_user import USER, environment, python_as_user
from node_and_internet import NODE, OUTSIDE, PRIVATE, node_and_internet, run
from served_guest import LOOPBACK, NAME, reached

import hvcore
from hvcore.host.network.installed_passt import passt_options
from hvcore.host.network.nft import find_nft
from hvcore.model.network.passt_arguments import CLOSES_LOOPBACK

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(420)]


@pytest.fixture
def network() -> Iterator[None]:
    if find_nft() is None or shutil.which("passt") is None:
        pytest.skip("no nft or passt on this machine: ./dev setup")
    with node_and_internet():
        run("/usr/sbin/nft flush ruleset")
        yield


@pytest.fixture
def ram_disk(tmp_path: Path, initrd: Callable[..., bytes], network_modules: dict[str, bytes]) -> Path:
    path = tmp_path / "initrd.img"
    path.write_bytes(initrd("hello", network_modules))
    os.chmod(path, 0o644)
    return path


@pytest.mark.parametrize(
    ("policy", "addresses"), [("internet", OUTSIDE), ("none", ()), (None, (*NODE, *OUTSIDE, *PRIVATE))]
)
def test_a_user_s_guest_reaches_no_more(
    network: None, kernel: Path, ram_disk: Path, policy: str | None, addresses: Iterable[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="hv-egress-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        initrd, file, run_dir = folder / "initrd.img", folder / "web1.toml", folder / "run"
        shutil.copy(ram_disk, initrd)
        run_dir.mkdir()
        os.chown(run_dir, USER, USER)
        given = ["0:80", "[::1]:0:80/tcp", "127.0.0.1:0:80", f"{NODE[0]}:0:80", f"[{NODE[1]}]:0:80", "0:7/udp"]
        nic = f"forward = {json.dumps(given)}"
        nic += "" if policy is None else f'\negress = "{policy}"'
        file.write_text(served_guest.instance_text(kernel, initrd, nic=nic, params='user_network = "passt"'))
        tried = [*NODE, *OUTSIDE, *PRIVATE, LOOPBACK]
        program = python_as_user(served_guest.__file__, str(run_dir), str(file), *tried, tun=True)
        done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment(run_dir))
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout)
    assert facts["pages"] == ["hello from the guest\n"] * 5
    assert facts["echoes"] == ["a datagram"] * 2
    assert {(kind, address) for kind, address in facts["reached"]} == both(*addresses)
    assert (facts["reason"], facts["notes"]) == (None, [])
    assert not subprocess.run(["/usr/sbin/nft", "list", "ruleset"], check=True, capture_output=True).stdout


def both(*addresses: str) -> set[tuple[str, str]]:
    return {(kind, address) for kind in ("tcp", "udp") for address in addresses}


def test_internet_leads_to_neither_the_node_nor_private_networks(
    node: hvcore.Node, network: None, kernel: Path, ram_disk: Path, tmp_path: Path
) -> None:
    file = tmp_path / "web1.toml"
    nic = 'egress = "internet"\nforward = ["0:80"]'
    file.write_text(served_guest.instance_text(kernel, ram_disk, nic=nic, params='user_network = "passt"'))
    assert served_guest.started(node, file).notes == ()
    with served_guest.console(node) as terminal:
        node.resume(NAME)
        served_guest.serve(terminal)
        assert served_guest.fetch("127.0.0.1", served_guest.ports(node)[0]) == "hello from the guest\n"
        served_guest.send_loopback_out(terminal)
        assert reached(terminal, [*NODE, *OUTSIDE, *PRIVATE, LOOPBACK]) == both(*OUTSIDE)
        assert node.info(NAME).reason is None
        # Without the rules each of these is reached: what the guest tries is right. passt cannot answer UDP of 127.0.0.0/8,
        # and newer releases drop what is for there.
        run("/usr/sbin/nft flush ruleset")
        closed = CLOSES_LOOPBACK in passt_options("/usr/bin/passt", tmp_path / "cache")
        loopback = set() if closed else {("tcp", LOOPBACK)}
        assert reached(terminal, [LOOPBACK, PRIVATE[0], PRIVATE[-1]]) >= both(PRIVATE[0], PRIVATE[-1]) | loopback
        assert "egress is not enforced" in (node.info(NAME).reason or "")
        assert [one.what for one in node.recover()] == ["restored"]
        assert reached(terminal, [LOOPBACK, PRIVATE[0], OUTSIDE[0]]) == both(OUTSIDE[0])
        assert node.info(NAME).reason is None
    assert node.stop(NAME, force=True).changed
    assert not list((node.run_dir / "reservations" / "egress").iterdir())
