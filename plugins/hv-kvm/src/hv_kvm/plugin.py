"""Everything that extensions of driver ``kvm`` may use, by one import: ``import hv_kvm.plugin as kvm``."""

from hvcore.plugin import lazy_names as _lazy_names

__getattr__, __dir__ = _lazy_names(__name__, __file__)
