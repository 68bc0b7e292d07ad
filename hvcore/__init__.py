"""hvcore: run virtual machines and chroots on this node. This module has all names for host applications.

Authors of drivers and extensions use `hvcore.plugin`, and `hvcore.testing` in their tests. Other modules are private.
"""

from hvcore.lazy_names import lazy_names as _lazy_names

__getattr__, __dir__ = _lazy_names(__name__, __file__)
