"""The state, the events and the counters of guests."""
