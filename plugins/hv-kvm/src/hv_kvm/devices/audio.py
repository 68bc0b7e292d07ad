"""Sound cards. Their sound goes to the SPICE viewer, or is discarded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import lacking, listed
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Audio", "SoundCard", "plan", "render", "verify"]

_PCI: Final = {"ac97": "AC97", "es1370": "ES1370", "hda": "intel-hda", "virtio": "virtio-sound-pci"}
_ISA: Final = {"sb16": "sb16", "adlib": "adlib", "gus": "gus", "cs4231a": "cs4231a"}
_SPEAKER: Final = "pcspk"
_MODELS: Final = {**_PCI, **_ISA, _SPEAKER: "isa-pcspk"}
_EXPECTS: Final = f"one or more of {', '.join(_MODELS)}, separated by commas or spaces"

PARAMS: Final = hv.ParamGroup(
    "audio",
    hv.Param(
        "soundhw",
        listed("|".join(_MODELS), _EXPECTS, max_items=len(_MODELS)),
        help="The guest's sound cards. Their sound goes to the SPICE viewer. Without SPICE it is discarded.",
        default_means="no sound card",
        example="hda",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Device):
    """The back end that the sound goes to: ``none`` or ``spice``."""

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundCard(PciDevice):
    """One sound card, by its name in soundhw."""

    name: str

    @property
    def model(self) -> str:
        """The type of QEMU's device."""
        return _MODELS[self.name]

    @property
    def needs_slot(self) -> bool:
        """Whether the card is on the PCI bus: old cards are on the ISA bus, and the speaker is part of the chipset."""
        return self.name in _PCI

    on_board: ClassVar[bool] = True


DEVICES: Final = (Audio, SoundCard)


@hv.hookimpl
@hv.when_given("soundhw")
def plan(params: hv.Params) -> Iterator[Device]:
    """Each card once, and one back end for all."""
    if params["soundhw"]:
        yield Audio(backend="spice" if params.get("spice_bind") else "none")
        for name in dict.fromkeys(params["soundhw"].split(",")):
            yield SoundCard(name=name)


@hv.hookimpl
@when_planned(Audio, SoundCard)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The cards must exist in this QEMU."""
    for card in spec.of(SoundCard):
        yield from lacking(facts, card.model, "params.soundhw", "use another", repr(card.name))


@hv.hookimpl
@when_planned(Audio, SoundCard)
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Back end and cards. The PC speaker is part of the machine, so it only gets the back end."""
    for audio in spec.of(Audio):
        yield Opt(name="-audiodev", head=audio.backend, props={"id": "audio"}, params=("soundhw",))
    for card in spec.of(SoundCard):
        if card.name == _SPEAKER:
            yield Opt(name="-machine", props={"pcspk-audiodev": "audio"}, params=("soundhw",))
            continue
        props: Props = {"id": f"sound-{card.name}", **(card.address(spec) if card.needs_slot else {})}
        if card.name == "hda":
            yield Opt(name="-device", head=card.model, props=props, params=("soundhw",))
            codec: Props = {"id": "sound-codec", "bus": "sound-hda.0", "audiodev": "audio"}
            yield Opt(name="-device", head="hda-duplex", props=codec, params=("soundhw",))
        else:
            yield Opt(name="-device", head=card.model, props={**props, "audiodev": "audio"}, params=("soundhw",))
