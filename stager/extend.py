"""New ops from outside: declared once, with all that every transform and the code generator need.

`elementwise_op` covers functions of one element; ops of other families are declared with the helpers of
`stager.ops.families` as stager's own are (docs/extending.md).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from hashlib import blake2b
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.ir.dtypes import dtype_of, f32, f64
from stager.ir.op import OPS
from stager.ops.families import elementwise
from stager.transforms.calling import plainly


def elementwise_op(
    name: str,
    reference: Callable[..., Any],
    *,
    lower: Callable[..., Any] | None = None,
    c_function: Any = None,
    d: Sequence[Callable[..., Any] | None] | None = None,
) -> Callable[..., Any]:
    """A new elementwise op as a function on arrays: promoted and broadcast as NumPy ufuncs are, in every transform.

    name: unique among ops. reference(*arrays): NumPy's answer, the oracle of tests and the constant folder.
    Its code is one of two. lower(b, *scalars): the scalar code, through the builder (`b.mul`, `b.exp`, `b.select`;
    `codegen/arithmetic.py`, `conversions.py` and `scalar.py` have the list); it is vectorised as it stands.
    c_function: a C function of doubles that returns a double, as ctypes has it (`ctypes.CDLL("libm.so.6").j0`) or as
    a pair (symbol, address), or a dict of those by dtype; it must be pure, thread-safe, and never call Python.
    d: per operand `(t, out, *operands) -> t times the partial derivative` on traced arrays, or None for zero; both
    modes and all orders follow. ValueError when the name is taken, TypeError for a c_function of no known form.

    >>> import numpy as np, stager as st
    >>> softsign = st.elementwise_op(
    ...     "softsign", lambda x: x / (1 + np.abs(x)),
    ...     lower=lambda b, x: b.div(x, b.add(b.abs(x), b.const(x.dtype, 1.0))),
    ...     d=[lambda t, out, x: t / (1 + np.abs(x)) ** 2],
    ... )
    >>> softsign(np.array([1.0, -3.0]))
    array([ 0.5 , -0.75])
    >>> float(st.grad(softsign)(1.0))
    0.25
    """
    if name in OPS:
        raise ValueError(f"an op called {name!r} exists already")
    if (lower is None) == (c_function is None):
        raise TypeError(f"{name}: an op has one code, lower= or c_function=")
    rules = None if d is None else [None if rule is None else _on_arrays(rule) for rule in d]
    code = _calling(name, c_function) if lower is None else lower
    op = elementwise(name, reference, lower=code, d=rules, kinds="f", version=f" {fingerprint(code)}")

    @plainly
    def function(*operands: Any) -> Any:
        from stager.numpy.promotion import promoted
        from stager.numpy.ufuncs import as_array_like

        if not any(isinstance(x, Array) for x in operands):
            operands = tuple([as_array_like(x) for x in operands])
        return wrap(op(*promoted(name, *operands)))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The op {name}, elementwise."
    return function


# -- C functions ------------------------------------------------------------------------------------------------------

_POINTER: Any = type(ctypes.pythonapi.Py_GetVersion).__mro__[1]  # what all functions of ctypes are
_kept: list[Any] = []  # libraries whose functions compiled code calls


def _calling(name: str, given: Any) -> Callable[..., Any]:
    """The lowering that calls a C function: the one of the operands' dtype, or that of doubles."""
    table = given if isinstance(given, dict) else {np.float64: given}
    symbols = {dtype_of(d): _symbol(name, f) for d, f in table.items()}
    if f64 not in symbols and f32 not in symbols:
        raise TypeError(f"{name}: c_function has no function of float64 or float32")
    wide = f64 if f64 in symbols else f32

    def lower(b: Any, *operands: Any) -> Any:
        own = operands[0].dtype
        called = own if own in symbols else wide
        return b.convert(b.c_call(symbols[called], *[b.convert(x, called) for x in operands]), own)

    return lower


def _symbol(name: str, function: Any) -> str:
    """The symbol of a C function, whose address the loader knows from now on."""
    from stager.runtime.engine import engine

    if isinstance(function, tuple) and len(function) == 2:
        symbol, address = function
    elif isinstance(function, _POINTER):
        symbol, address = getattr(function, "__name__", name), ctypes.cast(function, ctypes.c_void_p).value
    else:
        raise TypeError(f"{name}: a C function is a ctypes function or a pair (symbol, address), not {function!r}")
    if not isinstance(symbol, str) or not symbol.isidentifier() or not symbol.isascii() or not address:
        raise TypeError(f"{name}: {symbol!r} at {address!r} is no C function")
    known = engine().defined(symbol)
    if known not in (None, address):
        raise ValueError(f"{name}: another C function called {symbol!r} is in use already")
    _kept.append(function)
    engine().define({symbol: int(address)})
    return symbol


def fingerprint(function: Callable[..., Any]) -> str:
    """What a function's code is, in itself and in what it calls, as a digest: code in caches belongs to it."""
    digest = blake2b(digest_size=8)
    seen: set[int] = set()

    def add(x: Any) -> None:
        if isinstance(x, FunctionType):
            if id(x) in seen:
                return
            seen.add(id(x))
            add(x.__code__)
            add([c.cell_contents for c in x.__closure__ or () if c.cell_contents is not x])
            add([x.__defaults__, *[x.__globals__[n] for n in x.__code__.co_names if n in x.__globals__]])
        elif isinstance(x, CodeType):
            digest.update(x.co_code)
            add([*x.co_names, *x.co_consts])
        elif isinstance(x, list | tuple | dict):
            for item in x.items() if isinstance(x, dict) else x:
                add(item)
        else:
            named = isinstance(x, ModuleType | type) or callable(x)
            digest.update(getattr(x, "__name__", "?").encode() if named else repr(x).encode())

    add(function)
    return digest.hexdigest()


def _on_arrays(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A derivative written on arrays, as the raw values of rules."""

    def on_raw(t: Any, out: Any, *operands: Any) -> Any:
        from stager.array import raw

        found = rule(wrap(t), wrap(out), *[wrap(x) for x in operands])
        return raw(found)

    return on_raw
