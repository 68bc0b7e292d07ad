"""All names for authors of drivers and extensions: ``import hvcore.plugin as hv``."""

from hvcore.lazy_names import lazy_names as _lazy_names

__getattr__, __dir__ = _lazy_names(__name__, __file__)
