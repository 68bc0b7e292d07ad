"""Values for parameters: known bad ones and, if Hypothesis is installed, many generated ones.

The values are the same in each run and on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hvcore.params.param import Param, Reject

__all__ = ["NASTY", "alternatives", "each_generated", "parsed"]

NASTY: Final[tuple[Any, ...]] = (
    *(True, False, 0, 1, -1, 2, 255, 256, 65535, 65536, 2**31, 2**63, 2**64, -(2**63)),
    *(0.0, -0.0, 1.0, 1.5, -1.5, 1e300, float("inf"), float("-inf"), float("nan")),
    *("", " ", "a", "512", "1.5", "true", "yes", "none", "-a", "--help", "a,b=c", "a b", "a\tb", "a\nb", "a\0b"),
    *("\udc80", "ä", "'", '"', "$(id)", "`id`", "a" * 5000, "/", "/etc/passwd", "/dev/null", "..", "../x", "/a/../b"),
    *("127.0.0.1", "::1", "eth0", "1-3", "0:1", "all", "1024M", "http://example.invalid/x", "aa:bb:cc:dd:ee:ff"),
    *([], [1], ["a"], [[]], ["a", "a"], {}, {"a": 1}, (), b"a", None),
)
"""Values that programs have misread."""

_EXAMPLES: Final = 100


def parsed(param: Param, value: object) -> tuple[bool, Any]:
    """Whether the parameter accepts the value, and the value's clean form."""
    try:
        return True, param.type.parse(value)
    except Reject:
        return False, None


def alternatives(param: Param, at_most: int = 4) -> list[Any]:
    """Some values that the parameter accepts, other than its default, in their clean form."""
    shape = param.type.json_schema()
    wished = [param.example, *param.type.choices, shape.get("minimum"), shape.get("maximum"), *NASTY]
    found: list[Any] = []
    for value in wished:
        if value is None:
            continue
        taken, clean = parsed(param, value)
        if taken and clean != param.default and clean not in found:
            found.append(clean)
    return found[:at_most]


def each_generated(act: Callable[[Any], None]) -> None:
    """Call ``act`` with every nasty value, and with Hypothesis's if it is installed."""
    for value in NASTY:
        act(value)
    try:
        from hypothesis import HealthCheck, given, settings  # noqa: PLC0415 - may be missing
        from hypothesis import strategies as st  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        return
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
    values = scalars | st.lists(scalars, max_size=3)
    quiet = settings(
        derandomize=True, database=None, deadline=None, max_examples=_EXAMPLES, suppress_health_check=list(HealthCheck)
    )

    def one(value: Any) -> None:
        act(value)

    quiet(given(values)(one))()
