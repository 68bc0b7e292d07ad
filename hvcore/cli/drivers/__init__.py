"""Subcommands about drivers, and for their authors."""
