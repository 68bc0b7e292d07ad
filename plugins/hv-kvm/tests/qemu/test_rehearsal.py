"""Two throw-away guests: one QEMU saves, the other loads, and says in its own words why it does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from corpus import CASES, Corpus, bindings, sample

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.render import rendered
from hv_kvm.machine.stand_in import left_out, stand_in
from hv_kvm.qemu.probe import ProbeError, probe
from hv_kvm.qemu.rehearsal import rehearse_move

pytestmark = pytest.mark.live

QEMU: Final = "/usr/bin/qemu-system-x86_64"
MACHINE: Final = ("-machine", "pc", "-accel", "tcg", "-m", "16")
DISK: Final = ("-blockdev", "driver=null-co,node-name=a,size=1048576", "-device", "virtio-blk-pci,drive=a,addr=0xc")


def moved(old: tuple[str, ...], new: tuple[str, ...], cache: Path) -> str | None:
    return rehearse_move(QEMU, old, QEMU, new, cache_dir=str(cache))


def test_the_same_machine_can_be_loaded_and_the_answer_is_kept(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(0o700)
    assert moved((*MACHINE, *DISK), (*MACHINE, *DISK), cache) is None
    (kept,) = os.listdir(cache)
    assert kept.startswith("moved-")
    written = (cache / kept).stat().st_mtime_ns
    assert moved((*MACHINE, *DISK), (*MACHINE, *DISK), cache) is None
    assert (cache / kept).stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("virtio-blk-pci,drive=a,addr=0xd",), "0xc|0d.0|0c.0|load|section"),
        (("virtio-blk-pci,drive=a,addr=0xc,num-queues=3",), "virtio|load"),
    ],
)
def test_another_machine_is_refused_in_the_words_of_qemu(change: tuple[str, ...], words: str, tmp_path: Path) -> None:
    found = moved((*MACHINE, *DISK), (*MACHINE, *DISK[:3], *change), tmp_path)
    assert found is not None
    assert any(word in found for word in words.split("|")), found


def test_a_guest_that_cannot_start_is_not_an_answer(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="no-such-device"):
        moved((*MACHINE, "-device", "no-such-device"), MACHINE, tmp_path)
    assert os.listdir(tmp_path) == []


def cases(facts: Facts, corpus: Corpus) -> list[Path]:
    return [case for case in CASES if corpus.answer(case, facts).kind == "argv" and case.parent.name != "extra"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_machine_of_the_corpus_can_be_saved_and_loaded_by_the_same_qemu(corpus: Corpus, tmp_path: Path) -> None:
    facts, refused = probe(QEMU, cache_dir=None), {}
    some = sample(cases(facts, corpus))
    for case in sorted(some):
        spec = corpus.spec(case, facts)
        real = [option for _, option in rendered(corpus.kvm.hooks, spec, facts, bindings(corpus.kvm, case, spec))]
        if left_out(real):
            continue
        argv = ("-accel", "tcg", *(token for option in stand_in(real, {}) for token in option.argv))
        try:
            refused[case.stem] = moved(argv, argv, tmp_path)
        except ProbeError as error:
            refused[case.stem] = None if "non-migratable device" in error.reason else str(error)
    assert {name: why for name, why in refused.items() if why} == {}
