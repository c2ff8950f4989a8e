"""New ops from outside: declared once, with all that every transform and the code generator need.

`elementwise_op` covers functions of one element; ops of other families are declared with the helpers of
`stager.ops.families` as stager's own are (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.array import Array, wrap
from stager.ir.op import OPS
from stager.ops.families import elementwise
from stager.transforms.calling import plainly


def elementwise_op(
    name: str,
    reference: Callable[..., Any],
    *,
    lower: Callable[..., Any],
    d: Sequence[Callable[..., Any] | None] | None = None,
) -> Callable[..., Any]:
    """A new elementwise op as a function on arrays: promoted and broadcast as NumPy ufuncs are, in every transform.

    name: unique among ops. reference(*arrays): NumPy's answer, the oracle of tests and the constant folder.
    lower(b, *scalars): the scalar code, through the builder (`b.mul`, `b.exp`, `b.select`; `codegen/scalar.py` has the
    list); it is vectorised as it stands. d: per operand `(t, out, *operands) -> t times the partial derivative` on
    traced arrays, or None for zero; both modes and all orders follow. ValueError when the name is taken.

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
    rules = None if d is None else [None if rule is None else _on_arrays(rule) for rule in d]
    op = elementwise(name, reference, lower=lower, d=rules, kinds="f")

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


def _on_arrays(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A derivative written on arrays, as the raw values of rules."""

    def on_raw(t: Any, out: Any, *operands: Any) -> Any:
        from stager.array import raw

        found = rule(wrap(t), wrap(out), *[wrap(x) for x in operands])
        return raw(found)

    return on_raw
