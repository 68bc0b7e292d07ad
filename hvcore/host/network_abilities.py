"""What this node has for the NICs of guests. Something missing is a note: only instances that need it cannot start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvcore.host.abilities import how_to_install, program
from hvcore.host.environment import Host
from hvcore.host.network.installed_passt import why_not_passt
from hvcore.host.network.link_sysctls import FORWARDING, not_forwarding
from hvcore.host.network.links import knows_kind, links
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.nft import NFT_PACKAGE, NftError, find_nft, list_table
from hvcore.host.network.ovs_vsctl import OVS_START, OvsError, ask, dead_switch, run_here
from hvcore.host.network.pasta import why_not_namespace
from hvcore.host.network.tap_device import TUN, VHOST_NET, open_vhost, tap_features
from hvcore.host.network.traffic_control import LIMIT_MODULES, why_no_limits
from hvcore.model.answers import Finding, Severity
from hvcore.model.network.egress_rules import FAMILY, TABLE
from hvcore.model.network.guest_network import PASST_PATH
from hvcore.model.network.ovs_bridge import OVS_SOCKET

__all__ = ["network_abilities"]

_OVS_S: Final = 5.0


def network_abilities(
    host: Host, proc_sys: Path = Path("/proc/sys"), ovs_socket: str = OVS_SOCKET
) -> Iterator[Finding]:
    """Findings about each mode of a NIC."""
    yield _passt()
    yield _taps()
    yield _vhost()
    yield _bridges()
    yield _forwarding(proc_sys)
    yield _open_vswitch(ovs_socket)
    if host.privileged:
        yield from _of_root()
    yield from _egress(host)


def _note(subject: str, what: str, todo: str) -> Finding:
    return Finding(subject=subject, severity=Severity.NOTE, what=what, todo=todo)


def _ok(subject: str, what: str) -> Finding:
    return Finding(subject=subject, severity=Severity.OK, what=what)


def _passt() -> Finding:
    why = why_not_passt(PASST_PATH)
    if why is None:
        return _ok("passt", f"{PASST_PATH}, for NICs of mode 'user', with forwarded ports")
    todo = "add a default route" if "route" in why else how_to_install("passt")
    return _note("passt", f"{why}: NICs of mode 'user' get QEMU's own network, without forwarded ports", todo)


def _taps() -> Finding:
    try:
        found = tap_features()
    except OSError as error:
        what = f"cannot be opened ({error.strerror}): only NICs of mode 'user' work"
        return _note(TUN, what, "modprobe tun")
    queues = "several queues" if found.multi_queue else "one queue"
    return _ok(TUN, f"works: taps with {queues}{'' if found.vnet_hdr else ', without vnet_hdr'}")


def _vhost() -> Finding:
    try:
        with open(open_vhost(), "rb"):
            return _ok(VHOST_NET, "works: the node's kernel moves the packets of paravirtual NICs")
    except OSError as error:
        what = f"cannot be opened ({error.strerror}): QEMU moves the packets of taps, which is slower"
        return _note(VHOST_NET, what, "modprobe vhost_net")


def _bridges() -> Finding:
    with Netlink() as netlink:
        found = [link for link in links(netlink) if link.kind == "bridge"]
    if not found:
        return _note("bridges", "none on this node; NICs of mode 'bridged' need one", "ip link add br0 type bridge")
    names = [f"{link.name} (filters VLANs)" if link.vlan_filtering else link.name for link in found]
    return _ok("bridges", ", ".join(names))


def _forwarding(proc_sys: Path) -> Finding:
    off = not_forwarding((4, 6), proc_sys)
    if not off:
        return _ok("forwarding", "is on for IPv4 and IPv6, for NICs of mode 'routed'")
    what = f"is off for {' and '.join(f'IPv{version}' for version in off)}: addresses of guests of mode 'routed' are refused"
    return _note("forwarding", what, " ".join(["sysctl", *(f"{FORWARDING[version]}=1" for version in off)]))


def _of_root() -> Iterator[Finding]:
    """What only root can ask the kernel. Both load the modules."""
    with Netlink() as netlink:
        if knows_kind(netlink, "macvtap"):
            yield _ok("macvtap", "works, for NICs of mode 'macvtap'")
        else:
            yield _note("macvtap", "this kernel lacks it; NICs of mode 'macvtap' need it", "modprobe macvtap")
    if (why := why_no_limits()) is None:
        yield _ok("bandwidth", "works, in both directions of a NIC")
    else:
        what = f"this kernel cannot limit a NIC ({why}); bandwidth_to_guest and bandwidth_from_guest are refused"
        yield _note("bandwidth", what, LIMIT_MODULES)


def _open_vswitch(socket: str = OVS_SOCKET) -> Finding:
    if shutil.which("ovs-vsctl") is None:
        what = "is not installed on this node; NICs of mode 'openvswitch' need it"
        return _note("ovs-vsctl", what, how_to_install("openvswitch-switch"))
    found = program("ovs-vsctl", "openvswitch-switch", "--version")
    if found.severity is not Severity.OK:
        return found
    try:
        ask(run_here, socket, "list-br", deadline_s=_OVS_S)
    except OvsError as error:
        return _note("ovs-vsctl", f"{error.what}; NICs of mode 'openvswitch' need it", error.todo)
    if (why := dead_switch(socket)) is not None:
        return _note("ovs-vsctl", f"{why}; NICs of mode 'openvswitch' need it", OVS_START)
    return found


def _egress(host: Host) -> Iterator[Finding]:
    """Rules about what a guest reaches."""
    subject, without = "nft", "egress of a guest is not enforced"
    try:
        list_table(FAMILY, TABLE)
    except NftError as error:
        todo = how_to_install(NFT_PACKAGE) if find_nft() is None else "run nft list tables to see its error"
        if host.privileged:
            what = f"{without}: {str(error).removeprefix('nft: ')}"
            yield Finding(subject=subject, severity=Severity.NOTE, what=what, todo=todo)
        elif find_nft() is None:
            what = f"is not installed on this node: {without}"
            yield Finding(subject=subject, severity=Severity.NOTE, what=what, todo=todo)
    else:
        yield Finding(subject=subject, severity=Severity.OK, what=f"nftables works, in table {FAMILY} {TABLE}")
    if (why := why_not_namespace(PASST_PATH, "all")) is None:
        yield _ok("pasta", "works: egress of guests of users other than root is enforced in a network namespace")
    else:
        what = f"for users other than root, {without}: it {why[0]}"
        yield _note("pasta", what, how_to_install("passt") if "not installed" in why[0] else why[1])
