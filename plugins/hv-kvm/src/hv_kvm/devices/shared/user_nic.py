"""The back end of a NIC in mode user: how it is connected to passt, or to QEMU's own network stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import HOST_NETWORK, RESOLV_CONF, Bindings, BuiltInNetwork

__all__ = ["PASST", "PASST_PATH", "SLIRP", "UserBackend"]

PASST: Final = "passt"
SLIRP: Final = "slirp"
PASST_PATH: Final = "/usr/bin/passt"
_STREAM_SINCE: Final = (7, 2)  # before, the netdev "socket" speaks the same protocol, and reports no disconnection
_KEYS: Final = ("user_network", "passt_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserBackend:
    """``chosen`` is ``passt`` or ``slirp``, by the node at each start; empty before. ``wanted`` is the parameter's value.

    The default is for records of releases that had only slirp.
    """

    wanted: str | None = None
    chosen: str = SLIRP
    passt: str = PASST_PATH
    hostname: str = ""
    forwards: tuple[str, ...] = ()
    mtu: int | None = None

    @property
    def needs_passt(self) -> bool:
        """Whether QEMU's own stack cannot do what is asked for."""
        return self.wanted == PASST or bool(self.forwards) or self.mtu is not None

    def network(self, index: int) -> hv.UserNetwork:
        """passt, for NIC ``index``."""
        return hv.UserNetwork(
            key=f"nic{index}.passt",
            given_by="params.passt_path",
            binary=self.passt,
            hostname=self.hostname,
            forwards=tuple(map(hv.forward_of, self.forwards)),
            forwards_given_by=f"nics[{index}].forward",
            mtu=self.mtu,
        )

    def resources(self, index: int) -> Iterator[hv.Resource[Any]]:
        """passt; or the network of the node, and the name servers to which QEMU forwards."""
        if self.chosen != SLIRP:
            yield self.network(index)
            return
        reason = "" if self.wanted == SLIRP else self.passt
        yield BuiltInNetwork(key=f"nic{index}.slirp", given_by=f"nics[{index}].mode", instead_of=reason)
        yield from (HOST_NETWORK, RESOLV_CONF)

    def option(self, index: int, facts: Facts, bindings: Bindings) -> Opt:
        """The ``-netdev``."""
        name, why = f"nic{index}", "nics[].mode user"
        if self.chosen == SLIRP:
            return Opt(name="-netdev", head="user", props={"id": name}, params=_KEYS, why=why)
        fd = bindings[self.network(index)]
        why = f"{why}, connected to passt"
        if not facts.since(*_STREAM_SINCE):
            props: Props = {"id": name, "fd": fd}
            lack = "no netdev stream before QEMU 7.2"
            return Opt(name="-netdev", head="socket", props=props, params=_KEYS, why=why, capability=lack)
        stream: Props = {"id": name, "server": False, "addr.type": "fd", "addr.str": fd}
        return Opt(name="-netdev", head="stream", props=stream, params=_KEYS, why=why, capability="netdev stream")
