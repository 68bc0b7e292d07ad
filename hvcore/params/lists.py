"""The vocabulary of parameter types, lists: several values of one other type."""

from __future__ import annotations

from hvcore.params.param_type import ParamType, Reject, wrong_type

__all__ = ["list_of"]


def list_of(item: ParamType, *, maximum: int = 64, repeats: bool = False) -> ParamType:
    """A list of at most ``maximum`` values, each as ``item`` has it. The clean value is a tuple, in order.

    They are different ones, but for ``repeats``: the words of a command may be the same.
    """
    expects = f"a list of at most {maximum} {'' if repeats else 'different '}values, each {item.expects}"

    def parse(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            todo = "write it in brackets, [...]" if isinstance(value, str | int) else None
            raise wrong_type(value, "a list", todo)
        if len(value) > maximum:
            raise Reject(f"has more than {maximum} values")
        clean: list[object] = []
        for index, member in enumerate(value):
            try:
                one = item.parse(member)
            except Reject as reject:
                what, todo = f"{reject.what} (value {index + 1} of the list)", reject.todo
            else:
                if repeats or one not in clean:
                    clean.append(one)
                    continue
                what, todo = f"has a value twice (value {index + 1} of the list)", "leave one out"
            raise Reject(what, todo)
        return tuple(clean)

    schema = {"type": "array", "items": item.json_schema(), "maxItems": maximum}
    if not repeats:
        schema["uniqueItems"] = True
    return ParamType(f"list of {item.kind}", expects, parse, schema, item.node_check)
