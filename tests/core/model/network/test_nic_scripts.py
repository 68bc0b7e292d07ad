"""The variables of network scripts, as Ganeti's scripts read them."""

from __future__ import annotations

import pytest

from hvcore import Instance, Nic
from hvcore.plugin import script_environment


def environment(*, tags: tuple[str, ...] = (), **nic: object) -> dict[str, str]:
    given = Nic(**{"mode": "ext", "mac": "52:54:00:11:22:33", **nic})  # type: ignore[arg-type]
    instance = Instance(name="web1", driver="kvm", nics=(Nic(), given), tags=tags)
    return dict(script_environment(instance, 1))


def test_only_what_is_set_is_there() -> None:
    found = environment()
    assert len(found.pop("INTERFACE_UUID")) == 36
    assert found == {
        "INSTANCE": "web1",
        "INTERFACE_INDEX": "1",
        "MAC": "52:54:00:11:22:33",
        "MODE": "ext",
        "TAGS": "",
    }


def test_all_that_a_nic_can_have() -> None:
    nic = {"mode": "bridged", "link": "br0", "name": "front", "ip": ("192.0.2.7/24", "fd00::7"), "vlan": "10"}
    found = environment(**nic, tags=("web", "owner:ops"))
    assert found["TAGS"] == "web owner:ops"
    assert (found["LINK"], found["BRIDGE"], found["INTERFACE_NAME"]) == ("br0", "br0", "front")
    assert (found["IP"], found["IPS"]) == ("192.0.2.7", "192.0.2.7/24 fd00::7")


def test_the_bridge_is_only_named_in_mode_bridged() -> None:
    assert "BRIDGE" not in environment(mode="openvswitch", link="br0")


def test_the_uuid_of_an_interface_stays_and_is_its_own() -> None:
    instance = Instance(name="web1", driver="kvm", nics=(Nic(), Nic()))
    first, second = (dict(script_environment(instance, index))["INTERFACE_UUID"] for index in (0, 1))
    assert first == dict(script_environment(instance, 0))["INTERFACE_UUID"]
    assert first != second


@pytest.mark.parametrize(
    ("vlan", "text"),
    [("10", ".10"), ("trunk:10,20-22", ":10:20:21:22"), (".10:20:30", ".10:20:30"), ("trunk:5", ":5")],
)
def test_vlans_are_written_as_ganeti_writes_them(vlan: str, text: str) -> None:
    assert environment(link="x", vlan=vlan)["VLAN"] == text
