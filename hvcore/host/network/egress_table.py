"""The node's table of egress rules, made to match what the guests of this run directory have reserved.

A reservation is made before its element and removed after it, so the reservations are what the table has to hold. Starts
and stops change only their own elements, each in one transaction. A table that is missing or was changed is replaced in
one transaction, with the elements of all guests; no packet meets a table that is half made. There is no lock: after a
replacement the reservations are read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.environment import Host
from hvcore.host.network.nft import NftError, apply, generation, list_table
from hvcore.host.network.table_reference import before, digest_of_reference, is_right, remember
from hvcore.host.reservations import Reservations, instance_of
from hvcore.host.uids import unused_uids
from hvcore.model.network.egress_rules import (
    FAMILY,
    TABLE,
    Element,
    Listing,
    read_listing,
    text_to_add,
    text_to_create,
    text_to_delete,
    text_to_remove_table,
    text_to_replace,
)

__all__ = ["EGRESS", "enforce", "put_back", "reserved_elements", "weakness", "weaknesses", "withdraw"]

EGRESS: Final = "egress"
"""The kind of reservation: one for each element of the table."""

_TRIES: Final = 8


def enforce(host: Host, owner: str, elements: Iterable[Element]) -> None:
    """Reserve the elements for ``owner`` and add them to the table, which is made if it is missing. Raises `NftError`."""
    mine, kept = list(elements), _reservations(host)
    keys = kept.keys()
    alone = not keys
    _forget_earlier(kept, keys, {str(element.uid) for element in mine}, owner)
    for element in mine:
        kept.take(str(element), owner)
    state = before(host)
    if state.digest is None:  # once after a boot: what the table looks like is then known
        put_back(host)
        return
    if alone:  # most likely without a table: the first try then is the right one
        with suppress(NftError):
            apply(text_to_create(mine))
            state.changed(host)
            return
    try:
        apply(text_to_add(mine))
    except NftError:
        put_back(host)
    else:
        state.changed(host)


def withdraw(host: Host, owner: str) -> None:
    """Delete the elements of ``owner``, and the table with the last guest. Can be repeated. Raises `NftError`.

    A uid is free as soon as no process has it, so a guest of another run directory may have that of a guest that crashed.
    Its elements then stay: they may be the same.
    """
    kept = _reservations(host)
    noted = kept.noted(owner)
    mine = {element for element in _parsed(noted) if kept.target(str(element)) == owner}
    if not mine:
        if noted:  # a note without its link: a process was killed between them
            kept.release(owner)
        return
    others = reserved_elements(host) - mine
    texts = {(element.set, element.text) for element in others}
    alone = [element for element in mine if (element.set, element.text) not in texts]
    with unused_uids({element.uid for element in alone}, node_wide=host.privileged) as unused:
        gone = sorted(element for element in alone if element.uid in unused)
        state = before(host)
        _delete(gone, last=not others)
        state.changed(host)
        kept.release(owner)


def weakness(host: Host, name: str) -> str | None:
    """Why the egress rules of that instance are not enforced now, or None. Changes nothing but the cache."""
    return weaknesses(host).get(name)


def weaknesses(host: Host) -> dict[str, str]:
    """`weakness` of each instance that has one. Reads the table at most once for all."""
    owned = _owned(host)
    if not owned or is_right(host):
        return {}
    guests, number = set(owned.values()), generation()
    try:
        there = _table()
    except (NodeError, ValueError) as error:
        return dict.fromkeys(guests, f"the nftables table {FAMILY} {TABLE} cannot be read ({error})")
    if there is None:
        return dict.fromkeys(guests, f"the nftables table {FAMILY} {TABLE} is missing")
    lacking = {owner for element, owner in owned.items() if (element.set, element.text) not in there.elements}
    changed = guests if digest_of_reference(host) != there.digest else set()
    if not lacking and not changed and generation() == number:
        remember(host, there.digest, number)
    return {
        **dict.fromkeys(changed, f"the nftables table {FAMILY} {TABLE} was changed"),
        **dict.fromkeys(lacking, f"the nftables table {FAMILY} {TABLE} lacks its uid"),
    }


def put_back(host: Host) -> None:
    """Replace the table by what this release writes, with the elements of all guests. Raises `NftError`.

    Elements of another run directory's guests stay as they are.
    """
    wanted = reserved_elements(host)
    for _ in range(_TRIES):
        try:
            there = _table()
        except ValueError:
            there = None
        names = {(element.set, element.text) for element in wanted}
        others = [] if there is None else sorted(token for token in there.elements if token not in names)
        apply(text_to_replace(sorted(wanted), _foreign(others, wanted)))
        number, made = generation(), _table()
        now = reserved_elements(host)
        if made is not None:
            right = now == wanted and names <= made.elements and generation() == number
            remember(host, made.digest, number if right else None)
        if now == wanted:
            return
        if gone := wanted - now:
            _delete(sorted(gone), last=False)
        wanted = now
    raise NftError(f"nft: table {FAMILY} {TABLE} changed {_TRIES} times meanwhile; try again")


def reserved_elements(host: Host) -> set[Element]:
    """What the guests of this run directory have reserved."""
    return set(_parsed(_reservations(host).keys()))


def _forget_earlier(kept: Reservations, keys: Iterable[str], uids: set[str], owner: str) -> None:
    """Release the elements of these uids that other instances have reserved: they had the uids before.

    Such an instance could not delete its elements when it gave back its uid.
    """
    for other in {kept.target(key) for key in keys if key.partition(":")[0] in uids}:
        if other is not None and instance_of(other) != instance_of(owner):
            kept.release(other)


def _foreign(tokens: list[tuple[str, str]], wanted: set[Element]) -> list[tuple[str, str]]:
    """The elements in the table that are of other uids than ours. No guest has a port without one of these."""
    ours = {str(element.uid) for element in wanted}
    found = [(name, text) for name, text in tokens if " " in text and text.split()[0] not in ours]
    return [*found, *((name, text) for name, text in tokens if found and " " not in text)]


def _delete(elements: list[Element], *, last: bool) -> None:
    if not elements and not last:
        return
    if last:
        with suppress(NftError):  # EBUSY: another run directory has a guest in the table
            apply(text_to_remove_table(elements))
            return
    try:
        apply(text_to_delete(elements))
    except NftError:
        # "No such file": the table is gone. "File exists": the uid has another policy now, of a later guest.
        there = _table()
        found = [] if there is None else [one for one in elements if (one.set, one.text) in there.elements]
        if len(found) == len(elements):
            raise
        if found:
            apply(text_to_delete(found))


def _table() -> Listing | None:
    document = list_table(FAMILY, TABLE)
    return None if document is None else read_listing(document)


def _reservations(host: Host) -> Reservations:
    return Reservations(host.run_dir / "reservations" / EGRESS)


def _owned(host: Host) -> dict[Element, str]:
    items = _reservations(host).items()
    return {element: instance_of(items[str(element)]) for element in _parsed(items)}


def _parsed(keys: Iterable[str]) -> Iterable[Element]:
    for key in keys:
        with suppress(ValueError):  # a file that hvcore did not make
            yield Element.parse(key)
