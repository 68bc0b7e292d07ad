"""What a real guest reaches through passt: with rules, after the operator has flushed them, and after recovery."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import served_guest
from node_and_internet import NODE, OUTSIDE, PORT, PRIVATE, node_and_internet, run
from served_guest import NAME, Console

import hvcore
from hvcore.host.network.nft import find_nft

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(420)]

_RAW = (
    "/bin/busybox ip addr flush dev lo",
    "/bin/busybox ip link set lo down",
    "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet",
    "/bin/busybox ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0",
)
"""Afterwards the guest sends packets to 127.0.0.0/8 through its NIC."""

_LOOPBACK = "127.8.9.1"  # not an address at which the node's name server may be


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


def reached(terminal: Console, addresses: Iterable[str]) -> set[tuple[str, str]]:
    """Those that answer the guest, over TCP and UDP."""
    found = set()
    for address in addresses:
        for kind, command, answer in (
            ("tcp", f"nc -w 1 {address} {PORT} </dev/null", "here"),
            ("udp", f"nslookup name.test {address} 2>&1", "NXDOMAIN"),
        ):
            # The echo of the line that is typed has no " ended".
            said = terminal.run(f'echo "answer: $(/bin/busybox timeout 2 /bin/busybox {command}) end""ed"', " ended")
            if answer in said.rpartition("answer: ")[2]:
                found.add((kind, address))
    return found


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
        for line in _RAW:
            terminal.sock.sendall(line.encode() + b"\n")
        assert reached(terminal, [*NODE, *OUTSIDE, *PRIVATE, _LOOPBACK]) == both(*OUTSIDE)
        assert node.info(NAME).reason is None
        # Without the rules each of these is reached: what the guest tries is right. passt cannot answer UDP of 127.0.0.0/8.
        run("/usr/sbin/nft flush ruleset")
        assert reached(terminal, [_LOOPBACK, PRIVATE[0], PRIVATE[-1]]) >= both(PRIVATE[0], PRIVATE[-1]) | {
            ("tcp", _LOOPBACK)
        }
        assert "egress is not enforced" in (node.info(NAME).reason or "")
        assert [one.what for one in node.recover()] == ["restored"]
        assert reached(terminal, [_LOOPBACK, PRIVATE[0], OUTSIDE[0]]) == both(OUTSIDE[0])
        assert node.info(NAME).reason is None
    assert node.stop(NAME, force=True).changed
    assert not list((node.run_dir / "reservations" / "egress").iterdir())
