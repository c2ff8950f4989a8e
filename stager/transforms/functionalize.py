"""`functionalize`: the same function without mutation (and, on request, without views)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from stager import cells
from stager.array import as_array, raw, wrap
from stager.interpreters.functionalize import FunctionalizeInterpreter
from stager.interpreters.stack import push
from stager.runtime.structure import flatten, unflatten
from stager.transforms.calling import call_on_copies, enter, plainly, write_back

REMOVE = ("mutations", "mutations_and_views")


def functionalize(f: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """f as pure ops: writes become updates of values; arguments that f writes are still written back.

    remove: "mutations" keeps view ops in the graph, "mutations_and_views" turns them into copies. Nests anywhere, in
    itself too. ValueError for another `remove`.

    >>> import numpy as np, stager as st
    >>> def f(x):
    ...     y = x * 2
    ...     y[1:] *= 3
    ...     return y
    >>> st.functionalize(f)(np.ones(3))
    array([2., 6., 6.])
    """
    if remove not in REMOVE:
        raise ValueError(f"functionalize: remove is {' or '.join(map(repr, REMOVE))}, not {remove!r}")

    @functools.wraps(f)
    @plainly
    def pure(*args: Any, **kwargs: Any) -> Any:
        interp = FunctionalizeInterpreter(functionalize_add_back_views=remove == "mutations")
        flat, structure = flatten((args, kwargs))
        import numpy as np

        from stager.array import Array

        outer = [as_array(x) if isinstance(x, Array | np.ndarray) else x for x in flat]
        raws = [x.raw() if isinstance(x, Array) else None for x in outer]
        try:
            with push(interp):
                entered = [enter(interp, x, r) if r is not None else None for x, r in zip(outer, raws, strict=True)]
                a, k = unflatten(structure, [x if e is None else e.inner for x, e in zip(outer, entered, strict=True)])
                results, result_structure = flatten(call_on_copies(f, a, k))
                values = [raw(x) if isinstance(x, Array) else x for x in results]
        except BaseException:
            cells.discard_overlays(interp)
            raise
        cells.commit_overlays(interp)
        write_back([e for e in entered if e is not None], interp.lower_value)
        return unflatten(
            result_structure,
            [wrap(v, x.weak) if isinstance(x, Array) else x for v, x in zip(values, results, strict=True)],
        )

    return pure
