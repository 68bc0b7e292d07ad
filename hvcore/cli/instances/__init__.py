"""Subcommands about instances that run: their start and end, their state, and changes."""
