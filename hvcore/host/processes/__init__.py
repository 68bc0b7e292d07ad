"""Processes that run: known for certain, found again by what marks them, measured, ended."""
