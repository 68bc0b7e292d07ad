"""Subcommands for a person at an instance: console, display, programs inside, buttons and keys."""
