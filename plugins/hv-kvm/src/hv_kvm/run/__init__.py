"""The operations on a guest: verify, describe, start, stop, observe."""
