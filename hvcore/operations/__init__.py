"""The operations on an instance, one verb to a file. Each takes a `Context` and plain values."""
