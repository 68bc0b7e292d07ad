"""What `hv params DRIVER KEY` shows of every built-in parameter is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from hvcore.model.instance_keys import DISK_KEYS, INSTANCE_KEYS, NIC_KEYS
from hvcore.params.param import Param
from hvcore.plugins.loader import load

OWNERS: Final[dict[str, Iterable[Param]]] = {
    "instance": INSTANCE_KEYS,
    "disks": DISK_KEYS,
    "nics": NIC_KEYS,
    **{driver: load(driver).schema.params.values() for driver in ("kvm", "chroot", "fake")},
}
PARAMS: Final = {f"{owner}.{param.key}": param for owner, params in OWNERS.items() for param in params}
EXPLAIN_THEMSELVES: Final = {"boolean", "integer", "port", "seconds"}
# Choices that are the name of something outside, with the place that explains them.
NAMES: Final[dict[str, str]] = {
    "kvm.keymap": "the keyboard layouts in QEMU's directory keymaps",
    "kvm.migration_caps": "MigrationCapability in QEMU's QMP reference",
    "chroot.capabilities": "capabilities(7)",
}


def lacks(key: str, param: Param) -> Iterator[str]:
    """What the text of the parameter does not say."""
    if "Unset:" in param.help or "Default:" in param.help:
        yield "help speaks of the default; that is what default_means is for"
    for choice, meaning in param.type.choices.items():
        if isinstance(choice, str) and not meaning and key not in NAMES:
            yield f"choice {choice!r} has no meaning; give one_of() a mapping, or list the parameter in NAMES"
    unclear = param.default is None or param.default in ("", "auto", "default")
    unclear |= param.default == 0 and not isinstance(param.default, bool)
    if unclear and not param.required and not param.default_means:
        yield f"default {param.default!r} has no default_means"
    if not param.type.choices and param.type.kind not in EXPLAIN_THEMSELVES and param.example is None:
        yield "there is no example"


@pytest.mark.parametrize("key", PARAMS)
def test_the_text_of_a_parameter_is_complete(key: str) -> None:
    lacking = "\n".join(lacks(key, PARAMS[key]))
    assert not lacking, f"{key}:\n{lacking}"


def test_the_names_are_parameters() -> None:
    assert PARAMS.keys() >= NAMES.keys()
