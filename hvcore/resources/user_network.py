"""passt beside an instance: started before it, and proved beside its start. The two end together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hvcore.errors import Problem
from hvcore.host.network.installed_passt import RESOLV_CONF, node_network, passt_options, why_not_passt
from hvcore.model.guest_network import UserNetwork
from hvcore.model.passt_arguments import dns_note, passt_arguments
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Program
from hvcore.model.sandbox import Level
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site
from hvcore.resources.program import end_program, launch_program, prove_program

__all__ = ["UserNetworkKind"]


class UserNetworkKind(ResourceKind[UserNetwork, str], name="user-network", turn=Turn.PROGRAM, runs=True):
    """A program beside the instance. Root confines it strictly at every level: it never keeps root's uid."""

    def verify(self, resource: UserNetwork, site: Site) -> Iterator[Problem]:
        """The program must be installed, and the node must have a default route."""
        why = why_not_passt(resource.binary)
        if why is not None:
            todo = "install it (Debian: passt)" if "installed" in why else 'correct this, or set user_network = "slirp"'
            yield Problem(path=resource.where, what=f"passt {why}", got=repr(resource.binary), todo=todo)

    def describe(self, resource: UserNetwork, site: Site) -> Iterator[Step]:
        """One step: passt is launched."""
        own = ", with its own uid" if _level(site) is Level.STRICT else ""
        yield Step(kind="launch", what=f"{resource.binary} beside the instance{own}; it ends with the guest")
        note = dns_note(passt_options(resource.binary, site.host.cache_dir), node_network()) if not site.pure else None
        if note is not None:
            yield Step(kind="note", what=note)

    def entry(self, resource: UserNetwork, site: Site) -> Mapping[str, Any]:
        """The name that its files in the instance's directory begin with."""
        return {"name": resource.key}

    def acquire(self, resource: UserNetwork, held: Held) -> str:
        """Launch passt; the instance's end of its socket."""
        site, node = held.site, node_network()
        options = passt_options(resource.binary, site.host.cache_dir)
        arguments = passt_arguments(
            options=options,
            node=node,
            forwards=[replace(port.forward, port=held[port]) for port in resource.ports],
            mtu=resource.mtu,
            hostname=resource.hostname,
        )
        note = dns_note(options, node)
        if note is not None:
            held.owner.remarks.append(note)
        return launch_program(_program(resource, arguments), held, _level(site))

    def prove(self, resource: UserNetwork, site: Site, owner: Owner) -> None:
        """Wait until passt is ready, record its process, and check how it is confined."""
        prove_program(_program(resource, ()), owner, _level(site))

    def release(self, entry: Entry, owner: Owner) -> None:
        """Wait for passt, which exits when the guest has closed its socket; then kill it."""
        end_program(entry, owner)


def _level(site: Site) -> Level:
    return Level.STRICT if site.host.privileged else site.level


def _program(network: UserNetwork, arguments: tuple[str, ...]) -> Program:
    return Program(
        key=network.key,
        given_by=network.given_by,
        binary=network.binary,
        package="passt",
        arguments=arguments,
        owner=network.owner,
        seccomp=True,
        network=True,
        proc=True,
        reads=(RESOLV_CONF,),
        empty=("/tmp",),  # noqa: S108 - in its sandbox, where it mounts an empty root
        own_sandbox=True,
    )
