"""Lists in one text: values that are accepted, by the check and by the schema."""

from __future__ import annotations

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.devices.shared.params import listed
from hvcore.plugin import Reject


def test_a_list_takes_commas_and_spaces_and_its_own_result() -> None:
    kind = listed("[A-Za-z]", "letters", max_items=3)
    assert kind.parse(" A, b  c,") == "a,b,c"
    assert kind.parse("a,b,c") == "a,b,c"
    for value, what in (("a b c d", "more than 3"), (" , ", "empty"), ("a,b=c", "'b=c'")):
        with pytest.raises(Reject, match=what):
            kind.parse(value)


@given(st.text("ab,= ", max_size=9) | st.text(max_size=5))
def test_the_schema_of_a_list_accepts_what_the_check_does(value: str) -> None:
    kind = listed("[ab]|ba", "letters", max_items=3)
    try:
        kind.parse(value)
    except Reject:
        accepted = False
    else:
        accepted = True
    assert jsonschema.Draft202012Validator(kind.json_schema()).is_valid(value) == accepted
