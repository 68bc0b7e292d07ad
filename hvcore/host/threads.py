"""Calls that need a new thread, because the kernel keeps something for each thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


def in_thread(call: Callable[[], T], *, name: str) -> T:
    """The result of the call in a new thread, which has ended then. Raises what the call raises."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        thread.join()
    finally:
        thread.join()  # also after an interrupt: what the call starts is known when this returns
    if errors:
        raise errors[0]
    return results[0]
