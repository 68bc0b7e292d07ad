"""The operations on an instance, one verb to a file, in folders by subject. Each takes a `Context` and plain values."""
