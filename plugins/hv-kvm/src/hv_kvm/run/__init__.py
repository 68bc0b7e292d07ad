"""The operations on a guest: from the checks before its start to its end."""
