"""The operations on a guest: start, stop, observe, and what is said before a start."""
