"""The back end of a NIC in mode user: how it is connected to passt, or to QEMU's own network stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import GUEST_USER, HOST_NETWORK, RESOLV_CONF, Bindings, BuiltInNetwork
from hvcore.plugin import dataclass

__all__ = ["PASST", "SLIRP", "UserBackend"]

PASST: Final = "passt"
SLIRP: Final = "slirp"
_STREAM_SINCE: Final = (7, 2)  # before, the netdev "socket" speaks the same protocol, and reports no disconnection
_KEYS: Final = ("user_network", "passt_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserBackend:
    """``chosen`` is ``passt`` or ``slirp``, by the node at each start; empty before. ``wanted`` is the parameter's value.

    ``egress`` is the key of the NIC. ``user`` and ``uid_shared`` are about QEMU's uid, for slirp: its name, and whether QEMU
    connects to network disks with it. The defaults are for records of releases that had only slirp.
    """

    wanted: str | None = None
    chosen: str = SLIRP
    passt: str = hv.PASST_PATH
    hostname: str = ""
    forwards: tuple[str, ...] = ()
    mtu: int | None = None
    egress: str | None = None
    user: str | None = None
    uid_shared: bool = False
    mac: str | None = None

    @property
    def needs_passt(self) -> bool:
        """Whether QEMU's own stack cannot do what is asked for."""
        return self.wanted == PASST or bool(self.forwards) or self.mtu is not None or self.egress in ("internet", "all")

    def network(self, index: int) -> hv.UserNetwork:
        """passt, for NIC ``index``."""
        return hv.UserNetwork(
            key=f"nic{index}.passt",
            given_by="params.passt_path",
            binary=self.passt,
            hostname=self.hostname,
            mac=self.mac,
            forwards=tuple(map(hv.forward_of, self.forwards)),
            forwards_given_by=f"nics[{index}].forward",
            mtu=self.mtu,
            policy=self.egress or "all",
        )

    def rule(self, index: int) -> hv.Egress:
        """What the guest reaches, by the uid of passt or of QEMU."""
        passt = self.network(index)
        slirp = self.chosen == SLIRP
        return hv.Egress(
            key=f"nic{index}.egress",
            given_by=f"nics[{index}].egress",
            policy=self.egress or "all",
            required=self.egress is not None,
            owner=replace(GUEST_USER, user=self.user) if slirp else passt.owner,
            udp=() if slirp else tuple(port for port in passt.ports if port.forward.protocol == "udp"),
            uid_shared_with="the network disks of QEMU" if slirp and self.uid_shared else "",
            passt="" if slirp else self.passt,
        )

    def resources(self, index: int) -> Iterator[hv.Resource[Any]]:
        """passt; or the network of the node, and the name servers to which QEMU forwards. With what the guest reaches."""
        if self.chosen != SLIRP:
            yield from (self.rule(index), self.network(index))
            return
        if self.egress != "none":
            yield self.rule(index)
        reason = "" if self.wanted == SLIRP else self.passt
        yield BuiltInNetwork(key=f"nic{index}.slirp", given_by=f"nics[{index}].mode", instead_of=reason)
        yield from (HOST_NETWORK, RESOLV_CONF)

    def option(self, index: int, facts: Facts, bindings: Bindings) -> Opt:
        """The ``-netdev``."""
        name, why = f"nic{index}", "nics[].mode user"
        if self.chosen == SLIRP:
            isolated = True if self.egress == "none" else None
            return Opt(name="-netdev", head="user", props={"id": name, "restrict": isolated}, params=_KEYS, why=why)
        fd = bindings[self.network(index)]
        why = f"{why}, connected to passt"
        if not facts.since(*_STREAM_SINCE):
            props: Props = {"id": name, "fd": fd}
            lack = "no netdev stream before QEMU 7.2"
            return Opt(name="-netdev", head="socket", props=props, params=_KEYS, why=why, capability=lack)
        stream: Props = {"id": name, "server": False, "addr.type": "fd", "addr.str": fd}
        return Opt(name="-netdev", head="stream", props=stream, params=_KEYS, why=why, capability="netdev stream")
