"""The operations on an instance: start, stop, observe, and what is said before a start."""
