"""From the start of an instance to its end."""
