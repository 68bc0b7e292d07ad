"""The rules between the keys of a NIC, which hold for each driver."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hvcore import Instance, Nic, Node, ParamsError
from hvcore.model.nic import nic_problems


def wrong(*nics: Nic, macs: Sequence[str] = ()) -> list[str]:
    given = macs or [f"52:54:00:00:00:{number:02x}" for number in range(len(nics))]
    return [str(problem) for problem in nic_problems(nics, given)]


@pytest.mark.parametrize(
    "nic",
    [
        Nic(),
        Nic(mode="user", forward=("2222:22",), egress="internet", mtu=1400, name="front"),
        Nic(mode="bridged", link="br0", vlan="10", mtu=1400, bandwidth_to_guest=80_000_000, ip=("192.0.2.7",)),
        Nic(mode="openvswitch", link="br0", vlan="trunk:10"),
        Nic(mode="routed", ip=("192.0.2.7",), link="100"),
        Nic(mode="macvtap", link="eth0", bandwidth_from_guest=80_000_000),
        Nic(mode="ext", link="x", vlan="10", ip=("fd00::7",)),
        Nic(mode="ext"),
    ],
)
def test_keys_that_fit_the_mode_are_accepted(nic: Nic) -> None:
    assert wrong(nic) == []


@pytest.mark.parametrize(
    ("nic", "message"),
    [
        (
            Nic(link="br0"),
            "nics[0].link: has no effect in mode 'user', got 'br0'; unset it, or set mode to one of 'bridged'",
        ),
        (Nic(ip=("192.0.2.7",)), "nics[0].ip: has no effect in mode 'user', got ['192.0.2.7']"),
        (Nic(vlan="10"), "nics[0].vlan: has no effect in mode 'user'"),
        (Nic(bandwidth_to_guest=80_000), "nics[0].bandwidth_to_guest: has no effect"),
        (Nic(bandwidth_from_guest=80_000), "nics[0].bandwidth_from_guest: has no effect"),
        (
            Nic(mode="bridged", link="b", forward=("1:1",)),
            "nics[0].forward: has no effect in mode 'bridged', got ['1:1']",
        ),
        (Nic(mode="bridged", link="b", egress="none"), "set mode to 'user'"),
        (Nic(mode="routed", ip=("192.0.2.7",), vlan="10"), "nics[0].vlan: has no effect in mode 'routed'"),
        (Nic(mode="macvtap", link="eth0", ip=("192.0.2.7",)), "nics[0].ip: has no effect in mode 'macvtap'"),
        (Nic(mode="bridged"), "nics[0].link: is not set, and mode 'bridged' needs a link; name the bridge"),
        (Nic(mode="openvswitch"), "name the Open vSwitch bridge"),
        (Nic(mode="macvtap"), "name the interface"),
        (Nic(mode="routed"), "nics[0].ip: is not set, and mode 'routed' needs an address"),
        (Nic(forward=("80:80", "127.0.0.1:80:81")), "got '127.0.0.1:80:81'; use another port"),
    ],
)
def test_a_key_that_does_not_fit_the_mode_is_refused_with_what_to_do(nic: Nic, message: str) -> None:
    (problem,) = wrong(nic)
    assert message in problem


def test_two_nics_share_no_address_name_or_forwarded_port() -> None:
    nics = (Nic(name="a", forward=("80:80",)), Nic(name="a", forward=("80:81",)))
    found = wrong(*nics, macs=("aa:00:00:00:00:0A", "AA:00:00:00:00:0a"))
    assert [problem.split(":")[0] for problem in found] == ["nics[1].mac", "nics[1].name", "nics[1].forward"]
    assert "is also the address of nics[0]" in found[0]


def test_the_address_zero_is_refused() -> None:
    assert "zero" in wrong(Nic(), macs=("00:00:00:00:00:00",))[0]


def test_a_given_address_that_another_nic_derives_is_refused(node: Node) -> None:
    derived = Instance(name="web1", driver="fake", nics=(Nic(),)).mac(0)
    with pytest.raises(ParamsError, match=r"nics\[1\].mac: is also the address of nics\[0\]"):
        node.driver("fake").check(Instance(name="web1", driver="fake", nics=(Nic(), Nic(mac=derived))))


def test_the_rules_hold_for_a_driver_that_knows_nothing_of_networks(node: Node) -> None:
    with pytest.raises(ParamsError, match=r"nics\[0\].vlan: has no effect"):
        node.driver("fake").check(Instance(name="web1", driver="fake", nics=(Nic(vlan="10"),)))


def test_values_given_in_code_become_clean() -> None:
    nic = Nic(mode="bridged", link="br0", vlan=10, ip="192.0.2.7", bandwidth_to_guest="80M")  # type: ignore[arg-type]
    (clean,) = Instance(name="web1", driver="fake", nics=(nic,), tags=["a"]).nics  # type: ignore[arg-type]
    assert (clean.vlan, clean.ip, clean.bandwidth_to_guest) == ("10", ("192.0.2.7",), 80_000_000)
    assert Instance(name="web1", driver="fake", tags=["a"]).tags == ("a",)  # type: ignore[arg-type]


@pytest.mark.parametrize("tags", [("a b",), ("a", "a"), ("",), ("ä",), "a"])
def test_a_tag_is_one_word(tags: object) -> None:
    with pytest.raises(ParamsError, match="tags"):
        Instance(name="web1", driver="fake", tags=tags)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "nics",
    [
        (Nic(mode="routed", ip=("192.0.2.7", "192.0.2.7/24")),),
        (Nic(mode="routed", ip=("192.0.2.6", "fd00::1")), Nic(mode="routed", link="100", ip=("fd00::1/64",))),
    ],
)
def test_an_address_is_routed_to_one_interface(nics: tuple[Nic, ...]) -> None:
    (found,) = wrong(*nics)
    assert found.startswith(f"nics[{len(nics) - 1}].ip: is routed to nics[0] already, got ")


def test_one_address_at_two_bridges_is_fine() -> None:
    nics = [Nic(mode="bridged", link=name, ip=("192.0.2.7/24",)) for name in ("br0", "br1")]
    assert wrong(*nics) == []
