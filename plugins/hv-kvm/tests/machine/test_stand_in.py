"""The throw-away guest has every device of the machine at its place, and nothing of the node."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from corpus import CASES, Corpus, bindings

from hv_kvm.machine.abi import abi_of
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import rendered
from hv_kvm.machine.stand_in import left_out, stand_in
from hvcore.plugin import AbiClass

_ADDED = "wire machine: nodefaults = on"  # by the rehearsal itself
_FILES = ("/dev/fdset", "{fd:", "/guest", "path=", "mem-path", "filename=/", "url=", "fd=")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_each_device_is_there_at_its_place_and_no_file(case: Path, corpus: Corpus, recorded: dict[str, Facts]) -> None:
    facts = recorded["7.2"]
    if corpus.answer(case, facts).kind == "error":
        return
    spec = corpus.spec(case, facts)
    real = rendered(corpus.kvm.hooks, spec, facts, bindings(corpus.kvm, case, spec))
    options = list(stand_in((option for _, option in real), {}))
    absent = left_out(option for _, option in real)
    devices = [option.argv for option in options if option.name == "-device"]
    assert len(devices) == len([option for _, option in real if option.name == "-device" and option.head not in absent])
    text = " ".join(token for option in options for token in option.argv)
    assert [word for word in _FILES if word in re.sub(r"filename=/dev/u?random", "", text)] == []
    if not absent and case.parent.name != "extra":
        own = abi_of(("x", option) for option in options)
        assert wire(own) == wire(abi_of(real))


def wire(abi: object) -> set[str]:
    entries = getattr(abi, "entries", ())
    return {str(entry) for entry in entries if entry.kind is AbiClass.WIRE and "pcspk" not in entry.key} - {_ADDED}


def test_a_device_that_needs_the_node_is_named() -> None:
    options = [Opt(name="-device", head="usb-host", props={"id": "usb0-dev"}), Opt(name="-device", head="VGA")]
    assert left_out(options) == ("usb-host",)
    assert [option.head for option in stand_in(options, {})] == ["VGA"]
