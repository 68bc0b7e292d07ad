"""The parts of a call's time, by timers around functions of hvcore while the call runs."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["parts_of"]


def parts_of(places: Mapping[str, str], work: Callable[[], float], *, repeat: int, rest: str) -> dict[str, float]:
    """Median milliseconds in each of ``places`` (label to ``module:name``), the total that ``work`` returns, the rest.

    The time that one place spends in another counts for the other only.
    """
    found: dict[str, list[float]] = {label: [] for label in (*places, rest)}
    with _timed(places) as spent:
        for _ in range(repeat):
            spent.clear()
            total = work()
            for label in places:
                found[label].append(spent.get(label, 0.0))
            found[rest].append(total - sum(spent.values()))
    return {label: statistics.median(samples) for label, samples in found.items()}


@contextmanager
def _timed(places: Mapping[str, str]) -> Iterator[dict[str, float]]:
    spent: dict[str, float] = {}
    inner = [0.0]
    with ExitStack() as stack:
        for label, place in places.items():
            module, _, path = place.partition(":")
            owner: Any = importlib.import_module(module)
            *parents, name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            function = getattr(owner, name)
            stack.callback(setattr, owner, name, function)
            setattr(owner, name, _timer(label, function, spent, inner))
        yield spent


def _timer(label: str, function: Callable[..., Any], spent: dict[str, float], inner: list[float]) -> Callable[..., Any]:
    """The function, with its own time added to ``spent``; ``inner`` collects the time of timed calls within a call."""

    def timed(*arguments: Any, **named: Any) -> Any:
        inner.append(0.0)
        begun = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            took = (time.perf_counter() - begun) * 1000
            spent[label] = spent.get(label, 0.0) + took - inner.pop()
            inner[-1] += took

    return timed
