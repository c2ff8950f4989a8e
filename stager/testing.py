"""Checks for functions and their derivatives: against finite differences, loops and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stager.runtime.structure import flatten, unflatten

# (relative, absolute) by dtype of the differentiated input: central differences of step eps**(1/3)
TOLERANCE = {"float64": (1e-5, 1e-6), "float32": (2e-2, 2e-2)}


def _random_like(x: Any, rng: np.random.Generator) -> Any:
    a = np.asarray(x)
    return (
        np.asarray(rng.standard_normal(a.shape), dtype=a.dtype)[()]
        if a.ndim == 0
        else rng.standard_normal(a.shape).astype(a.dtype)
    )


def check_grads(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    order: int = 1,
    modes: tuple[str, ...] = ("fwd", "rev"),
    rtol: float | None = None,
    atol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> None:
    """Check f's derivatives at args against central differences in a random direction, up to `order`.

    args: floating-point arrays in any nesting. modes: "fwd" checks jvp against differences, "rev" checks
    <ct, J t> = <J^T ct, t>. AssertionError says what disagrees.

    >>> import numpy as np, stager as st
    >>> st.testing.check_grads(np.sin, (np.ones(3),), order=2)
    """
    import stager as st

    rng = np.random.default_rng(seed)
    leaves, structure = flatten(tuple(args))
    low = any(np.asarray(x).dtype == np.float32 for x in leaves)
    r, a = TOLERANCE["float32" if low else "float64"]
    rtol, atol = r if rtol is None else rtol, a if atol is None else atol
    step = eps if eps is not None else (1e-2 if low else 6e-6)
    direction = [_random_like(x, rng) for x in leaves]
    tangents = unflatten(structure, direction)

    def moved(h: float) -> list[Any]:
        return flatten(
            f(
                *unflatten(
                    structure, [x + np.asarray(x).dtype.type(h) * t for x, t in zip(leaves, direction, strict=True)]
                )
            )
        )[0]

    numeric = [
        (np.asarray(p, float) - np.asarray(m, float)) / (2 * step)
        for p, m in zip(moved(step), moved(-step), strict=True)
    ]
    out, forward = st.jvp(f, tuple(args), tangents)
    got = flatten(forward)[0]
    if "fwd" in modes:
        for k, (g, n) in enumerate(zip(got, numeric, strict=True)):
            np.testing.assert_allclose(
                g, n, rtol=rtol, atol=atol, err_msg=f"jvp of output {k} against central differences"
            )
    if "rev" in modes:
        _, back = st.vjp(f, *args)
        cts = [_random_like(o, rng) for o in flatten(out)[0]]
        pulled = flatten(back(unflatten(flatten(out)[1], cts)))[0]
        left = sum(float(np.vdot(c, n)) for c, n in zip(cts, numeric, strict=True))
        right = sum(float(np.vdot(p, t)) for p, t in zip(pulled, direction, strict=True))
        np.testing.assert_allclose(
            right,
            left,
            rtol=rtol,
            atol=atol * max(1, sum(np.size(c) for c in cts)),
            err_msg="vjp against central differences",
        )
    if order > 1:

        def along(*args: Any) -> Any:
            return st.jvp(f, args, tangents)[1]

        check_grads(along, args, order - 1, modes, rtol, atol, eps, seed + 1)


def check_vmap(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    in_dims: Any = 0,
    out_dims: Any = 0,
    rtol: float = 1e-10,
    atol: float = 1e-12,
) -> None:
    """Check that `vmap(f)` is a loop over lanes of f.

    >>> import numpy as np, stager as st
    >>> st.testing.check_vmap(lambda x, y: x @ y, (np.ones((4, 3)), np.ones(3)), in_dims=(0, None))
    """
    import stager as st
    from stager.runtime.structure import broadcast_prefix

    leaves, structure = flatten(tuple(args))
    spec = in_dims if isinstance(in_dims, tuple | list) else (in_dims,) * len(args)
    dims = broadcast_prefix(tuple(spec), structure, name="in_dims")
    size = next(np.shape(x)[d] for x, d in zip(leaves, dims, strict=True) if d is not None)
    lanes = []
    for i in range(size):
        lane = [x if d is None else np.take(x, i, axis=d) for x, d in zip(leaves, dims, strict=True)]
        lanes.append(flatten(f(*unflatten(structure, lane))))
    got, _ = flatten(st.vmap(f, in_dims, out_dims)(*args))
    to = broadcast_prefix(out_dims, lanes[0][1], name="out_dims")
    for k, (g, d) in enumerate(zip(got, to, strict=True)):
        want = lanes[0][0][k] if d is None else np.stack([lane[0][k] for lane in lanes], axis=d)
        np.testing.assert_allclose(g, want, rtol=rtol, atol=atol, err_msg=f"output {k} of vmap against a loop")


def check_against_numpy(f: Callable[..., Any], *args: Any, rtol: float = 1e-12, atol: float = 1e-12) -> None:
    """Check that compiled f gives NumPy's values, dtypes, shapes, writes into arguments and aliasing, twice.

    >>> import numpy as np, stager as st
    >>> st.testing.check_against_numpy(lambda x: np.sqrt(x) + 1, np.ones(3))
    """
    import copy

    import stager as st

    compiled = st.compile(f)
    for _ in range(2):
        ours, theirs = copy.deepcopy(args), copy.deepcopy(args)
        got, got_structure = flatten(compiled(*ours))
        want, want_structure = flatten(f(*theirs))
        assert got_structure == want_structure, f"the result has structure {got_structure}, NumPy's {want_structure}"
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            if isinstance(w, np.ndarray | np.generic):
                assert np.shape(g) == np.shape(w), f"output {k} has shape {np.shape(g)}, NumPy's {np.shape(w)}"
                assert np.asarray(g).dtype == w.dtype, f"output {k} has dtype {np.asarray(g).dtype}, NumPy's {w.dtype}"
            np.testing.assert_allclose(g, w, rtol=rtol, atol=atol, err_msg=f"output {k} against NumPy")
        given, expected = flatten(ours)[0], flatten(theirs)[0]
        for k, (g, w) in enumerate(zip(given, expected, strict=True)):
            np.testing.assert_allclose(g, w, rtol=rtol, atol=atol, err_msg=f"argument {k} after the call")
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            for j, (a, b) in enumerate(zip(given, expected, strict=True)):
                if isinstance(a, np.ndarray) and isinstance(g, np.ndarray):
                    assert np.shares_memory(g, a) == np.shares_memory(w, b), (
                        f"output {k} and argument {j} share memory in one and not the other"
                    )
