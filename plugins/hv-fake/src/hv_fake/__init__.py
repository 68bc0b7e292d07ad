"""An in-memory driver: the smallest complete one, for tests and as the guide's example."""
