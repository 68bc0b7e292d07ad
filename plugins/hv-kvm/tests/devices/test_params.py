"""Every parameter has the facts that pages and forms show: a text, a unit for a number, a valid example."""

from __future__ import annotations

from typing import Final

import pytest

import hvcore.plugin
from hvcore.plugins.loader import load

SCHEMA: Final = load("kvm").schema
# Numbers that count nothing.
NO_UNIT: Final = {"migration_port", "spice_port", "vnc_port"}


@pytest.mark.parametrize("param", SCHEMA.params.values(), ids=lambda param: param.key)
def test_a_parameter_is_complete(param: hvcore.plugin.Param) -> None:
    assert param.help.endswith(".")
    assert param.since
    assert param.example not in (None, param.default)
    assert param.type.parse(param.example) is not None
    if param.type.json_schema().get("type") == "integer" and param.key not in NO_UNIT:
        assert param.unit, f"{param.key}: an integer without a unit; give it one, or list it in NO_UNIT"
