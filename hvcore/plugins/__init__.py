"""Drivers and extensions: found, loaded by name, called, and blamed for what is theirs."""
