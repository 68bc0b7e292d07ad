"""The version of hvcore: the only place, read by the build (pyproject.toml) and by the catalogue."""

__all__ = ["__version__"]

__version__ = "0.1.0"
