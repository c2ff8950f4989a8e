"""Symbolic sizes: what is recognised in an expression."""

from __future__ import annotations

from stager.ir.dims import dim_max, dim_min, slice_bound, slice_end, symbol


def test_bounds_of_slices_are_recognised() -> None:
    s, n = symbol("s"), symbol("n")
    for bound, size in ((s, n), (s + 3, 10), (2 * s - n, n + 1), (s, 7)):
        d = slice_end(bound, size)
        ((((atom, _),), _),) = d.terms  # type: ignore[union-attr]
        assert slice_bound(atom) == (bound, size)  # type: ignore[arg-type]
    for other in (dim_max(s, 0), dim_max(0, dim_min(s, n)), dim_max(1, dim_min(s - n * dim_min(0, dim_max(-1, s)), n))):
        ((((atom, _),), _),) = other.terms  # type: ignore[union-attr]
        assert slice_bound(atom) is None  # type: ignore[arg-type]
