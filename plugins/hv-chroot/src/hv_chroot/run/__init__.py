"""The operations on an instance: check before a start, start, stop, observe."""
