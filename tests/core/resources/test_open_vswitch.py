"""Ports of Open vSwitch: a real database and a real switch, in a network namespace of the test."""

from __future__ import annotations

import os
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from empty_network import Network, empty_network
from flood import KIND, flood, packet, rate_of
from open_vswitch import NEEDS_OVS, OpenVSwitch, open_vswitch

from hvcore.host.network.link_names import link_mark
from hvcore.host.network.ovs_vsctl import OvsError
from hvcore.model.network.ovs_bridge import bridges_in, port_in, to_add_port, to_find_bridge
from hvcore.params.network_types import vlan_of
from hvcore.plugin import Entry, Job, LeftoverError, OperationError, OvsBridge, OvsPort, Site, Tap
from hvcore.resources.node_link import name_of_link
from hvcore.resources.ovs_port import OvsBridgeKind, OvsPortKind

pytestmark = pytest.mark.heavy  # a real switch

AtWork = Callable[..., Job]
Sites = Callable[..., Site]
MAC = "aa:00:00:4b:c1:0"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with empty_network() as network:
        yield network


@pytest.fixture(scope="module")
def running(net: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVSwitch]:
    with open_vswitch(tmp_path_factory.mktemp("ovs") / "run") as switch:
        yield switch


@pytest.fixture
def ovs(running: OpenVSwitch) -> Iterator[OpenVSwitch]:
    yield running
    running.reset()


@pytest.fixture
def mortal(net: Network, tmp_path: Path) -> Iterator[OpenVSwitch]:
    """One whose daemons the test ends."""
    with empty_network(), open_vswitch(tmp_path / "ovs") as switch:
        yield switch


def port(ovs: OpenVSwitch | None = None, number: int = 0, *, name: str = "ovs0", **more: Any) -> OvsPort:
    where = "/nonexistent/db.sock" if ovs is None else ovs.socket
    bridge = OvsBridge(
        key=f"nic{number}.switch", given_by=f"nics[{number}].link", name=name, socket=where, vlan=more.get("vlan")
    )
    tap = Tap(key=f"nic{number}.tap", given_by=f"nics[{number}].mode", mac=f"{MAC}{number}", switch=bridge)
    return OvsPort(
        key=f"nic{number}.port", given_by=f"nics[{number}].link", link=tap, bridge=bridge, mac=tap.mac, **more
    )


def problems(port: OvsPort, site: Site) -> list[str]:
    found = [*OvsBridgeKind().verify(port.bridge, site), *OvsPortKind().verify(port, site)]
    return [str(problem) for problem in found]


def fd_of(job: Job, port: OvsPort) -> int:
    return int(job.held[port.link].fds[0])


@NEEDS_OVS
def test_a_tap_is_a_port_with_its_vlan_its_mark_and_the_mtu_of_the_bridge(
    net: Network, ovs: OpenVSwitch, at_work: AtWork, site: Sites
) -> None:
    net.ip("link", "set", "ovs0", "mtu", "1480")
    wanted = port(ovs, vlan="10")
    assert problems(wanted, site()) == []
    job = at_work()
    name = job.acquire(wanted)[wanted.link].name
    assert ovs.ports() == {name}
    assert ovs.column("Port", name, "tag") == "10"
    assert ovs.column("Port", name, "vlan_mode") == "access"
    assert ovs.column("Port", name, "external_ids:hvcore") == f'"{link_mark(job.host.run_dir, "web1", "nic0.port")}"'
    about = net.about(name)
    assert "mtu 1480" in about
    assert ",UP" in about
    assert "vnet_hdr off" in about  # such a bridge does not complete checksums
    OvsPortKind().prove(wanted, site(), job)
    job.held.close()
    assert name not in net.links()
    assert ovs.ports() == {name}  # the database keeps it
    job.release()
    job.release()
    assert ovs.ports() == set()


@pytest.mark.heavy
@NEEDS_OVS
def test_ports_carry_packets_and_vlans_are_apart(net: Network, ovs: OpenVSwitch, at_work: AtWork) -> None:
    """a, b: VLAN 10. c: VLAN 20. d: trunk of 10. e: untagged 20, tagged 10."""
    job, vlans = at_work(), {"a": "10", "b": "10", "c": "20", "d": "trunk:10", "e": ".20:10"}
    ports = {name: port(ovs, number, vlan=vlan) for number, (name, vlan) in enumerate(vlans.items())}
    job.acquire(*ports.values())
    fds = {name: fd_of(job, one) for name, one in ports.items()}
    for sender, tag, expected in (
        ("a", None, {"b": None, "d": 10, "e": 10}),
        ("c", None, {"e": None}),
        ("d", 10, {"a": None, "b": None, "e": 10}),
        ("d", 20, {}),
        ("e", None, {"c": None}),
    ):
        assert reached(fds, sender, tag, len(expected)) == expected


