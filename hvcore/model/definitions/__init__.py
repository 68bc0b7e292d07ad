"""Definitions as values: their text, and how they differ from what runs. Pure."""
