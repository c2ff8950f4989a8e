"""`Maybe`: a variable that is None on some paths and a value on others, where traced control flow decides which.

    found = None                            value, there = 0, False
    for k in range(n):                      for k in range(n):
        if x[k] > 1:                 ->         if x[k] > 1:
            found = k                               value, there = k, True

`found is None` is traced. Any other use is one of the value: where there is none Python would raise TypeError, and so
does a check in the compiled code. Where it is returned, the caller gets None or the value.

Not here: where branches and loops make one (`branches.Merged`, `carry.Carry`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array
from stager.errors import ConcretizationError, ControlFlowError, describe
from stager.runtime.structure import flatten, register_container, unflatten
from stager.staged import decline


class Maybe:
    """`value` (any nesting of arrays) where `there`, a traced bool, and None elsewhere."""

    __slots__ = ("there", "value")
    __array_priority__ = 2000
    __stager_optional__ = True

    def __init__(self, value: Any, there: Any) -> None:
        self.value = value
        self.there = there

    def needed(self) -> Any:
        """The value, which is needed: TypeError when the code runs, where it is None."""
        from stager.capture.branches import as_bool
        from stager.capture.raising import check

        check(as_bool(self.there), TypeError("a value that is None here is used"))
        return self.value

    def __stager_tested__(self) -> Any:
        """What decides where it is a test: None is false."""
        from stager.capture.branches import stage_branches
        from stager.capture.operators import Return, finish

        return finish(stage_branches(self.there, (lambda: Return(False), lambda: Return(_truth(self.value))), (), ()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.needed(), name)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*map(given, inputs), **kwargs)

    def __array_function__(self, f: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return f(*map(given, args), **kwargs)

    def __iter__(self) -> Any:
        return iter(self.needed())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.needed()(*args, **kwargs)

    def __setitem__(self, key: Any, value: Any) -> None:
        mine = self.needed()
        is_array = type(mine) is Array
        if not is_array:
            decline("setting items of a value that is None on some paths")
        mine[key] = value

    __hash__ = None  # type: ignore[assignment]


def given(x: Any) -> Any:
    """What a use of x sees."""
    return x.needed() if type(x) is Maybe else x


def _truth(x: Any) -> Any:
    from stager.capture.branches import as_bool
    from stager.capture.operators import tested

    test = tested(x)
    return as_bool(test) if type(test) is Array else bool(test)


def _delegated(name: str) -> Any:
    def method(self: Maybe, *args: Any) -> Any:
        value = self.needed()
        own = getattr(type(value), name, None)
        return NotImplemented if own is None else own(value, *map(given, args))

    return method


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
_OTHERS = ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert", "getitem", "len", "float", "int", "index",
           "contains", "round", "format", "str")  # fmt: skip
for _name in (*_BINARY, *[f"{kind}{name}" for kind in "ri" for name in _BINARY], *_OTHERS):
    setattr(Maybe, f"__{_name}__", _delegated(f"__{_name}__"))


def decided(x: Maybe) -> Any:
    """None or the value, where the trace knows which; else x."""
    if type(x.there) is not Array:
        return x.value if x.there else None
    try:
        there = bool(x.there)
    except ConcretizationError:
        return x
    return x.value if there else None


def as_maybe(x: Any) -> Maybe:
    """A value that is there."""
    return x if type(x) is Maybe else Maybe(x, True)


def _flatten(x: Maybe) -> tuple[list[Any], Any]:
    return [x.value, x.there], None


def _unflatten(aux: Any, children: Any) -> Any:
    value, there = children
    leaves, structure = flatten(value)
    if not isinstance(there, np.ndarray | np.generic) or any(type(x) is Array for x in leaves):
        return Maybe(value, there)
    if np.all(there):
        return unflatten(structure, leaves)
    if np.any(there):
        text = "a result is None for some lanes of a vmap and a value for others"
        raise ControlFlowError(describe(text, remedy="give it a value that stands for none"))
    return None


register_container(Maybe, _flatten, _unflatten)
