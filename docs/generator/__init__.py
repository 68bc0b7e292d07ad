"""What `docs/generate.py` writes: a module to a page, and what they share in `words`."""
