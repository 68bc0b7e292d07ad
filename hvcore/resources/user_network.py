"""passt beside an instance: started before it, and proved beside its start. The two end together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from hvcore.errors import Problem
from hvcore.host.network.installed_passt import RESOLV_CONF, node_network, passt_options, why_not_passt
from hvcore.model.network.guest_network import UserNetwork
from hvcore.model.network.passt_arguments import dns_note, passt_arguments
from hvcore.model.network.pasta_network import inner_forwards, inner_network
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Program
from hvcore.model.sandbox import Level
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site
from hvcore.resources.passt_namespace import in_namespace, policy_inside, prove_inside, with_namespace
from hvcore.resources.program import end_program, launch_program, prove_program

__all__ = ["UserNetworkKind"]


_LOG_BYTES: Final = 1 << 20  # it writes no other file


class UserNetworkKind(ResourceKind[UserNetwork, str], name="user-network", turn=Turn.PROGRAM, runs=True):
    """A program beside the instance. Root confines it strictly at every level: it never keeps root's uid.

    For other users it runs in a network namespace, where that is needed to keep its policy.
    """

    def verify(self, resource: UserNetwork, site: Site) -> Iterator[Problem]:
        """The program must be installed, and the node must have a default route."""
        why = why_not_passt(resource.binary)
        if why is not None:
            todo = "install it (Debian: passt)" if "installed" in why else 'correct this, or set user_network = "slirp"'
            yield Problem(path=resource.where, what=f"passt {why}", got=repr(resource.binary), todo=todo)

    def describe(self, resource: UserNetwork, site: Site) -> Iterator[Step]:
        """One step: passt is launched."""
        inside = _in_namespace(resource, site)
        own = ", with its own uid" if _level(site, inside=inside) is Level.STRICT else ""
        own = ", in a network namespace of pasta" if inside else own
        yield Step(kind="launch", what=f"{resource.binary} beside the instance{own}; it ends with the guest")
        node = inner_network(node_network()) if inside else node_network()
        note = dns_note(passt_options(resource.binary, site.host.cache_dir), node) if not site.pure else None
        if note is not None:
            yield Step(kind="note", what=note)

    def entry(self, resource: UserNetwork, site: Site) -> Mapping[str, Any]:
        """The name that its files in the instance's directory begin with."""
        return {"name": resource.key}

    def acquire(self, resource: UserNetwork, held: Held) -> str:
        """Launch passt; the instance's end of its socket."""
        site, node, inside = held.site, node_network(), _in_namespace(resource, held.site)
        options = passt_options(resource.binary, site.host.cache_dir)
        forwards = [replace(port.forward, port=held[port]) for port in resource.ports]
        node = inner_network(node) if inside else node
        arguments = passt_arguments(
            options=options,
            node=node,
            forwards=inner_forwards(forwards) if inside else forwards,
            mtu=resource.mtu,
            hostname=resource.hostname,
            mac=resource.mac,
        )
        note = dns_note(options, node)
        if note is not None:
            held.owner.remarks.append(note)
        program = _program(resource, arguments)
        if inside:
            program = with_namespace(program, site, forwards)
        end = launch_program(program, held, _level(site, inside=inside))
        if inside:
            policy_inside(resource, program, forwards, held.owner)
        return end

    def prove(self, resource: UserNetwork, site: Site, owner: Owner) -> None:
        """Wait until passt is ready, record its process, and check how it is confined."""
        inside = _in_namespace(resource, site)
        program = with_namespace(_program(resource), site, []) if inside else _program(resource)
        prove_program(program, owner, _level(site, inside=inside))
        if inside:
            prove_inside(resource, program, owner)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Wait for passt, which exits when the guest has closed its socket; then kill it."""
        end_program(entry, owner)


def _level(site: Site, *, inside: bool) -> Level:
    if site.host.privileged:
        return Level.STRICT
    return Level.USER if inside else site.level


def _in_namespace(network: UserNetwork, site: Site) -> bool:
    return in_namespace(network.binary, network.policy, site)


def _program(network: UserNetwork, arguments: tuple[str, ...] = ()) -> Program:
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
        largest_file_bytes=_LOG_BYTES,
    )
