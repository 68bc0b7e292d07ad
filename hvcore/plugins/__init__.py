"""Drivers and extensions: finding, loading and calling them, and attributing errors to them."""
