"""Typed decorators for the kvm driver's own hooks, as `hvcore.plugin.impl` has them for the core's.

>>> import hv_kvm.plugin as kvm
>>> @kvm.impl.render
... def watchdog(spec: kvm.KvmSpec) -> list[kvm.Opt]:
...     return []
"""

from hvcore.plugin import hookimpl

__all__ = ["devices", "on_ready", "plan", "render", "verify"]

devices = hookimpl(specname="devices")
plan = hookimpl(specname="plan")
verify = hookimpl(specname="verify")
render = hookimpl(specname="render")
on_ready = hookimpl(specname="on_ready")