def reached(fds: dict[str, int], sender: str, tag: int | None, count: int) -> dict[str, int | None]:
    """The taps at which a packet comes out, with its tag there. Waits for that many, and then a little for more."""
    tagged = b"" if tag is None else struct.pack("!HH", 0x8100, tag)
    source = bytes.fromhex(f"{MAC}{list(fds).index(sender)}".replace(":", ""))
    os.write(fds[sender], b"\xff" * 6 + source + tagged + struct.pack("!H", KIND) + bytes(46))
    found: dict[str, int | None] = {}
    names = {fd: name for name, fd in fds.items() if name != sender}
    while ready := select.select(names, [], [], 10.0 if len(found) < count else 0.2)[0]:
        for fd in ready:
            data = os.read(fd, 2048)
            if struct.unpack_from("!H", data, 12)[0] == KIND:
                found[names[fd]] = None
            elif struct.unpack_from("!HHH", data, 12)[::2] == (0x8100, KIND):
                found[names[fd]] = struct.unpack_from("!H", data, 14)[0] & 0xFFF
    return found


@NEEDS_OVS
@pytest.mark.parametrize(
    ("vlan", "columns"),
    [
        ("trunk:10,20-22", {"vlan_mode": "trunk", "trunks": "[10, 20, 21, 22]", "tag": "[]"}),
        (".5:10", {"vlan_mode": "native-untagged", "trunks": "[10]", "tag": "5"}),
        (None, {"vlan_mode": "[]", "trunks": "[]", "tag": "[]"}),
    ],
)
def test_vlans_of_a_port(
    net: Network, ovs: OpenVSwitch, at_work: AtWork, vlan: str | None, columns: dict[str, str]
) -> None:
    wanted = port(ovs, vlan=vlan)
    name = at_work().acquire(wanted)[wanted.link].name
    assert {column: ovs.column("Port", name, column) for column in columns} == columns


@pytest.mark.heavy
@NEEDS_OVS
def test_the_limit_to_the_guest_holds_within_a_fifth_and_goes_with_the_port(
    net: Network, ovs: OpenVSwitch, at_work: AtWork
) -> None:
    limited, other, job = port(ovs, to_guest=8_000_000), port(ovs, 1), at_work()
    job.acquire(limited, other)
    fd, sender = fd_of(job, limited), fd_of(job, other)
    os.set_blocking(sender, False)
    with flood(lambda data: os.write(sender, data), packet(f"{MAC}1", "ff:ff:ff:ff:ff:ff")):
        rate = rate_of(fd)
    print(f"{rate / 8e6:.3f} of the limit")  # noqa: T201 - with -s, for a report
    assert 0.8 < rate / 8e6 < 1.2
    assert ovs.ask("--no-wait", "--columns=type", "--bare", "find", "QoS").split() == ["linux-htb"]
    job.held.close()
    job.release()
    assert ovs.ask("--no-wait", "--columns=type", "--bare", "find", "QoS").split() == []


@NEEDS_OVS
def test_a_limit_from_the_guest_needs_a_bridge_of_the_kernel(net: Network, ovs: OpenVSwitch, site: Sites) -> None:
    wanted = port(ovs, from_guest=8_000_000)
    (told,) = OvsBridgeKind().verify(replace(wanted.bridge, from_guest=8_000_000), site())
    assert str(told) == (
        "nics[0].bandwidth_from_guest: cannot be enforced on bridge ovs0, which is not in the kernel, got 8000000; unset it, "
        "or use a bridge with datapath_type=system"
    )


@NEEDS_OVS
def test_a_bridge_for_one_vlan(net: Network, ovs: OpenVSwitch, at_work: AtWork, site: Sites) -> None:
    ovs.ask("add-br", "v20", "ovs0", "20")
    (told,) = problems(port(ovs, name="v20", vlan="10"), site())
    assert told.startswith("nics[0].vlan: has no effect, because v20 is a bridge for VLAN 20 only, got '10'")
    wanted = port(ovs, name="v20")
    assert problems(wanted, site()) == []
    job = at_work()
    name = job.acquire(wanted)[wanted.link].name
    assert ovs.ports("v20") == {name}
    assert ovs.column("Port", name, "tag") == "20"
    assert "vnet_hdr off" in net.about(name)
    job.release()
    assert ovs.ports("v20") == set()


