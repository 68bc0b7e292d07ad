"""Subcommands about the node as a whole."""
