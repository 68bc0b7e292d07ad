"""Subcommands about files that people write: instance files and definitions."""