@NEEDS_OVS
def test_what_is_missing_is_refused_before_and_at_the_start(
    net: Network, mortal: OpenVSwitch, at_work: AtWork, site: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(wanted: OvsPort) -> str:
        (told,) = problems(wanted, site())
        job = at_work()
        with pytest.raises(OperationError) as caught:
            job.acquire(wanted)
        assert str(caught.value) == f"web1: {told}"
        job.held.close()
        job.release()
        job.update(ledger=())
        return told

    assert refused(port(mortal, name="ovs7")) == (
        "nics[0].link: is not a bridge of Open vSwitch, got 'ovs7'; create it: ovs-vsctl add-br ovs7; or name another"
    )
    net.ip("link", "add", "br0", "type", "bridge")
    assert refused(port(mortal, name="br0")) == (
        "nics[0].link: is a bridge of the kernel, not of Open vSwitch, got 'br0'; set mode = 'bridged'"
    )
    mortal.kill_switch()
    assert problems(port(mortal), site()) == [
        "nics[0].mode: needs Open vSwitch, and ovs-vswitchd does not run; start it: systemctl start openvswitch-switch"
    ]
    mortal.kill_database()
    assert refused(port(mortal)) == (
        f"nics[0].mode: needs Open vSwitch, which does not run, got 'unix:{mortal.socket}: database connection failed "
        "(Connection refused)'; start it: systemctl start openvswitch-switch"
    )
    net.ip("link", "del", "br0")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert refused(port(mortal)) == (
        "nics[0].mode: needs Open vSwitch, which is not installed on this node (no ovs-vsctl); install it (Debian: "
        "openvswitch-switch)"
    )


@pytest.mark.heavy
@NEEDS_OVS
def test_a_switch_that_does_not_answer_fails_the_start_which_is_undone(
    net: Network, mortal: OpenVSwitch, at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvcore.resources.ovs_port._ASK_S", 1.0)
    mortal.kill_switch()
    job = at_work()
    with pytest.raises(OperationError, match=r"did not answer within 1 s: ovs-vswitchd does not run"):
        job.acquire(port(mortal))
    job.held.close()
    job.release()
    assert mortal.ports() == set()


@NEEDS_OVS
def test_a_port_that_is_not_ours_is_refused_and_stays(
    net: Network, ovs: OpenVSwitch, at_work: AtWork, site: Sites
) -> None:
    wanted = port(ovs)
    name = name_of_link(wanted.link, site())
    ovs.ask("add-port", "ovs0", name, "--", "set", "Interface", name, "type=internal")
    net.ip("link", "set", name, "name", "moved0")  # so that the tap can be made
    (told,) = problems(wanted, site())
    assert told == (
        f"nics[0].link: needs the port name {name}, and another port of Open vSwitch has it, got ''; "
        f"remove it: ovs-vsctl del-port {name}"
    )
    job = at_work()
    with pytest.raises(OperationError, match="another port of Open vSwitch has it"):
        job.acquire(wanted)
    job.held.close()
    job.release()
    assert ovs.ports() == {name}


@NEEDS_OVS
def test_a_port_that_an_earlier_boot_left_is_replaced_with_its_settings(
    net: Network, ovs: OpenVSwitch, at_work: AtWork, site: Sites
) -> None:
    old, new = port(ovs, vlan="10"), port(ovs, vlan="20")
    job = at_work()
    name = job.acquire(old)[old.link].name
    job.held.close()
    job.update(ledger=())  # the run directory is lost with the boot, the database is not
    assert problems(new, site()) == []
    at_work().acquire(new)
    assert (ovs.ports(), ovs.column("Port", name, "tag")) == ({name}, "20")


@NEEDS_OVS
def test_a_port_at_another_bridge_does_not_take_the_tap(net: Network, ovs: OpenVSwitch, site: Sites) -> None:
    """The database takes a tap by its name into the bridge in which an earlier boot left a port of that name."""
    taps = [port(name="ovs0").link, port(name="ovs1").link, Tap(key="nic0.tap", mac=MAC + "0")]
    assert len({name_of_link(tap, site()) for tap in taps}) == 3


@NEEDS_OVS
def test_a_port_that_another_program_took_away_is_seen_after_the_launch(
    net: Network, ovs: OpenVSwitch, at_work: AtWork, site: Sites
) -> None:
    wanted = port(ovs)
    job = at_work()
    name = job.acquire(wanted)[wanted.link].name
    ovs.ask("del-port", name)
    with pytest.raises(OperationError, match=rf"web1: {name} is not a port of 'ovs0'; another program changed it"):
        OvsPortKind().prove(wanted, site(), job)
    job.release()


@NEEDS_OVS
def test_a_port_that_the_switch_cannot_use_is_seen_after_the_launch(
    net: Network, ovs: OpenVSwitch, at_work: AtWork, site: Sites
) -> None:
    wanted, job = port(ovs), at_work()
    data = dict(OvsPortKind().entry(wanted, site()))
    job.update(ledger=(Entry(kind="ovs-port", key=wanted.key, data=data),))
    ovs.ask("add-port", "ovs0", data["port"], f'external_ids:hvcore="{data["mark"]}"')  # without a tap
    with pytest.raises(
        OperationError, match=rf"web1: nics\[0\].link: Open vSwitch cannot use {data['port']}, got 'could not"
    ):
        OvsPortKind().prove(wanted, site(), job)


@NEEDS_OVS
def test_a_dead_database_at_the_release_is_reported_and_the_rest_is_released(
    net: Network, mortal: OpenVSwitch, at_work: AtWork
) -> None:
    wanted = port(mortal)
    job = at_work()
    name = job.acquire(wanted)[wanted.link].name
    mortal.kill_database()
    job.held.close()
    with pytest.raises(
        LeftoverError, match=rf"Open vSwitch does not run, got .*, so port {name} of ovs0 is left; start"
    ):
        job.release()
    assert [entry.kind for entry in job.record.ledger] == ["ovs-port"]
    assert name not in net.links()
    mortal.start_database()
    job.release()
    assert mortal.ports() == set()


@NEEDS_OVS
def test_a_release_needs_the_database_and_not_the_switch(net: Network, mortal: OpenVSwitch, at_work: AtWork) -> None:
    wanted = port(mortal)
    job = at_work()
    job.acquire(wanted)
    mortal.kill_switch()
    job.held.close()
    job.release()
    assert mortal.ports() == set()


@NEEDS_OVS
def test_an_ovs_vsctl_whose_caller_was_killed_is_ended_before_the_port_is_looked_for(
    net: Network,
    ovs: OpenVSwitch,
    at_work: AtWork,
    in_child: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would add the port after the release."""
    wanted, pid_file = port(ovs), tmp_path / "pid"
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/ovs-vsctl"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *add-port*) echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60;; esac\n'
        'PATH=${PATH#*:} exec ovs-vsctl "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    ours = os.getpid()

    def killed() -> None:
        def watch() -> None:
            while not pid_file.exists():
                os.sched_yield()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
        at_work().acquire(wanted)

    assert in_child(killed) == signal.SIGKILL
    assert os.getpid() == ours
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}").exists()
    at_work().release()
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or " Z " in state.read_text()
    assert ovs.ports() == set()


def test_an_error_of_ovs_vsctl_has_its_two_halves() -> None:
    error = OvsError("refused, got 'x'", "see it")
    assert (str(error), error.what, error.todo) == (
        "Open vSwitch refused, got 'x'; see it",
        "refused, got 'x'",
        "see it",
    )


def test_texts_are_quoted_so_that_no_name_is_a_number() -> None:
    assert to_find_bridge("10")[3] == 'name="10"'
    words = to_add_port("ovs0", "hv1", 'a "b" 10', mac="aa:00:00:00:00:01", vlan=vlan_of("7"), to_guest=8_000_000)
    assert 'external_ids:hvcore="a \\"b\\" 10"' in words
    assert 'external_ids:attached-mac="aa:00:00:00:00:01"' in words
    assert "other_config:max-rate=8000000" in words


def test_output_of_ovs_vsctl() -> None:
    nothing = '{"data":[],"headings":["name","datapath_type"]}\n{"data":[],"headings":["name","tag"]}\n'
    assert bridges_in(nothing) is None
    kernel = '{"data":[["a",""]],"headings":["name","datapath_type"]}\n{"data":[],"headings":["name","tag"]}\n'
    found = bridges_in(kernel)
    assert found is not None
    assert found.in_kernel
    waiting = (
        '{"data":[[["map",[["hvcore","m"]]]]],"headings":["external_ids"]}\n'
        '{"data":[[["set",[]],["set",[]]]],"headings":["ofport","error"]}\n'
    )
    facts = port_in(waiting)
    assert facts is not None
    assert (facts.mark, facts.in_use, facts.error) == ("m", False, "")


def test_steps_of_a_plan(site: Sites) -> None:
    (step,) = OvsPortKind().describe(port(vlan="10"), site())
    assert (step.kind, step.what) == ("connect", "nic0.tap to bridge 'ovs0' of Open vSwitch, VLAN 10")
    (step,) = OvsPortKind().describe(port(), site())
    assert step.what.endswith(", all VLANs")
