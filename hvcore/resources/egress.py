"""What a guest may reach: rules of the node's packet filter, by the uid of the program that moves the guest's packets.

The rules are there before that program and are removed after it has exited. Their table is `hvcore.model.network.egress_rules`.
For users who are not root, passt has a network namespace instead: `hvcore.resources.passt_namespace`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hvcore.errors import NodeError, OperationError, Problem
from hvcore.host.network.egress_table import enforce, put_back, weakness, withdraw
from hvcore.host.network.installed_passt import node_network, passt_options
from hvcore.host.network.nft import NFT_PACKAGE, find_nft, list_table
from hvcore.host.network.pasta import why_not_namespace
from hvcore.model.network.egress_rules import FAMILY, POLICIES, TABLE, Egress, elements_of
from hvcore.model.network.passt_arguments import CLOSES_LOOPBACK
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.sandbox import Level
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site
from hvcore.resources.passt_namespace import in_namespace

__all__ = ["INSIDE", "UNENFORCED", "EgressKind"]

UNENFORCED: Final = "egress"
"""In the record's bindings: by key, what a guest reaches because its default cannot be enforced. In words."""

INSIDE: Final = "egress_inside"
"""In the record's bindings: by key, what a guest reaches from a network namespace. In words."""

_LOOPBACK_IS_OPEN: Final = "the guest can reach the node's loopback addresses"


class EgressKind(ResourceKind[Egress, None], name="egress", turn=Turn.NETWORK):
    """The elements of one guest in the table. A default that cannot be enforced is a note, anything else is refused."""

    def verify(self, resource: Egress, site: Site) -> Iterator[Problem]:
        """What the instance asks for must be enforceable."""
        why = _why_not(resource, site)
        if why is not None and resource.required and not _kept_by_passt(resource, site):
            yield Problem(path=resource.where, what=why[0], got=repr(resource.policy), todo=why[1])

    def describe(self, resource: Egress, site: Site) -> Iterator[Step]:
        """The policy, or that it is not enforced."""
        why = None if site.pure else _why_not(resource, site)
        if not site.pure and _kept_by_passt(resource, site):
            yield Step(kind="egress", what=f"passt lets the guest reach {POLICIES[resource.policy]}")
        elif why is None and _is_inside(resource, site):
            yield Step(kind="egress", what=_inside(resource))
        elif why is None:
            what = f"nftables table {FAMILY} {TABLE} lets the guest reach {POLICIES[resource.policy]}"
            yield Step(kind="egress", what=what)
        else:
            yield Step(kind="note", what=_remark(why))

    def entry(self, resource: Egress, site: Site) -> Mapping[str, Any] | None:
        """The policy; the elements are among the reservations."""
        if _is_inside(resource, site):
            return None
        return {"policy": resource.policy} if _why_not(resource, site, thorough=False) is None else None

    def acquire(self, resource: Egress, held: Held) -> None:
        """Add the guest's uid to the table. Raises `OperationError` and `NodeError`."""
        owner, user = held.owner, held[resource.owner]
        why = _why_not(resource, held.site, thorough=False)
        if _kept_by_passt(resource, held.site):
            return
        if why is None and _is_inside(resource, held.site):
            _say(owner, INSIDE, resource.key, _inside(resource))
            return
        if why is None and user is not None:
            udp = [held[port] for port in resource.udp]
            node = node_network()
            elements = elements_of(resource.policy, user.uid, (*node.name_servers, *node.upstream), udp)
            try:
                enforce(held.site.host, f"{owner.name}/{resource.key}", elements)
            except NodeError as error:
                if resource.required:
                    raise
                why = f"is not enforced, because nftables does not work here ({error})", "correct this"
            else:
                return
        if resource.required:
            what, todo = why or ("cannot be enforced for a program with the caller's uid", "run hv as root")
            raise OperationError(f"{owner.name}: {resource.where}: {what}, got {resource.policy!r}; {todo}")
        if why is not None:
            owner.remarks.append(_remark(why))
            _say(owner, UNENFORCED, resource.key, _remark(why))

    def prove(self, resource: Egress, site: Site, owner: Owner) -> None:
        """Check that the table has what hvcore wrote, and restore it if not. Raises `OperationError`."""
        if _is_inside(resource, site) or weakness(site.host, owner.name) is None:
            return
        put_back(site.host)
        why = weakness(site.host, owner.name)
        if why is not None:
            raise OperationError(f"{owner.name}: {resource.where}: is not enforced, {why}; nft list ruleset shows it")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Take the guest's uid out of the table; without guests the table is removed."""
        withdraw(owner.host, f"{owner.name}/{entry.key}" if entry.key else owner.name)


def _say(owner: Owner, binding: str, key: str, text: str) -> None:
    owner.bind(**{binding: {**owner.record.bindings.get(binding, {}), key: text}})


def _is_inside(resource: Egress, site: Site) -> bool:
    """Whether passt runs in a network namespace, which keeps the policy."""
    return bool(resource.passt) and in_namespace(resource.passt, resource.policy, site)


def _inside(resource: Egress) -> str:
    how = "pasta" if resource.policy == "all" else "pasta and nftables"
    return f"a network namespace with {how} lets the guest reach {POLICIES[resource.policy]}"


def _has_own_uid(resource: Egress, site: Site) -> bool:
    """Whether the program has a uid that no other process has."""
    at_any_level = site.host.privileged and resource.owner.at_any_level
    return resource.owner.user is None and (site.level is Level.STRICT or at_any_level)


def _kept_by_passt(resource: Egress, site: Site) -> bool:
    """Whether no rule is made, because passt drops the guest's packets to the node's loopback addresses."""
    if resource.policy != "all" or not resource.passt or _has_own_uid(resource, site):
        return False
    return CLOSES_LOOPBACK in passt_options(resource.passt, site.host.cache_dir)


def _why_not(resource: Egress, site: Site, *, thorough: bool = True) -> tuple[str, str] | None:
    """Why this node cannot enforce the policy, and what to do. None if it can, as far as is known."""
    if resource.passt and not site.host.privileged and not site.pure:
        return why_not_namespace(resource.passt, resource.policy)
    return _why_no_rules(resource, site, thorough=thorough)


def _why_no_rules(resource: Egress, site: Site, *, thorough: bool) -> tuple[str, str] | None:
    if not _has_own_uid(resource, site):
        if resource.owner.user is not None:
            return "cannot be enforced for a named user, whose uid other processes have", "unset the user"
        return "cannot be enforced for a program with the caller's uid", "run hv as root, with confinement 'strict'"
    if resource.uid_shared_with:
        return f"cannot be enforced, because {resource.uid_shared_with} have the same uid", "use passt"
    if find_nft() is None:
        return "needs the program nft, which is not installed on this node", f"install it (Debian: {NFT_PACKAGE})"
    if thorough:
        try:
            list_table(FAMILY, TABLE)
        except NodeError as error:
            return f"needs nftables, which does not work here ({error})", "run nft list tables to see the error"
    return None


def _remark(why: tuple[str, str]) -> str:
    return f"{_LOOPBACK_IS_OPEN}: egress {why[0]}; {why[1]}"
