"""A store of records that says how often it has written."""

from __future__ import annotations

from hvcore.plugin import Record
from hvcore.state.store import Store


class CountingStore(Store):
    """Counts its durable writes."""

    saved = 0

    def save(self, record: Record) -> None:
        self.saved += 1
        super().save(record)
