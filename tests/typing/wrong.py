"""Mistakes that mypy has to find. Each is marked with the error it is: one that is not found is an unused mark.

Never run: mypy --strict reads it with the rest of the tests.
"""

from __future__ import annotations

from typing import ClassVar

import hvcore


class Half:
    """A driver without start and stop."""

    name: ClassVar[str] = "half"
    plugins: ClassVar[tuple[tuple[str, object], ...]] = ()
    hookspecs: ClassVar[tuple[object, ...]] = ()


class Odd(Half):
    """One whose stop takes force by position and says nothing."""

    def pause(self, live: hvcore.Live) -> None: ...

    def resume(self, live: hvcore.Live, job: hvcore.Job) -> None: ...


def wrong(node: hvcore.Node, instance: hvcore.Instance) -> None:
    driver: hvcore.Driver = Half()  # type: ignore[assignment]
    pausable: hvcore.Pausable = Odd()  # type: ignore[assignment]
    del driver, pausable
    node.stop("web1", True)  # type: ignore[call-arg]
    node.stop(instance)  # type: ignore[arg-type]
    node.driver(instance.name).start("web1")  # type: ignore[arg-type]
    instance.memory_mib = 5  # type: ignore[misc]
    hvcore.Instance("web1", "fake")  # type: ignore[call-arg]
    hvcore.Instance(name="web1")  # type: ignore[call-arg]
    hvcore.Instance(name="web1", driver="fake", memory="512M")  # type: ignore[call-arg]
    hvcore.Entry(hvcore.UID)  # type: ignore[call-arg]
    hvcore.Observation(state="running")  # type: ignore[arg-type]
    number: int = node.info("web1").memory_mib  # type: ignore[assignment]
    del number
