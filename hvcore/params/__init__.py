"""Typed parameters: declarations, types, the check of an instance's values, and their descriptions. Pure."""
