"""Moving a guest to another node."""
