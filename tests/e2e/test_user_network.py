"""The user network of a real guest: a web server in it answers curl on the node, as root and as another user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import served_guest
from another_user import USER, environment, python_as_user
from own_network import ADDRESSES, own_network
from served_guest import NAME

import hvcore
import hvcore.plugin as hv
from hvcore.host.network.installed_passt import passt_options
from hvcore.model.network.egress_rules import POLICIES
from hvcore.model.network.passt_arguments import CLOSES_LOOPBACK

pytestmark = [pytest.mark.live, pytest.mark.timeout(420)]

PASST = "/usr/bin/passt"
OPEN = "the guest can reach the node's loopback addresses"
PAGE = "hello from the guest\n"
FORWARDS = '["0:80", "[::1]:0:80/tcp", "127.0.0.1:0:80", "0:7/udp"]'
DATAGRAM = "a datagram"


@pytest.fixture
def network() -> Iterator[None]:
    for name in ("passt", "curl"):
        if shutil.which(name) is None:
            pytest.skip(f"no {name} on this machine: ./dev setup")
    with own_network():
        yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user can reach; pytest keeps its own from them."""
    with tempfile.TemporaryDirectory(prefix="hv-network-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def file(
    folder: Path, kernel: Path, initrd: Callable[..., bytes], network_modules: dict[str, bytes]
) -> Callable[..., Path]:
    """Writes an instance file: ``file(nic, params)``."""
    ram_disk = folder / "initrd.img"
    ram_disk.write_bytes(initrd("hello", network_modules))

    def write(nic: str = f"forward = {FORWARDS}", params: str = "", name: str = NAME) -> Path:
        path = folder / f"{name}.toml"
        path.write_text(served_guest.instance_text(kernel, ram_disk, nic=nic, params=params, name=name))
        return path

    return write


def passts(node: hvcore.Node, name: str = NAME) -> list[hv.ProcessId]:
    """The processes of passt beside the guest, by the record."""
    record = json.loads((node.run_dir / "instances" / name / "record.json").read_text().splitlines()[0])
    found = record["bindings"]["companions"]
    return [
        hv.decode(hv.ProcessId, about["process"], "record") for key, about in found.items() if key.endswith("passt")
    ]


def test_a_forwarded_port_leads_to_the_guest_and_a_reboot_repairs_a_dead_passt(
    node: hvcore.Node, network: None, file: Callable[..., Path]
) -> None:
    assert served_guest.started(node, file()).notes == ()
    with served_guest.console(node) as terminal:
        node.resume(NAME)
        lease = served_guest.serve(terminal)
        assert "inet 10.0.2.15/24" in lease
        any_address, v6, v4, udp = served_guest.ports(node)
        for address, forward in (
            *((address, any_address) for address in ("127.0.0.1", "::1", *ADDRESSES.values())),
            ("::1", v6),
            ("127.0.0.1", v4),
        ):
            assert served_guest.fetch(address, forward) == PAGE, address
        for address in ("127.0.0.1", "::1", *ADDRESSES.values()):
            assert served_guest.echoed(address, udp) == DATAGRAM, address
    info = node.info(NAME)
    assert info.pid is not None
    assert Path(f"/proc/{info.pid}/net/dev").read_text().count(":") == 1, "QEMU has a network"
    (passt,) = passts(node)
    assert hv.kill_and_wait(passt, subject=NAME, deadline_s=60)
    info = node.info(NAME)
    assert (info.state, info.reason) == (
        hvcore.State.RUNNING,
        "its passt of nic0 died; restart the instance to get it back",
    )
    assert node.reboot(NAME, force=True).changed
    assert node.info(NAME).reason is None
    (passt,) = passts(node)
    assert hv.alive(passt)
    pid = node.info(NAME).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert hv.wait_gone(passt, 10), "passt outlives QEMU"
    assert node.info(NAME).state is hvcore.State.CRASHED
    assert node.cleanup(NAME).changed
    assert not list((node.run_dir / "reservations" / "uid").iterdir())


@pytest.mark.parametrize(("confinement", "tun"), [("user", False), pytest.param("off", True, marks=pytest.mark.slow)])
def test_an_ordinary_user_has_the_same(
    folder: Path, network: None, file: Callable[..., Path], confinement: str, *, tun: bool
) -> None:
    run_dir = folder / "run"
    run_dir.mkdir()
    os.chown(run_dir, USER, USER)
    instance = file(params=f'confinement = "{confinement}"')
    program = python_as_user(served_guest.__file__, str(run_dir), str(instance), tun=tun)
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment(run_dir))
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout)
    assert facts["pages"] == [PAGE] * 3
    assert facts["echoes"] == [DATAGRAM] * 2
    # passt before 2025 does not close the loopback addresses itself. In a network namespace it cannot reach them.
    if CLOSES_LOOPBACK in passt_options(PASST, folder / "cache"):
        assert (facts["notes"], facts["details"].get("egress")) == ([], None)
    elif tun:
        said = f"a network namespace with pasta lets the guest reach {POLICIES['all']}"
        assert (facts["notes"], facts["details"]["egress"]) == ([], said)
        assert said in facts["plan"]
    else:
        (note,) = facts["notes"]
        assert note.startswith(f"{OPEN}: egress needs /dev/net/tun, which this user cannot open; ")
        assert facts["details"]["egress"] == note


def test_eight_starts_at_once_have_eight_ports(node: hvcore.Node, network: None, file: Callable[..., Path]) -> None:
    files = [str(file('forward = ["0:80"]', 'confinement = "auto"', f"web{number}")) for number in range(8)]
    hv_command = [sys.executable, "-c", "from hvcore.cli import main; main()", "--run-dir", str(node.run_dir)]
    start = [*hv_command, "start", "--paused", "--deadline", "200"]
    starting = [subprocess.Popen([*start, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for path in files]
    for process in starting:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    found = [served_guest.ports(node, f"web{number}") for number in range(8)]
    assert len({forward for (forward,) in found}) == 8
    assert len({passt.pid for number in range(8) for passt in passts(node, f"web{number}")}) == 8


@pytest.mark.parametrize("families", [(), (4,)])
def test_a_node_without_a_route_has_slirp_and_the_outcome_says_so(
    node: hvcore.Node, file: Callable[..., Path], families: tuple[int, ...]
) -> None:
    with own_network(families):
        path = file("")
        plan = node.driver("kvm").plan(hvcore.load_instance(str(path)))
        outcome = served_guest.started(node, path)
    why = (
        "nic0 has QEMU's own user network (slirp), which is slower: passt needs a default route, which this node does "
        "not have"
    )
    expected = () if families else (why,)
    assert outcome.notes == expected
    assert tuple(step.what for step in plan.steps if step.kind == "network") == expected
