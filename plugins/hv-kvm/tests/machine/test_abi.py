"""What a guest sees of its machine: the same on every node, and by each change in the class that QEMU's answer gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from corpus import CASES, GOLDEN, Corpus, bindings

import hvcore
from hv_kvm.machine.abi import abi_of
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import rendered
from hvcore.plugin import Abi, AbiClass

Options = list[tuple[str, Opt]]
LISTS: Final = GOLDEN.parent / "golden-abi"
"""One file for each recorded QEMU: the digests of every case, and the whole list of a few."""
WHOLE: Final = ("boot/firmware-secure-boot", "disk/several", "memory/maximum-on-nodes-q35", "nic/mixed", "usb/devices")


def options_of(case: Path, corpus: Corpus, facts: Facts) -> Options:
    spec = corpus.spec(case, facts)
    return rendered(corpus.kvm.hooks, spec, facts, bindings(corpus.kvm, case, spec))


@pytest.fixture(scope="module")
def options(corpus: Corpus, recorded: dict[str, Facts]) -> Options:
    return options_of(GOLDEN / "disk/several.toml", corpus, recorded["7.2"])


@pytest.mark.parametrize("version", ["5.2", "7.2", "10.0", "11.1"])
def test_a_change_of_the_renderer_shows(
    version: str, corpus: Corpus, recorded: dict[str, Facts], request: pytest.FixtureRequest
) -> None:
    """A guest that was started by an earlier release of this driver must stay the same machine."""
    lines = []
    for case in CASES:
        name = f"{case.parent.name}/{case.stem}"
        if corpus.answer(case, recorded[version]).kind == "error":
            continue
        found = abi_of(options_of(case, corpus, recorded[version]))
        lines.append(f"{name}: {' '.join(found.digests.values())}")
        lines += [f"    {entry}" for entry in found.entries if name in WHOLE]
    text, path = "".join(f"{line}\n" for line in lines), LISTS / f"{version}.txt"
    if request.config.getoption("--golden-update"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "review it, then: pytest --golden-update"


def changed(options: Options, name: str, change: Callable[[Opt], Opt | None]) -> Options:
    """The options with the first one of that name changed, or left out."""
    at = next(index for index, (_, option) in enumerate(options) if option.name == name)
    new = change(options[at][1])
    return [*options[:at], *([] if new is None else [(options[at][0], new)]), *options[at + 1 :]]


def prop(key: str, value: bool | int | str) -> Callable[[Opt], Opt]:  # noqa: FBT001 - any value of a property
    return lambda option: replace(option, props={**option.props, key: value})


@pytest.mark.parametrize(
    ("name", "change", "kinds"),
    [
        ("-name", prop("guest", "other"), set()),
        ("-blockdev", prop("file.filename", "/elsewhere"), set()),
        ("-blockdev", prop("cache.direct", True), set()),
        ("-object", prop("filename", "/dev/random"), set()),
        ("-machine", prop("accel", "kvm"), set()),
        ("-device", prop("id", "other"), {"name"}),
        ("-device", prop("bootindex", 7), {"boot"}),
        ("-boot", prop("strict", False), {"boot"}),
        ("-device", prop("mac", "52:54:00:00:00:01"), {"seen"}),
        ("-device", prop("serial", "x"), {"seen"}),
        ("-device", prop("logical_block_size", 4096), {"seen"}),
        ("-device", prop("packed", True), {"seen"}),
        ("-smp", lambda option: replace(option, head=2), {"seen"}),
        ("-uuid", lambda option: replace(option, head="other"), {"seen"}),
        ("-rtc", prop("base", "localtime"), {"seen"}),
        ("-machine", prop("hpet", False), {"wire"}),
        ("-machine", lambda option: replace(option, head="pc-i440fx-7.1"), {"wire"}),
        ("-m", prop("size", "1G"), {"wire"}),
        ("-device", prop("num-queues", 4), {"wire"}),
        ("-device", prop("disable-legacy", True), {"wire"}),
        ("-device", prop("romfile", ""), {"wire"}),
        ("-device", prop("of-a-later-qemu", 1), {"wire"}),
        ("-device", prop("addr", "0x9"), {"wire", "name"}),
        ("-serial", lambda _: None, {"wire"}),
        ("-device", lambda _: None, {"wire", "name"}),
    ],
)
def test_each_change_has_the_class_of_what_qemu_does_with_it(
    options: Options, name: str, change: Callable[[Opt], Opt | None], kinds: set[str]
) -> None:
    found = hvcore.abi_changes(abi_of(options), abi_of(changed(options, name, change)))
    assert {str(one.kind) for one in found} == kinds


def test_options_that_are_not_known_and_words_of_the_operator_are_of_the_wire(options: Options) -> None:
    more = [*options, ("other", Opt(name="-watchdog", head="i6300esb")), ("extra", Opt(name="-device pvpanic"))]
    found = hvcore.abi_changes(abi_of(options), abi_of(more))
    assert [(one.kind, one.key, one.after) for one in found] == [
        (AbiClass.WIRE, "-watchdog", "i6300esb"),
        (AbiClass.WIRE, "extra", "-device pvpanic"),
    ]


def test_sizes_and_the_words_of_the_cpu_belong_to_it(options: Options) -> None:
    before, after = (abi_of(options, sizes={"disk0": size}, words={"cpuid 0x1 ecx": size}) for size in (512, 1024))
    found = hvcore.abi_changes(before, after)
    assert [(one.what, one.key, one.before, one.after) for one in found] == [
        ("cpu", "cpuid 0x1 ecx", "0x00000200", "0x00000400"),
        ("device at pci.0 0xc", "size", "512", "1024"),
    ]
    assert abi_of(options, words={"cpuid 0x1 ecx": 0}) == abi_of(options)


def test_a_medium_that_comes_and_goes_does_not(corpus: Corpus, recorded: dict[str, Facts]) -> None:
    found = options_of(GOLDEN / "media/cdrom-alone.toml", corpus, recorded["7.2"])
    drives = {str(option.props["drive"]): 1 for _, option in found if str(option.head).endswith("-cd")}
    assert drives
    assert abi_of(found, sizes=drives) == abi_of(found)


def test_each_fact_is_there_once(corpus: Corpus, recorded: dict[str, Facts]) -> None:
    for case in CASES:
        if corpus.answer(case, recorded["7.2"]).kind == "argv":
            places = [entry.place for entry in abi_of(options_of(case, corpus, recorded["7.2"])).entries]
            assert len(places) == len(set(places)), case


def test_its_json_is_the_same_list(options: Options) -> None:
    found = abi_of(options)
    assert Abi.from_json(found.to_json()) == found
    assert Abi.from_json(found.to_json()).digests == found.digests
    bodies: tuple[Any, ...] = (None, {}, {"entries": [{}]}, {"entries": [], "at_start": 3})
    for body in bodies:
        with pytest.raises(ValueError, match="abi: not in the form"):
            Abi.from_json(body)
