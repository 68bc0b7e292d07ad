"""passt in a network namespace, for users who are not root: which guests need that, its launch, and the proof.

pasta makes the namespace and runs passt in it, as one program beside the instance. Each ends with the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hvcore.errors import OperationError
from hvcore.host.confinement.proof import has_filter, weaknesses
from hvcore.host.network.installed_passt import node_network, passt_options
from hvcore.host.network.links import node_addresses
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.pasta import (
    child_of,
    pasta_beside,
    rules_inside,
    set_rules_inside,
    why_not_namespace,
)
from hvcore.host.network.tap_device import TUN
from hvcore.model.network.egress_rules import is_private
from hvcore.model.network.guest_network import UserNetwork
from hvcore.model.network.passt_arguments import CLOSES_LOOPBACK
from hvcore.model.network.pasta_network import inner_forwards, namespace_rules, pasta_arguments, unlike_rules
from hvcore.model.record import ProcessId
from hvcore.model.resource import Program
from hvcore.model.sandbox import AsCaller, Level, Sandbox
from hvcore.params.network_types import Forward
from hvcore.resources.owner import Owner, Site
from hvcore.resources.program import confined_less, program_ended, program_process

__all__ = ["REFUSED", "in_namespace", "policy_inside", "prove_inside", "with_namespace"]

REFUSED: Final = "egress_refused"
"""In the record's bindings: by key, the node's public addresses that the rules in the namespace refuse."""

# passt makes its own user namespace below that of pasta, so it has no rights over the network. Newer releases of pasta
# limit the capabilities of its command themselves, and leave it none to change the bounding set with.
_WITHOUT_RIGHTS: Final = ("setpriv", "--inh-caps=-all", "--no-new-privs")
_BOUNDED: Final = "--bounding-set=-all"
_SANDBOX: Final = Sandbox(who=AsCaller(), seccomp=True, own_users=True)


def in_namespace(passt: str, policy: str, site: Site) -> bool:
    """Whether passt runs in a namespace. Root has rules by uid instead, and newer releases keep policy ``all`` on their own.

    Without what it needs, policy ``all`` runs without it: `why_not_namespace` says why. Others are then refused.
    """
    if site.host.privileged or site.pure:
        return False
    if policy != "all":
        return True
    return CLOSES_LOOPBACK not in passt_options(passt, site.host.cache_dir) and why_not_namespace(passt, policy) is None


def with_namespace(program: Program, site: Site, forwards: list[Forward]) -> Program:
    """That passt, run by pasta. Its arguments are for `inner_network` and `inner_forwards`."""
    passt = tuple("0" if word == "{fd}" else word for word in program.arguments)
    options = passt_options(program.binary, site.host.cache_dir)
    bounded = () if CLOSES_LOOPBACK in options else (_BOUNDED,)
    pasta = pasta_arguments(
        options=options,
        node=node_network(),
        forwards=forwards,
        command=(*_WITHOUT_RIGHTS, *bounded, "--", program.binary, *passt),
    )
    return Program(
        key=program.key,
        given_by=program.given_by,
        binary=pasta_beside(program.binary),
        package=program.package,
        arguments=pasta,
        owner=program.owner,
        seccomp=True,
        network=True,
        proc=True,
        reads=program.reads,
        empty=program.empty,
        devices=(TUN,),
        own_sandbox=True,
        largest_file_bytes=program.largest_file_bytes,
        own_rights=True,
        on_stdin=True,
    )


def policy_inside(network: UserNetwork, program: Program, forwards: list[Forward], owner: Owner) -> None:
    """Wait for the namespace, and make its rules: before the instance is launched. Raises `OperationError`, `NftError`.

    Policy ``all`` needs no rules: the loopback interface in the namespace is not the node's.
    """
    if network.policy == "all":
        return
    process = program_process(program, owner, lambda found: child_of(found) is not None)
    child = None if process is None else child_of(process)
    if process is None or child is None:
        raise program_ended(program, owner)
    with Netlink() as netlink:
        addresses = sorted(set(node_addresses(netlink)))
    if network.policy == "internet":
        known = owner.record.bindings.get(REFUSED, {})
        owner.bind(**{REFUSED: {**known, network.key: [one for one in addresses if not is_private(one)]}})
    set_rules_inside(process, child, _rules(network, forwards, addresses))


def prove_inside(network: UserNetwork, program: Program, owner: Owner) -> None:
    """Wait until passt is ready, and check how it is confined and that its namespace has the rules.

    Raises `OperationError`, `ConfinementError`, `NftError`.
    """
    process = program_process(program, owner, _runs_passt)
    child = None if process is None else child_of(process)
    if process is None or child is None:
        raise program_ended(program, owner)
    if found := weaknesses(_SANDBOX, child.pid):
        raise confined_less(network.key, owner, Level.USER, found)
    if network.policy != "all":
        why = unlike_rules(rules_inside(process, child), _rules(network), policy=network.policy)
        if why is not None:
            what = f"{owner.name}: {network.where}: egress {network.policy!r} is not enforced, {why}"
            raise OperationError(f"{what} in the namespace of pid {child.pid}; start it again")


def _runs_passt(pasta: ProcessId) -> bool:
    child = child_of(pasta)
    return child is not None and has_filter(child.pid)


def _rules(network: UserNetwork, forwards: Iterable[Forward] = (), addresses: Iterable[str] = ()) -> str:
    udp = [one.port for one in inner_forwards(forwards) if one.protocol == "udp"]
    return namespace_rules(network.policy, node=node_network(), udp=udp, addresses=addresses)
