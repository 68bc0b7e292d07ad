"""A decorator for each hook that a type checker understands: ``@hv.impl.check`` is a typed `hvcore.plugin.hookimpl`.

The function may have any name. It takes those of the hook's arguments that it needs, by name, in any order. The type
checker reports an argument that the hook does not have, another type, or another result. For functions; in a class, mark
methods with `hvcore.plugin.hookimpl`. The types are in the stub beside this file, which docs/generate.py writes.

>>> import hvcore.plugin as hv
>>> @hv.impl.check
... def loud_enough(params: hv.Params) -> list[hv.Problem]:
...     return [] if params["volume"] else [hv.Problem(path="params.volume", what="is 0")]
"""

from hvcore.plugins.hookspecs import hookimpl

__all__ = [
    "after_attach",
    "after_change",
    "after_detach",
    "after_pause",
    "after_resume",
    "after_start",
    "after_stop",
    "assess",
    "before_attach",
    "before_change",
    "before_detach",
    "before_pause",
    "before_resume",
    "before_start",
    "before_stop",
    "check",
    "params",
    "resource_kinds",
]

params = hookimpl(specname="params")
resource_kinds = hookimpl(specname="resource_kinds")
check = hookimpl(specname="check")
assess = hookimpl(specname="assess")
before_start = hookimpl(specname="before_start")
after_start = hookimpl(specname="after_start")
before_stop = hookimpl(specname="before_stop")
after_stop = hookimpl(specname="after_stop")
before_pause = hookimpl(specname="before_pause")
after_pause = hookimpl(specname="after_pause")
before_resume = hookimpl(specname="before_resume")
after_resume = hookimpl(specname="after_resume")
before_attach = hookimpl(specname="before_attach")
after_attach = hookimpl(specname="after_attach")
before_detach = hookimpl(specname="before_detach")
after_detach = hookimpl(specname="after_detach")
before_change = hookimpl(specname="before_change")
after_change = hookimpl(specname="after_change")
