"""The user network of a NIC, as resources: the program passt and the ports of the node that lead to the guest. Pure."""

from __future__ import annotations

from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.resource import Identity, Resource
from hvcore.params.network_types import Forward

__all__ = ["PASST_PATH", "PortForward", "UserNetwork"]

PASST_PATH: Final = "/usr/bin/passt"
"""Where the Debian package passt has the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortForward(Resource[int]):
    """A port of the node that ``program`` (the key of a `UserNetwork`) leads to the guest. The handle is the port.

    For port 0 a free one is chosen. It is reserved until the program listens on it.
    """

    forward: Forward
    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNetwork(Resource[str]):
    """passt beside the instance: a network without privileges, with DHCP, and with IPv6 if the node has a route.

    The handle is the instance's end of its socket. ``mac`` is the address of the NIC, of which the
    guest makes its IPv6 address. ``forwards`` are the forwarded ports. ``mtu`` None is the largest.
    ``policy`` is one of `POLICIES`. For users who are not root, it is kept by a network namespace in which passt runs. For
    root, it is kept by an `Egress` of the same guest.
    """

    binary: str
    hostname: str
    mac: str | None = None
    forwards: tuple[Forward, ...] = ()
    forwards_given_by: str = ""
    mtu: int | None = None
    policy: str = "all"

    @property
    def owner(self) -> Identity:
        """The uid of passt, which no other process has. For users other than root, the caller's."""
        return Identity(key=f"{self.key}.uid", at_any_level=True)

    @property
    def ports(self) -> tuple[PortForward, ...]:
        """The ports of the node, in the order of ``forwards``."""
        return tuple(
            PortForward(
                key=f"{self.key}.forward{number}",
                given_by=f"{self.forwards_given_by}[{number}]",
                forward=one,
                program=self.key,
            )
            for number, one in enumerate(self.forwards)
        )

    def needs(self) -> tuple[Resource[Any], ...]:
        """Its user and its ports."""
        return (self.owner, *self.ports)
