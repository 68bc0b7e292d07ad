"""Events: what happens to an instance is seen by `Node.watch`."""

from __future__ import annotations

from hvcore.model.events.events import Event, NotWatched, Paused, Resumed, Started, Stopped
from hvcore.model.state import EndedBy
from hvcore.operations.watch.watch import Watch
from hvcore.plugins.protocols import Pausable, Watchable
from hvcore.testing.check import PATIENCE_S, Bench, Failed, Level, Skipped, Tier, check, require

__all__: tuple[str, ...] = ()

_LINES = (b"", b"\0" * 64, b"{}", b"[1]", b"\xff\xfe", b'{"event": 7}', b"[" * 30_000, b'{"event": "X", "data": [NaN]}')


def _next(watching: Watch, kinds: tuple[type[Event], ...], what: str) -> Event:
    """The next event of one of these classes."""
    while (event := watching.take(PATIENCE_S)) is not None:
        require(not isinstance(event, NotWatched), f"{what}, but {event}")
        if isinstance(event, kinds):
            return event
    raise Failed(f"{what}, and there is no event of it within {PATIENCE_S:g} s")


@check(Level.MUST, Tier.LIVE)
def life_is_watched(bench: Bench) -> None:
    """A watch reports the start, a pause, a resume and the end of an instance, each once and in order.

    Why: Monitoring and automatic restarts stand on these events. If one is missing, a guest stays down.
    """
    name, pausable = bench.name(), isinstance(bench.loaded.driver, Pausable)
    seen = (Started, Paused, Resumed, Stopped)
    with bench.node.watch([name]) as watching:
        bench.start()
        require(isinstance(_next(watching, seen, "it was started"), Started), "its start is not the first event")
        if pausable:
            bench.node.pause(name)
            require(isinstance(_next(watching, seen, "it was paused"), Paused), "no event Paused follows a pause")
            bench.node.resume(name)
            require(isinstance(_next(watching, seen, "it was resumed"), Resumed), "no event Resumed follows a resume")
        bench.node.stop(name, force=True)
        event = _next(watching, seen, "it was stopped")
        require(isinstance(event, Stopped) and event.ended_by is EndedBy.STOP, f"a stop is reported as {event}")


@check(Level.CAPABILITY, Tier.LIVE)
def capability_watch(bench: Bench) -> None:
    """Claimed: the files of events are in the instance's directory, and no line that a guest may write makes its reader raise.

    Why: A guest may control the program that writes the file. A reader that raises loses events of the guest.
    """
    driver = bench.loaded.driver
    if not isinstance(driver, Watchable):
        raise Skipped("it has no files of events: start, pause and end are seen all the same")
    bench.start()
    live = bench.job().live
    for source in bench.loaded.watched(live).files:
        require(
            source.path.startswith(f"{live.dir}/"), f"its file of events {source.path!r} is not in {str(live.dir)!r}"
        )
        for from_start in (False, True):
            read = source.reader(from_start)
            for line in _LINES:
                try:
                    found = list(read(line))
                except Exception as error:
                    raise Failed(f"its reader of events raises {type(error).__name__} for {line[:40]!r}") from error
                require(all(isinstance(event, Event) for event in found), f"its reader returns {found!r:.80}")
