"""What NICs have left in the node's network: interfaces, ports, routes and rules that no record names. Changes nothing."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

from hvcore.errors import HvError
from hvcore.host.network.marked import Marked, command_to_delete, lost_routes, lost_rules, marked
from hvcore.host.network.routes import MAIN_TABLE, Rule, rules_for
from hvcore.model.answers import Finding, Severity
from hvcore.model.network.ovs_bridge import OVS_SOCKET
from hvcore.model.record import Entry
from hvcore.operations.context import Context

__all__ = ["left_links"]

_ROUTED: Final = "routed-port"


def left_links(context: Context, unrecorded: Container[str], ovs_socket: str = OVS_SOCKET) -> Iterator[Finding]:
    """A finding for each thing of a NIC that no record names. Everything is read twice: an operation may be at work.

    ``unrecorded`` are instances of which something else is left: one command ends them and removes everything.
    """
    things = [thing for thing in marked(context.host.run_dir, ovs_socket) if not _is_owned(context, thing)]
    if things:
        still = {(thing.name, thing.mark) for thing in marked(context.host.run_dir, ovs_socket)}
        yield from (_finding(thing, unrecorded) for thing in things if (thing.name, thing.mark) in still)
    kept = _kept_rules(context)
    lost = list(lost_rules(kept.__contains__)) if kept is not None else []
    if lost:
        kept, still_lost = _kept_rules(context), set(lost_rules((kept or set()).__contains__))
        yield from (_of_rule(rule) for rule in lost if kept is not None and rule in still_lost)
    for route, link in lost_routes():
        table = "" if route.table == MAIN_TABLE else f", in table {route.table}"
        what = f"is a route of hvcore by interface {link}, which is not of hvcore{table}"
        yield _note(f"route {route.address}", what, command_to_delete(route))


def _finding(thing: Marked, unrecorded: Container[str]) -> Finding:
    what = f"is left of {thing.instance}: {thing.what} {thing.name}, which no record names"
    todo = f"hv stop --force {thing.instance}" if thing.instance in unrecorded else thing.command
    return _note(thing.name, what, todo)


def _of_rule(rule: Rule) -> Finding:
    subject = f"rule for {rule.link or rule.address}"
    lacks = "that interface does not exist" if rule.link else "no route to a guest has that address"
    what = f"is a routing rule of hvcore for table {rule.table}, and {lacks}"
    return _note(subject, what, command_to_delete(rule))


def _note(subject: str, what: str, todo: str) -> Finding:
    return Finding(subject=subject, severity=Severity.NOTE, what=what, todo=todo)


def _is_owned(context: Context, thing: Marked) -> bool:
    """Whether a record names it, or may: one that cannot be read, and one of an operation in progress."""
    ledger = _ledger(context, thing.instance)
    if ledger is None or context.store.locked(thing.instance):
        return True
    # Entries of records before version 5 have no key.
    return any(entry.key in (thing.key, "") for entry in ledger)


def _kept_rules(context: Context) -> set[Rule] | None:
    """The rules that records name; None if a record cannot be read, which may name any."""
    found: set[Rule] = set()
    for name in context.store.names():
        ledger = _ledger(context, name)
        if ledger is None:
            return None
        for entry in ledger:
            if entry.kind == _ROUTED:
                found.update(rules_for(entry.data["name"], entry.data["table"], entry.data["addresses"]))
    return found


def _ledger(context: Context, name: str) -> tuple[Entry, ...] | None:
    """The ledger of that instance, empty without a record; None if its record cannot be read."""
    try:
        record = context.store.load(name)
    except HvError:
        return None
    return () if record is None else record.ledger
